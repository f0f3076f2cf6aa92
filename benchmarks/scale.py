"""The demo pair at the cost of a larger one: its weights embedded in a larger shape by zero padding.

Width D becomes D': vectors end in zeros, so a mean of squares shrinks by D'/D; norm weights are divided by √(D'/D) and
epsilon by D'/D, and every norm gives what it gave. New heads, FFN rows, layers, taps and Markov ranks are zero. Rows are
moved as they are stored, block by block, so nothing is quantised twice and all types are kept.

New tokens must cost a row of every head and never be drawn, not at T = 1 either, where 147,840 copies of an unlikely
row would add up. So a padded dimension says which tokens are new: every embedding holds TELL there, which no layer reads
and no norm feels, and the last norm raises it for the rows of new tokens to take off.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from dspark_local.errors import UsageError
from dspark_local.formats.dflash import ARCH as DRAFT
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.hyper import Hyper, read_hyper
from dspark_local.formats.model import ARCHES, TensorRule
from dspark_local.models.locations import Pair, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BUILD = Path(__file__).parent / "build"
TELL = 2.0**-16  # its square is beneath what a float32 mean of squares resolves
GAIN = 2.0**22  # new tokens' logits: -64 · 64 / rms(final state), below any real one's for rms < 100
NEW = -64.0
UNUSED = 5  # llama.cpp's token type

Segments = tuple[tuple[int, int], ...]  # (values that are there, values that there shall be), side by side
Bytes = npt.NDArray[np.uint8]


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
class Plan:
    """One file's dimensions by the names that formats.model gives them, its layers and its changed keys."""

    dims: Mapping[str, Segments]
    n_layer: int
    keys: Mapping[str, object]


def scaled_pair(size: Size, *, model: str | Path = "demo", drafter: str | Path = "auto", folder: Path = BUILD) -> Pair:
    """Scale a pair to `size`, below `folder`, unless it is there and newer than its source.

    Raises ModelNotFoundError, ModelFormatError, UsageError for a pair that does not fit into `size`.
    """
    pair = find(model, drafter)
    if pair.drafter is None:
        raise UsageError(f"{pair.name} has no drafter to scale with it; give one with --drafter")
    slug = size.name.lower()
    scaled = Pair(f"{pair.name} as {size.name}", folder / f"{slug}.gguf", folder / f"dspark-{slug}-draft.gguf")
    folder.mkdir(parents=True, exist_ok=True)
    target, draft = GGUF.open(pair.target), GGUF.open(pair.drafter)
    for source, made, plan in (
        (target, scaled.target, lambda: plan_target(target, size)),
        (draft, scaled.drafter, lambda: plan_draft(draft, target, size)),
    ):
        assert made is not None
        if not _fresh(made, source.path):
            print(f"scaling {source.path.name} to {size.name}", file=sys.stderr)
            write(source.path, plan(), made, name=f"{source.path.stem}, cost-scaled to {size.name}")
    return scaled


def plan_target(target: GGUF, size: Size) -> Plan:
    """Dimensions of the target."""
    hyper = read_hyper(target)
    return Plan(_dims(hyper, size), size.n_layer, _keys(target, hyper, size, size.n_layer))


