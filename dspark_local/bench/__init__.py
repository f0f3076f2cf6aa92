"""Measuring a pair on this machine."""
