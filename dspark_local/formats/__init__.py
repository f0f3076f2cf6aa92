"""Model files: read strictly, before llama.cpp does, because what it dislikes it aborts on."""