def plan_draft(draft: GGUF, target: GGUF, size: Size) -> Plan:
    """Dimensions of the drafter. New taps lie in the target's new layers, and `fc` has zeros for them."""
    hyper, spec = read_hyper(draft), read_draft_spec(draft)
    new = size.taps - len(spec.target_layers)
    if new < 0 or spec.has_d2t:
        raise UsageError(f"{draft.path.name}: more than {size.taps} taps, or a vocabulary of its own; not scaled here")
    first = read_hyper(target).n_layer
    layers = [*spec.target_layers, *(first + (size.n_layer - first) * (i + 1) // (new + 1) for i in range(new))]
    dims = _dims(hyper, size)
    rank: Segments = ((spec.markov_rank, size.rank),)
    taps = dims["embd"] * len(spec.target_layers) + ((0, size.n_embd),) * new
    keys = _keys(draft, hyper, size, size.draft_layers) | {f"{DRAFT}.target_layers": layers}
    more = {"rank": rank, "embd+rank": dims["embd"] + rank, "taps": taps, "draft_vocab": dims["vocab"]}
    return Plan(dims | more, size.draft_layers, keys)


def _dims(hyper: Hyper, size: Size) -> dict[str, Segments]:
    if hyper.n_head * size.n_head_kv != hyper.n_head_kv * size.n_head or hyper.n_embd >= size.n_embd:
        raise UsageError(f"only a narrower model with {size.n_head // size.n_head_kv} heads to a key-value head scales")
    return {
        "one": ((1, 1),),
        "head": ((hyper.head_dim, hyper.head_dim),),
        "embd": ((hyper.n_embd, size.n_embd),),
        "ff": ((hyper.n_ff, size.n_ff),),
        "q": ((hyper.n_head * hyper.head_dim, size.n_head * hyper.head_dim),),
        "kv": ((hyper.n_head_kv * hyper.head_dim, size.n_head_kv * hyper.head_dim),),
        "vocab": ((hyper.n_vocab, size.n_vocab),),
    }


def _keys(source: GGUF, hyper: Hyper, size: Size, n_layer: int) -> dict[str, object]:
    new = range(hyper.n_vocab, size.n_vocab)
    epsilon = source.meta(f"{source.arch}.attention.layer_norm_rms_epsilon")
    assert isinstance(epsilon, float)
    # The norms of single heads keep their size and see the smaller epsilon: 1e-5 of a query's mean square, or less.
    return {
        f"{source.arch}.{key}": value
        for key, value in {
            "block_count": n_layer,
            "embedding_length": size.n_embd,
            "feed_forward_length": size.n_ff,
            "attention.head_count": size.n_head,
            "attention.head_count_kv": size.n_head_kv,
            "attention.key_length": hyper.head_dim,
            "attention.value_length": hyper.head_dim,
            "attention.layer_norm_rms_epsilon": epsilon * hyper.n_embd / size.n_embd,
            "vocab_size": size.n_vocab,
        }.items()
    } | {
        "tokenizer.ggml.tokens": [f"<|pad_{i}|>" for i in new],
        "tokenizer.ggml.token_type": [UNUSED] * len(new),
        "tokenizer.ggml.scores": [0.0] * len(new),
    }


def write(source: Path, plan: Plan, path: Path, *, name: str) -> None:
    """Write `source` as planned, tensor by tensor. Raises UsageError for a tensor that cannot be padded."""
    reader = GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    arch = GGUF.open(source).arch
    jobs = list(_jobs(tensors, ARCHES[arch].tensors, plan))
    beside = path.with_suffix(".new")
    writer = GGUFWriter(beside, arch)
    _copy_keys(reader, writer, plan.keys, name)
    for new_name, kind, shape, _ in jobs:
        writer.add_tensor_info(new_name, shape, np.dtype(np.uint8), int(np.prod(shape)), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, _, _, make in jobs:
        writer.write_tensor_data(make())
    writer.close()
    beside.replace(path)


def _copy_keys(reader: GGUFReader, writer: GGUFWriter, keys: Mapping[str, object], name: str) -> None:
    changed = dict(keys) | {"general.name": name}
    for key, field in reader.fields.items():
        if key == "general.architecture" or key.startswith("GGUF."):  # the writer's own
            continue
        value: Any = field.contents()
        kind, new = field.types[0], changed.pop(key, None)
        if key.startswith("tokenizer.ggml.") and isinstance(new, list):
            new = value + new
        sub = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value if new is None else new, kind, sub)
    for key, new in changed.items():
        if key.endswith(("head_count_kv", "key_length", "value_length")):  # what llama.cpp would otherwise derive
            writer.add_uint32(key, new)


def _jobs(
    tensors: Mapping[str, Any], rules: tuple[TensorRule, ...], plan: Plan
) -> Iterator[tuple[str, GGMLQuantizationType, tuple[int, ...], Callable[[], Bytes]]]:
    """Name, type, shape in bytes and maker of every tensor to write."""
    left = set(tensors)
    for rule in rules:
        example = tensors.get(rule.name.replace("{}", "0"))  # new layers have the types of the first
        for layer in range(plan.n_layer if "{}" in rule.name else 1):
            name = rule.name.replace("{}", str(layer))
            if example is None:
                continue
            left.discard(name)
            found = tensors.get(name)
            kind = (found or example).tensor_type
            # ggml names the row's length first, numpy the rows
            columns, *rows = (plan.dims[dim] for dim in rule.shape)
            shape = tuple(sum(want for _, want in s) for s in rows)
            width = _bytes(sum(want for _, want in columns), kind, name)
            yield name, kind, (*shape, width), lambda f=found, r=rule, k=kind, s=(*shape, width): _make(f, r, k, s, plan)
    if left:
        raise UsageError(f"nobody knows how to scale tensor {min(left)!r}")


def _make(found: Any, rule: TensorRule, kind: GGMLQuantizationType, shape: tuple[int, ...], plan: Plan) -> Bytes:  # noqa: ANN401 - gguf has no types
    made = np.zeros((shape[0] if len(shape) > 1 else 1, shape[-1]), np.uint8)
    if found is not None:
        columns, rows = plan.dims[rule.shape[0]], int(np.prod(found.shape[1:]))
        values = found.data
        ((have, want),) = plan.dims["embd"]
        if rule.use == "vector" and rule.shape == ("embd",):
            values = values / np.float32(np.sqrt(want / have))
        _place(values.view(np.uint8).reshape(rows, -1), made, columns, kind, rule.name)
        if rule.name == "output_norm.weight":
            made.view(np.float32)[0, have] = GAIN
        if rule.name in {"token_embd.weight", "output.weight"}:
            _mark(made, rows, _bytes(have, kind, rule.name), kind)
    return made.reshape(shape)


def _place(source: Bytes, made: Bytes, columns: Segments, kind: GGMLQuantizationType, name: str) -> None:
    start = at = 0
    for have, want in columns:
        n = _bytes(have, kind, name)
        made[: len(source), at : at + n] = source[:, start : start + n]
        start, at = start + n, at + _bytes(want, kind, name)


def _mark(made: Bytes, n_old: int, at: int, kind: GGMLQuantizationType) -> None:
    """Tell old rows from new ones in the first padded dimension."""
    block = GGML_QUANT_SIZES[kind][0]
    for rows, mark in ((made[:n_old], TELL), (made[n_old:], NEW)):
        values = np.zeros((1, block), np.float32)
        values[0, 0] = mark
        try:
            encoded = np.ascontiguousarray(quantize(values, kind)).view(np.uint8)
        except NotImplementedError:
            raise UsageError(f"an embedding of type {kind.name} cannot be scaled; use Q8_0, Q4_0, F16 or F32") from None
        rows[:, at : at + encoded.size] = encoded


def _bytes(n: int, kind: GGMLQuantizationType, name: str) -> int:
    block, size = GGML_QUANT_SIZES[kind]
    if n % block:
        raise UsageError(f"tensor {name!r} is of type {kind.name}, whose blocks of {block} do not divide {n}")
    return n // block * size


def _fresh(made: Path, source: Path) -> bool:
    newest = max(source.stat().st_mtime, Path(__file__).stat().st_mtime)
    return made.is_file() and made.stat().st_mtime > newest


def main() -> None:
    """Scale the demo pair, or another, from the command line."""
    parser = argparse.ArgumentParser(description="Embed a pair in a larger shape by zero padding.")
    parser.add_argument("--shape", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--model", default="demo", help="registry name or GGUF path of the target")
    parser.add_argument("--drafter", default="auto", help="GGUF path of the drafter")
    options = parser.parse_args()
    for shape in options.shape or SIZES:
        made = scaled_pair(SIZES[shape], model=options.model, drafter=options.drafter)
        print(made.target, made.drafter, sep="\n")


if __name__ == "__main__":
    main()
