"""Tokenizers of checkpoints as llama.cpp reads them: byte-level BPE, and SentencePiece in either of its two files."""
