"""A drafter for a target, trained from the target's own GGUF file (docs/train.md).

What needs torch is imported by `train` alone, and only when it runs.
"""
