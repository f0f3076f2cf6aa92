"""Plain against speculative decoding, measured and replayed."""
