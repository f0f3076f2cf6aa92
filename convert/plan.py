"""From a family's tables and a checkpoint to the tensors that are written, with the guards between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.convert.family import Row
from dspark_local.convert.packed.blocks import Kept
from dspark_local.convert.packed.bundles import unbundled
from dspark_local.convert.plain import Plain
from dspark_local.convert.quantise import type_of
from dspark_local.convert.writer import Planned, floats, values
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.config import Config
    from dspark_local.convert.family import Family, Sizes
    from dspark_local.convert.quantise import Type

Shape = tuple[int, ...]
Read = Callable[[slice], Any]  # rows: floats, or blocks of codes
Tell = Callable[[str, str, float], None]  # name and type of a tensor, largest error in steps of its codes
Table = dict[str, tuple[Row, str, Shape]]  # checkpoint name → row, GGUF name, shape


def table(family: Family, config: Config, root: tuple[Row, ...], known: Sizes) -> Table:
    """All tensors of a checkpoint: those of `root` by the sizes in `known`, then every layer's."""
    rows: Table = {row.theirs: (row, row.ours, _shape(row, known)) for row in root if _is_there(row, config, known)}
    for i in range(config.layers):
        known = family.sizes(config, i)
        for row in family.layer:
            if _is_there(row, config, known):
                rows[f"layers.{i}.{row.theirs}"] = (row, f"blk.{i}.{row.ours}", _shape(row, known))
    return rows


def _is_there(row: Row, config: Config, known: Sizes) -> bool:
    return (not row.when or config.flag(row.when)) and all(known[size] for size in row.shape.split())


def _shape(row: Row, known: Sizes) -> Shape:
    return tuple(known[size] for size in row.shape.split())


def plan(
    checkpoint: Checkpoint,
    family: Family,
    config: Config,
    rows: Table,
    kind: Type,
    *,
    ignored: frozenset[str] = frozenset(),
    tell: Tell = lambda _name, _kind, _error: None,
) -> list[Planned]:
    """What to write, in the table's order; `tell` hears of each tensor whose 4-bit codes are kept.

    Raises ConvertError when the checkpoint lacks a tensor of the table, has one beyond it that is not in `ignored`,
    or one of another shape than its config says.
    """
    found = unbundled(checkpoint, named(checkpoint, family), rows)
    wanted = {name: part for theirs, (_, _, shape) in rows.items() for name, part in _members(theirs, shape).items()}
    match(checkpoint, wanted, {name: source.shape for name, source in found.items()}, ignored=ignored)
    planned = []
    for theirs, (row, ours, shape) in rows.items():
        source = _joined(theirs, [found[name] for name in _members(theirs, shape)])
        if isinstance(source, Plain):
            planned.append(_plain(source, family, config, row, ours, kind))
            continue
        planned.append(Planned(ours, shape, source.kind, _turned(row, family, config, source.rows)))
        if source.scale is not None:
            planned.append(values(ours.removesuffix("weight") + "scale", np.array([source.scale], np.float32)))
        tell(ours, source.kind.name, source.error)
    return planned


def _members(theirs: str, shape: Shape) -> dict[str, Shape]:
    """Names and shapes of the tensors that a row of the table stands for."""
    if "*" not in theirs:
        return {theirs: shape}
    return {theirs.replace("*", str(i)): shape[1:] for i in range(shape[0])}


def _joined(theirs: str, sources: list[Kept | Plain]) -> Kept | Plain:
    """Tensors one behind the other, of which a row is a whole; or the only one as it is. Raises ConvertError."""
    if "*" not in theirs:
        return sources[0]
    shape = (len(sources), *sources[0].shape)

    def stacked(read: Callable[[Any], Read], rows: slice) -> Any:  # noqa: ANN401 - floats, bits or codes
        return np.stack([read(source)(slice(0, source.shape[0])) for source in sources[rows]])

    if all(isinstance(source, Plain) for source in sources):
        dtypes = {source.dtype for source in sources if isinstance(source, Plain)}
        dtype = dtypes.pop() if len(dtypes) == 1 else ""
        return Plain(shape, dtype, partial(stacked, lambda s: s.read), partial(stacked, lambda s: s.same))
    kept = [source for source in sources if isinstance(source, Kept) and source.scale is None]
    if len(kept) < len(sources) or len({source.kind for source in kept}) > 1:
        raise ConvertError(f"{theirs} are not all packed alike; convert the unquantised checkpoint")
    return Kept(shape, kept[0].kind, partial(stacked, lambda s: s.rows), max(source.error for source in kept))


