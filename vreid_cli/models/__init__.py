"""Neural networks: the five CNNs, their input, their weights and the checkpoint format."""
