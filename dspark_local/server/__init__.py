"""A server in the protocols of OpenAI and Anthropic over one Runtime: the `server` extra."""
