"""Weights: original checkpoint names to our modules, LoRA merging, prepared folders and loading."""
