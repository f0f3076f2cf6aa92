"""The demo pair at the cost of a larger one: its weights embedded in a larger shape, where they compute the same.

Width D becomes D': vectors end in zeros, so a mean of squares shrinks by D'/D; norm weights are divided by √(D'/D) and
epsilon by D'/D, and every norm gives what it gave. New heads, FFN rows, layers, taps and Markov ranks are zero. Kernels
take as long for zeros as for anything else. What it says about speed is to be quoted as "cost-scaled to <shape>".
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf import GGMLQuantizationType
from padding import HEADS, Plan, Segments, write_padded
from requantise import requantise

from dspark_local.backend.quantise import RECIPES
from dspark_local.convert import trim_draft
from dspark_local.errors import DSparkError, UsageError
from dspark_local.formats.dflash import ARCH as DRAFT
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.hyper import Hyper, read_hyper
from dspark_local.formats.model import ARCHES
from dspark_local.models.locations import Pair, find

BUILD = Path(__file__).parent / "build"
UNUSED = 5  # llama.cpp's token type


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The shape to scale to; `draft_layers`, `taps` and `rank` are the drafter's, the rest both models'."""

    name: str
    n_embd: int
    n_ff: int
    n_layer: int = 28
    n_head: int = 16
    n_head_kv: int = 8
    n_vocab: int = 151_936
    draft_layers: int = 5
    taps: int = 5
    rank: int = 256


SIZES = {
    "0.6b": Size(name="Qwen3-0.6B", n_embd=1024, n_ff=3072),
    "1.7b": Size(name="Qwen3-1.7B", n_embd=2048, n_ff=6144),
}


@dataclass(frozen=True, slots=True)
class Types:
    """Types to store in: of the target's embedding and head, and of all the drafter's matrices. None keeps them."""

    embedding: GGMLQuantizationType | None = None
    drafter: GGMLQuantizationType | None = None

    @property
    def shown(self) -> str:
        """What is changed, for a name."""
        changed = (("embedding", self.embedding), ("drafter", self.drafter))
        return "".join(f", {what} in {kind.name}" for what, kind in changed if kind is not None)


KEPT = Types()


def scaled_pair(
    size: Size, *, model: str | Path = "demo", drafter: str | Path = "auto", types: Types = KEPT, folder: Path = BUILD
) -> Pair:
    """Scale a pair to `size`, below `folder`, unless it is there and newer than its source.

    Raises ModelNotFoundError, ModelFormatError, UsageError for a pair that does not fit into `size`.
    """
    pair = find(model, drafter)
    if pair.drafter is None:
        raise UsageError(f"{pair.name} has no drafter to scale with it; give one with --drafter")
    folder.mkdir(parents=True, exist_ok=True)
    target, draft = GGUF.open(pair.target), GGUF.open(pair.drafter)
    jobs = (
        (target, types.embedding, plan_target(target, size, types.embedding)),
        (draft, types.drafter, plan_draft(draft, target, size, types.drafter)),
    )
    made = []
    for source, kind, plan in jobs:
        path = folder / f"{source.path.stem}-{size.name.lower()}{f'-{kind.name.lower()}' if kind else ''}.gguf"
        if not _fresh(path, source.path):
            print(f"scaling {source.path.name} to {size.name}", file=sys.stderr)
            write_padded(source.path, path, plan)
        made.append(path)
    return Pair(f"{pair.name}, cost-scaled to {size.name}{types.shown}", *made)


def plan_target(target: GGUF, size: Size, embedding: GGMLQuantizationType | None = None) -> Plan:
    """Dimensions of the target. New layers come after the old ones, whose inputs the drafter taps."""
    hyper = read_hyper(target)
    kinds = dict.fromkeys(HEADS, embedding) if embedding else {}
    return Plan(_dims(hyper, size), size.n_layer, _keys(target, hyper, size, size.n_layer), kinds)


