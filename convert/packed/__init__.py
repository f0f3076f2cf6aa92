"""Checkpoints whose weights are 4-bit codes already: the same codes in GGUF blocks, nothing quantised a second time."""
