"""The shipped target as a checkpoint again: `python unpack.py [FILE] [--out build]`, for `train_target.py --resume 3`.

Weights are what the 4-bit file says, in float32. Trained on from there with `--quantised 0` they leave the sixteen
levels of a block, and become a target of full precision that shares the demo's vocabulary.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from export import write_target
from model import Target
from tokenizer import SPECIALS, VOCAB_SIZE, byte_level, with_specials, write_tokenizer
from tokenizers import models

from dspark_local.convert.families.qwen import QWEN3
from dspark_local.formats.gguf import GGUF
from dspark_local.models.locations import find

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="of the demo's architecture; the shipped one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    options = parser.parse_args()
    gguf = GGUF.open(options.file or find("demo", "none", lambda _stage, _share: None).target)
    folder: Path = options.out / "target"
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(tokenizer(gguf), folder)
    write_target(target(gguf), folder, folder)


def tokenizer(gguf: GGUF) -> Tokenizer:
    """Of the vocabulary and merges in the file."""
    tokens, merges = gguf.meta("tokenizer.ggml.tokens"), gguf.meta("tokenizer.ggml.merges")
    assert isinstance(tokens, tuple)
    assert isinstance(merges, tuple)
    vocab = {str(token): i for i, token in enumerate(tokens[: VOCAB_SIZE - len(SPECIALS)])}
    pairs = [tuple(str(merge).split(" ")) for merge in merges]
    return with_specials(byte_level(models.BPE(vocab, pairs)))


def target(gguf: GGUF) -> Target:
    """Its weights, dequantised."""
    made = Target()
    layers = range(made.shape.num_hidden_layers)
    names = {f"model.layers.{i}.{row.theirs}": f"blk.{i}.{row.ours}" for i in layers for row in QWEN3.layer}
    names |= {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    wanted = made.state_dict()
    weights = {name: torch.from_numpy(gguf.rows(ours, slice(None))) for name, ours in names.items()}
    made.load_state_dict({name: rows.reshape(wanted[name].shape) for name, rows in weights.items()})
    return made


if __name__ == "__main__":
    main()
