"""What is kept on disk: features, rankings, runs; written whole or not at all."""
