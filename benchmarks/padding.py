"""A GGUF file written again in a larger shape, zeros around what it holds, byte for byte.

Rows are moved as they are stored, block by block, so nothing is quantised twice unless another type is asked for.

New tokens must cost a row of every head and never be drawn, not at T = 1 either, where 147,840 copies of an unlikely
row would add up. So a padded dimension says which tokens are new: every embedding holds TELL there, which no layer
reads and no norm feels, and the last norm raises it for the rows of new tokens to take off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize

from dspark_local.errors import UsageError
from dspark_local.formats.model import ARCHES, TensorRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TELL = 2.0**-16  # its square is beneath what a float32 mean of squares resolves
GAIN = 2.0**22  # the logit of a new token is NEW · TELL · GAIN / rms(final state), far below any real one's
NEW = -64.0
HEADS = {"token_embd.weight", "output.weight"}

Segments = tuple[tuple[int, int], ...]  # (values that are there, values that there shall be), side by side
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Plan:
    """One file's dimensions by the names that formats.model gives them, its layers, and the keys that change.

    `kinds` holds new types by the name of a tensor rule; all others stay.
    """

    dims: Mapping[str, Segments]
    n_layer: int
    keys: Mapping[str, Any]
    kinds: Mapping[str, GGMLQuantizationType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor to be written; `source` is the reader's, or None for one that is all zeros."""

    name: str
    kind: GGMLQuantizationType
    columns: Segments
    n_rows: int | None  # None for a vector
    source: Any
    rule: TensorRule

    @property
    def shape(self) -> tuple[int, ...]:
        """In bytes, rows first."""
        width = self.n_bytes(sum(want for _, want in self.columns))
        return (width,) if self.n_rows is None else (self.n_rows, width)

    def n_bytes(self, n: int) -> int:
        """Bytes of n values. Raises UsageError where n is no whole number of blocks."""
        block, size = GGML_QUANT_SIZES[self.kind]
        if n % block:
            what = f"tensor {self.name!r} is of type {self.kind.name}, whose blocks of {block} do not divide {n}"
            raise UsageError(f"{what}; convert the pair to Q8_0 or F16")
        return n // block * size

    def data(self) -> Bytes:
        """What is to be written, of `shape`."""
        made = np.zeros((self.n_rows or 1, self.shape[-1]), np.uint8)
        if self.source is None:
            return made.reshape(self.shape)
        (have, want), *_ = self.columns
        values = self.source.data
        if self.kind != self.source.tensor_type:
            values = quantize(dequantize(values, self.source.tensor_type), self.kind)
        if self.rule.use == "vector" and self.rule.shape == ("embd",):  # a norm over the width
            values = values / np.float32(np.sqrt(want / have))
        rows = values.reshape(-1, values.shape[-1]).view(np.uint8)
        start = at = 0
        for old, new in self.columns:
            n = self.n_bytes(old)
            made[: len(rows), at : at + n] = rows[:, start : start + n]
            start, at = start + n, at + self.n_bytes(new)
        if self.name == "output_norm.weight":
            made.view(np.float32)[0, have] = GAIN
        elif self.name in HEADS:
            at = self.n_bytes(have)
            made[: len(rows), at : at + self.n_bytes(self.block)] = self.marked(TELL)
            made[len(rows) :, at : at + self.n_bytes(self.block)] = self.marked(NEW)
        return made.reshape(self.shape)

    @property
    def block(self) -> int:
        """Values in a block."""
        return int(GGML_QUANT_SIZES[self.kind][0])

    def marked(self, mark: float) -> Bytes:
        """One block that begins with `mark` and is zero behind it. Raises UsageError for K-quants."""
        values = np.zeros((1, self.block), np.float32)
        values[0, 0] = mark
        try:
            encoded = quantize(values, self.kind)
        except NotImplementedError:
            what = f"an embedding of type {self.kind.name} cannot be scaled"
            raise UsageError(f"{what}; convert the pair to Q8_0, Q4_0 or F16") from None
        row: Bytes = np.ascontiguousarray(encoded).view(np.uint8)[0]
        return row


def write_padded(source: Path, path: Path, plan: Plan) -> None:
    """Write `source` as planned, tensor by tensor.

    Raises UsageError for a tensor that cannot be padded.
    """
    reader = GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    tensors = list(_tensors(reader, plan, ARCHES[arch].tensors))
    beside = path.with_suffix(".new")
    writer = GGUFWriter(beside, arch)
    _copy_keys(reader, writer, dict(plan.keys))
    for tensor in tensors:
        shape = tensor.shape
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data())
    writer.close()
    beside.replace(path)


def _tensors(reader: GGUFReader, plan: Plan, rules: tuple[TensorRule, ...]) -> Iterator[Tensor]:
    sources = {tensor.name: tensor for tensor in reader.tensors}
    left = set(sources)
    for rule in rules:
        example = sources.get(rule.name.replace("{}", "0"))  # new layers have the types of the first
        if example is None or not plan.dims.keys() >= set(rule.shape):
            continue
        for layer in range(plan.n_layer if "{}" in rule.name else 1):
            name = rule.name.replace("{}", str(layer))
            source = sources.get(name)
            left.discard(name)
            columns, *rows = (plan.dims[dim] for dim in rule.shape)  # ggml names a row's length first
            n_rows = sum(want for _, want in rows[0]) if rows else None
            kind = plan.kinds.get(rule.name, (source or example).tensor_type)
            yield Tensor(name, kind, columns, n_rows, source, rule)
    if left:
        raise UsageError(f"tensor {min(left)!r} is of a kind that is not scaled here")


def _copy_keys(reader: GGUFReader, writer: GGUFWriter, changed: dict[str, Any]) -> None:
    """Copy all keys, but the changed ones; what is new for an array goes to its end."""
    for key, entry in reader.fields.items():
        if key == "general.architecture" or key.startswith("GGUF."):  # the writer's own
            continue
        value, kind = entry.contents(), entry.types[0]
        is_array = kind == GGUFValueType.ARRAY
        if key in changed:
            new = changed.pop(key)
            value = value + new if is_array else new
        writer.add_key_value(key, value, kind, entry.types[-1] if is_array else None)
    for key, new in changed.items():
        if isinstance(new, int):  # what llama.cpp derived from other keys until now
            writer.add_uint32(key, new)
        elif isinstance(new, str):
            writer.add_string(key, new)
