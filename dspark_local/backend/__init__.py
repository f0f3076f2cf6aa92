"""The only rooms that know llama.cpp, and a scripted stand-in for it."""
