"""The sampler: pure functions and small states over tensors, no networks, no files."""
