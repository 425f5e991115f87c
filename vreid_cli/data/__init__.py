"""Data sets: the table of layouts, a reader for each, and the decoding of images."""
