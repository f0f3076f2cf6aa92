"""Functions that a model may call: how it is told of them, how it writes calls, how they are read and made sure of."""
