"""Images to features: plan, compute a chunk, commit a part."""