def plan_draft(draft: GGUF, target: GGUF, size: Size, kind: GGMLQuantizationType | None = None) -> Plan:
    """Dimensions of the drafter. New taps lie in the target's new layers, and `fc` has zeros for them."""
    hyper, spec, first = read_hyper(draft), read_draft_spec(draft), read_hyper(target).n_layer
    n_new = size.taps - len(spec.target_layers)
    if n_new < 0 or spec.has_d2t:
        raise UsageError(f"{draft.path.name} has more than {size.taps} taps or its own vocabulary: not scaled here")
    dims = _dims(hyper, size)
    rank: Segments = ((spec.markov_rank, size.rank),)
    dims |= {
        "draft_vocab": dims["vocab"],
        "rank": rank,
        "embd+rank": dims["embd"] + rank,
        "taps": dims["embd"] * len(spec.target_layers) + ((0, size.n_embd),) * n_new,
    }
    spread = [first + (size.n_layer - first) * (i + 1) // (n_new + 1) for i in range(n_new)]
    keys = _keys(draft, hyper, size, size.draft_layers) | {f"{DRAFT}.target_layers": spread}
    # the confidence head is one row: never quantised
    names = [rule.name for rule in ARCHES[DRAFT].tensors if rule.use == "matrix" and rule.name != "conf_proj.weight"]
    return Plan(dims, size.draft_layers, keys, dict.fromkeys(names, kind) if kind else {})


def _dims(hyper: Hyper, size: Size) -> dict[str, Segments]:
    n_group = size.n_head // size.n_head_kv
    if hyper.n_head != hyper.n_head_kv * n_group or hyper.n_embd >= size.n_embd:
        raise UsageError(f"only a narrower pair with {n_group} heads to each key-value head scales to {size.name}")
    dims = {
        "one": (1, 1),
        "head": (hyper.head_dim, hyper.head_dim),
        "embd": (hyper.n_embd, size.n_embd),
        "ff": (hyper.n_ff, size.n_ff),
        "q": (hyper.n_head * hyper.head_dim, size.n_head * hyper.head_dim),
        "kv": (hyper.n_head_kv * hyper.head_dim, size.n_head_kv * hyper.head_dim),
        "vocab": (hyper.n_vocab, size.n_vocab),
    }
    return {name: (segment,) for name, segment in dims.items()}


def _keys(source: GGUF, hyper: Hyper, size: Size, n_layer: int) -> dict[str, object]:
    epsilon = source.meta(f"{source.arch}.attention.layer_norm_rms_epsilon")
    assert isinstance(epsilon, float)
    own = {
        "block_count": n_layer,
        "embedding_length": size.n_embd,
        "feed_forward_length": size.n_ff,
        "attention.head_count": size.n_head,
        "attention.head_count_kv": size.n_head_kv,
        "attention.key_length": hyper.head_dim,
        "attention.value_length": hyper.head_dim,
        # The norms of single heads see it too, and do not grow: 1e-5 of a query's mean square, or less.
        "attention.layer_norm_rms_epsilon": epsilon * hyper.n_embd / size.n_embd,
    }
    new = range(hyper.n_vocab, size.n_vocab)
    return {f"{source.arch}.{key}": value for key, value in own.items()} | {
        "general.name": f"{source.path.stem}, cost-scaled to {size.name}",
        "tokenizer.ggml.tokens": [f"<|pad_{i}|>" for i in new],
        "tokenizer.ggml.token_type": [UNUSED] * len(new),
        "tokenizer.ggml.scores": [0.0] * len(new),
    }


def _fresh(made: Path, source: Path) -> bool:
    inputs = (source, Path(__file__), Path(__file__).with_name("padding.py"))
    return made.is_file() and made.stat().st_mtime > max(path.stat().st_mtime for path in inputs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to scale, for every script that measures a scaled pair."""
    kinds = ("q4_0", "q8_0", "f16")
    parser.add_argument("--model", default="demo", help="registry name or GGUF path of the target to scale")
    parser.add_argument("--drafter", default="auto", help="GGUF path of the drafter to scale")
    parser.add_argument("--embedding-type", choices=kinds, help="store the target's embedding and head so")
    parser.add_argument("--draft-type", choices=kinds, help="store the drafter so")
    parser.add_argument("--target-type", choices=RECIPES, help="quantise the scaled target anew to this")
    parser.add_argument("--draft-tokens", type=int, metavar="N", help="leave the scaled drafter N tokens to draft")


def chosen(options: argparse.Namespace, size: Size) -> Pair:
    """The scaled pair that the options name. Raises as `scaled_pair` does."""
    names = (options.embedding_type, options.draft_type)
    types = Types(*(GGMLQuantizationType[name.upper()] if name else None for name in names))
    pair = scaled_pair(size, model=options.model, drafter=options.drafter, types=types)
    if options.target_type:
        pair = requantised(pair, options.target_type)
    return trimmed(pair, options.draft_tokens) if options.draft_tokens else pair


def requantised(pair: Pair, recipe: str) -> Pair:
    """The pair with its target in another type."""
    path = pair.target.with_name(f"{pair.target.stem}-{recipe.lower()}.gguf")
    if not _fresh(path, pair.target):
        requantise(pair.target, path, recipe)
    return Pair(f"{pair.name}, target in {recipe}", path, pair.drafter)


def trimmed(pair: Pair, tokens: int) -> Pair:
    """The pair with a drafter of so many tokens, those of the demo pair first."""
    assert pair.drafter
    path = pair.drafter.with_name(f"{pair.drafter.stem}-v{tokens}.gguf")
    if not _fresh(path, pair.drafter):
        trim_draft(pair.drafter, pair.target, path, tokens=tokens)
    return Pair(f"{pair.name}, drafting from {tokens:,} tokens", pair.target, path)


def main() -> None:
    """Scale the demo pair, or another, from the command line."""
    parser = argparse.ArgumentParser(description="Embed a pair in a larger shape by zero padding.")
    parser.add_argument("--shape", choices=SIZES, action="append", help="default: all")
    add_options(parser)
    options = parser.parse_args()
    try:
        for shape in options.shape or SIZES:
            made = chosen(options, SIZES[shape])
            print(made.target, made.drafter, sep="\n")
    except DSparkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