def _plain(source: Plain, family: Family, config: Config, row: Row, ours: str, kind: Type) -> Planned:
    """A tensor of floats: as its bits where its type stays and its numbers do, else read and encoded."""
    type_ = type_of(ours, source.shape, kind)
    shifted = row.turn == "norm" and family.shifted_norms
    if source.dtype == type_.name and not shifted:
        return Planned(ours, source.shape, type_, _turned(row, family, config, source.same))
    return floats(ours, source.shape, type_, _turned(row, family, config, source.read))


def named(checkpoint: Checkpoint, family: Family) -> dict[str, str]:
    """Names of the tables → the checkpoint's, without what the family leaves out.

    Raises ConvertError where a shard is missing that the family reads.
    """
    have: dict[str, str] = {}
    for name, shard in checkpoint.absent.items():
        if family.bare(name) is not None:
            raise ConvertError(f"{checkpoint.folder} lacks {shard}; download the checkpoint again")
    for name in checkpoint.tensors:
        bare = family.bare(name)
        if bare in have:
            raise ConvertError(f"{checkpoint.folder} has the same tensor twice, as {have[bare]} and as {name}")
        if bare is not None:
            have[bare] = name
    return have


def match(
    checkpoint: Checkpoint, shapes: dict[str, Shape], have: dict[str, Shape], *, ignored: frozenset[str] = frozenset()
) -> None:
    """Raise ConvertError unless what the checkpoint has are exactly these tensors, of these shapes."""
    if missing := sorted(shapes.keys() - have.keys()):
        raise ConvertError(f"{checkpoint.folder} lacks {_some(missing)}; the checkpoint is not whole")
    if extra := sorted(have.keys() - shapes.keys() - ignored):
        raise ConvertError(f"{checkpoint.folder} has {_some(extra)}, which this family does not know")
    for theirs, shape in shapes.items():
        if have[theirs] != shape:
            raise ConvertError(f"{theirs} has shape {list(have[theirs])}, and config.json says {list(shape)}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"


def _turned(row: Row, family: Family, config: Config, read: Read) -> Read:
    """`read`, followed by what the row's `turn` asks for."""
    if row.turn == "norm" and family.shifted_norms:
        return lambda rows: read(rows) + np.float32(1)
    if row.turn == "interleave":
        return partial(_by_head, read, config.head_dim, interleaved)
    if row.turn == "separate" and not config.flag("rope_is_neox_style", default=True):
        return partial(_by_head, read, config.head_dim, separated)
    return read


def _by_head(read: Callable[[slice], Any], head: int, turn: Callable[[Any, int], Any], rows: slice) -> Any:  # noqa: ANN401 - floats, codes or scales
    first, last = rows.start // head, -(-rows.stop // head)
    turned = turn(read(slice(first * head, last * head)), head)
    return turned[rows.start - first * head : rows.stop - first * head]


def interleaved(whole: Any, head: int) -> Any:  # noqa: ANN401 - as above
    """Rows whose rotary pairs (i, i + head/2) within a head come to stand side by side, as arch `llama` has them."""
    return whole.reshape(-1, 2, head // 2, *whole.shape[1:]).swapaxes(1, 2).reshape(whole.shape)


def separated(whole: Any, head: int) -> Any:  # noqa: ANN401 - as above
    """The reverse of `interleaved`."""
    return whole.reshape(-1, head // 2, 2, *whole.shape[1:]).swapaxes(1, 2).reshape(whole.shape)
