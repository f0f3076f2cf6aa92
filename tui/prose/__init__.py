"""Texts as lines of a terminal, drawn block by block: of one that grows, only the last block is drawn again."""
