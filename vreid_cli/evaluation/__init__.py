"""Rankings against ground truth: average precision, CMC, mINP."""
