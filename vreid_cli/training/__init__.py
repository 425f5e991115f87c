"""Training of a network on labelled vehicles."""
