"""One file a command: the only place that wires stages together."""
