"""Data sets: readers of each layout, decoding of pictures, and the drawn set."""
