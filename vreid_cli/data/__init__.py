"""Data sets: readers of each layout, decoding of images, and the drawn set."""
