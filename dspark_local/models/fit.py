"""Whether a pair fits into this machine, and how: told before anything is loaded.

Caches and compute buffers are what llama.cpp's simulation says (backend.appraisal); the rest is counted here. Anonymous
memory and that of mapped files are told apart: a file's pages can be read again, the rest cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.errors import OutOfMemoryError, UsageError
from dspark_local.formats.recurrent import is_recurrent
from dspark_local.models.placement import Device, Layers, layers_that_fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.backend.appraisal import Buffer
    from dspark_local.backend.base import Shape
    from dspark_local.formats.gguf import GGUF
    from dspark_local.formats.inspection import Inspection

DEFAULT_CTX = 8192
MIN_CTX = 64
LEAST_CTX = 2048  # what a chat is cut down to before its keys and values are
SIMULATED = 4096  # positions that are simulated for each slot; what grows with them grows in proportion
SMALL = 4  # times what a pair might take must be free for it to be called small
Q8_0_SHARE = 34 / 64  # bytes of a q8_0 element by those of an f16 one

# Measured with tests/models/measured.py, over five shapes and three contexts (benchmarks/RESULTS.md).
_PROCESS = 12 << 20
_PER_HEADER_BYTE = 9  # a vocabulary, in llama.cpp and in our header: 2.4 to 8.8 of the real ones
_MASK_BYTES = 4 * 256 // 3 * 2  # of compute for a position of context and a prefill chunk of 256 rows
_INJECT_ROWS = 512
_TAPPED, _PENDING = 2.6, 4.8  # copies of tapped rows: of an injection's, and of those that wait for it
_MOST_PENDING = 768
_SMALL_WORK = 256 << 20  # more than any model of that size works in
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of host memory by what takes them."""

    mapped: int  # the files themselves
    repacked: int  # weights in the layout that this CPU likes, beside those in the files
    cache: int  # keys and values of both contexts, and the target's states
    compute: int  # of the target; a drafter touches next to nothing of its own
    host: int  # vocabularies, tapped rows, the process

    @property
    def anonymous(self) -> int:
        """What has no file behind it."""
        return self.repacked + self.cache + self.compute + self.host

    @property
    def total(self) -> int:
        """What has to stay in memory for the pair to run: weights that were repacked are not read again."""
        return self.anonymous + max(0, self.mapped - self.repacked)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a pair is to be loaded; `words` say why, if it is not as was asked."""

    n_ctx: int
    kv: str
    layers: Layers
    need: Need
    words: str = ""


def elsewhere(shape: Shape, gpu_layers: int) -> Choice:
    """As it was asked for: what other machines hold is theirs to know. The drafter stays here, where it is quick."""
    return Choice(shape.n_ctx, shape.kv, Layers(gpu_layers, 0), Need(0, 0, 0, 0, 0))


def context(target: GGUF, wanted: int | None) -> int:
    """Positions for one sequence: what was asked for, or what the model was trained for up to a sane default.

    Raises UsageError for a context too small to hold a chat.
    """
    trained = target.meta(f"{target.arch}.context_length", DEFAULT_CTX)
    if wanted is None:
        return min(trained, DEFAULT_CTX) if isinstance(trained, int) else DEFAULT_CTX
    if wanted < MIN_CTX:
        raise UsageError(f"a context of {wanted} tokens is too small; use --ctx-size {MIN_CTX} or more")
    return wanted


def if_small(
    files: Inspection,
    small: Inspection | None,
    *,
    n_ctx: int,
    n_slots: int,
    gpu_layers: int,
    free: int,
    width: int = 1,
) -> Choice | None:
    """The pair as it was asked for, if it is so small beside what is free that nothing has to be simulated.

    Its need is then an upper bound. `width` rows of a slot are verified at most.
    """
    models = [f for f in (files.target, files.draft, small.target if small else None) if f]
    weights = sum(t.nbytes for f in models for t in f.tensors.values())
    cache = (sum(_most_cache(f) for f in models) * n_ctx + _most_state(files.target) * width) * n_slots
    bound = Need(weights, 2 * weights, cache, len(models) * _SMALL_WORK, _PROCESS)
    if SMALL * bound.anonymous > free:
        return None
    return Choice(n_ctx, "f16", Layers(gpu_layers, gpu_layers), bound)


def _most_cache(file: GGUF) -> int:
    """Bytes of keys and values of a position in f16, at most: every head with its own, of twice the usual width."""
    width, layers = (file.meta(f"{file.arch}.{key}", 0) for key in ("embedding_length", "block_count"))
    return 8 * width * layers if isinstance(width, int) and isinstance(layers, int) else 1 << 20


def _most_state(file: GGUF) -> int:
    """Bytes of the states behind one row, at most: of a short convolution, a compressor, or a matrix for each head."""
    if not is_recurrent(file):
        return 0
    keys = ("embedding_length", "ssm.inner_size", "ssm.state_size", "block_count")
    width, inner, state, layers = (n if isinstance(n := file.meta(f"{file.arch}.{key}", 0), int) else 0 for key in keys)
    return 4 * layers * max(1024 * width, 2 * inner * (state + 8))


def need(files: Inspection, buffers: tuple[Buffer, ...], *, simulated: int, n_ctx: int, kv: str = "f16") -> Need:
    """What a pair takes with `n_ctx` positions for each slot, by a simulation with `simulated` ones in f16."""

    def said(use: str, of: str | None = None) -> int:
        return sum(b.nbytes for b in buffers if b.use == use and of in (None, b.of) and b.device not in devices)

    devices = {b.device for b in buffers if b.use == "free"}

    models = [f for f in (files.target, files.draft) if f]
    grown = n_ctx / simulated
    cache = said("cache", "target") * grown * (Q8_0_SHARE if kv == "q8_0" else 1) + said("cache", "draft") * grown
    cache += said("state")
    mask = (n_ctx - simulated) * _MASK_BYTES
    rows = 0
    if files.spec:
        row = files.spec.n_embd * len(files.spec.target_layers) * 4
        rows = int(row * (_TAPPED * _INJECT_ROWS + _PENDING * min(_MOST_PENDING, n_ctx)))
    header = sum(len(f.header.data) for f in models)
    return Need(
        mapped=sum(t.nbytes for f in models for t in f.tensors.values()),
        repacked=said("repacked"),
        cache=int(cache),
        compute=max(0, said("compute", "target") + said("output") + mask),
        host=_PROCESS + _PER_HEADER_BYTE * header + rows,
    )


def choose(
    files: Inspection,
    buffers: tuple[Buffer, ...],
    *,
    simulated: int,
    wanted: int | None,
    n_slots: int = 1,
    gpu_layers: int = -1,
    free: int,
) -> Choice:
    """The first way to load the pair that fits into `free` bytes of host memory and the devices among `buffers`.

    A context that nobody asked for is halved, down to 2048 positions; then, or at the one that was asked for, keys and
    values are kept in q8_0. Raises OutOfMemoryError, one line that says what would fit.
    """
    n_ctx = context(files.target, wanted)
    for at, kv in _ways(files.target, n_ctx, fixed=wanted is not None):
        found = _placed(files, buffers, simulated=simulated, n_ctx=at, kv=kv, gpu_layers=gpu_layers)
        if found.need.total <= free:
            words = "" if (at, kv) == (n_ctx, "f16") else _smaller(found, n_ctx, free)
            return Choice(at, kv, found.layers, found.need, words)
    least = _placed(files, buffers, simulated=simulated, n_ctx=n_ctx, kv="f16", gpu_layers=gpu_layers).need
    tokens = n_ctx * n_slots
    raise OutOfMemoryError(
        f"{least.total // _MIB} MiB are needed ({max(0, least.mapped - least.repacked) // _MIB} of the files, "
        f"{least.repacked // _MIB} repacked, {least.cache // _MIB} for {tokens} tokens of context, "
        f"{(least.compute + least.host) // _MIB} to work in) and {free // _MIB} are free; "
        + _instead(least, n_ctx, free)
    )


def _ways(target: GGUF, n_ctx: int, *, fixed: bool) -> Iterator[tuple[int, str]]:
    at = n_ctx
    yield at, "f16"
    while not fixed and at // 2 >= LEAST_CTX:
        at //= 2
        yield at, "f16"
    width = target.meta(f"{target.arch}.attention.key_length", 128)
    if isinstance(width, int) and width % 32 == 0:  # q8_0 comes in blocks of 32
        yield at, "q8_0"


def _placed(
    files: Inspection, buffers: tuple[Buffer, ...], *, simulated: int, n_ctx: int, kv: str, gpu_layers: int
) -> Choice:
    """The pair with as many layers on the devices as fit there, the drafter's first; the rest in host memory."""
    whole = need(files, buffers, simulated=simulated, n_ctx=n_ctx, kv=kv)
    devices = [
        Device(b.device, b.nbytes - sum(o.nbytes for o in buffers if o.device == b.device and o.use == "compute"))
        for b in buffers
        if b.use == "free"
    ]
    if not devices or gpu_layers == 0:
        return Choice(n_ctx, kv, Layers(0, 0), whole)
    layers, moved = layers_that_fit(files, whole.cache, devices, most=gpu_layers)
    on_host = Need(
        max(0, whole.mapped - moved.weights),
        0 if moved.whole else whole.repacked * (whole.mapped - moved.weights) // max(1, whole.mapped),
        whole.cache - moved.cache,
        whole.compute,
        whole.host,
    )
    return Choice(n_ctx, kv, layers, on_host)


def _smaller(found: Choice, n_ctx: int, free: int) -> str:
    kept = f", keys and values in {found.kv}" if found.kv != "f16" else ""
    return (
        f"{free // _MIB} MiB are free, so the context is {found.n_ctx} tokens of {n_ctx}{kept}; "
        "--ctx-size asks for another"
    )


def _instead(least: Need, n_ctx: int, free: int) -> str:
    rest = free - (least.total - least.cache)
    fits = int(rest / max(1, least.cache) * n_ctx) // MIN_CTX * MIN_CTX
    if fits >= MIN_CTX:
        return f"lower --ctx-size to {fits}"
    return "lower --ctx-size, leave the drafter out (--no-draft), or use a smaller quant or model"
