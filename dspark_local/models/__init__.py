"""From a name to files that fit this machine."""
