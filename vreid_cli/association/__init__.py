"""Tracks to vehicles across all cameras: which tracks can be one, how far apart they are, and who belongs together."""
