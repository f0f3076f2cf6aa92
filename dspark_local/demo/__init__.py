"""The embedded demo pair: data, no code (recipes/demo made it)."""
