"""Logits → distribution → token; pure."""
