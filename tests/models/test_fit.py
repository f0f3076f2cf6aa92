"""What a pair takes of memory is told beforehand, and what does not fit is refused or made smaller."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dspark_local
from dspark_local import loading
from dspark_local.backend.appraisal import Buffer, read_buffers
from dspark_local.backend.base import Shape
from dspark_local.backend.library import listening
from dspark_local.backend.llama import LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.backend.probe import Prober
from dspark_local.backend.repack import repacked_bytes
from dspark_local.errors import OutOfMemoryError
from dspark_local.formats.inspection import Inspection, inspect_files
from dspark_local.models import fit
from dspark_local.models.placement import Device, Layers, layer_bytes, layers_that_fit
from tests.formats import hybrids, tiny
from tests.models.shapes import F16, Q8_0, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
SIZES = {
    "wide": Size(1024, 16, 3072, 16, 8),
    "flat, untied, Q8_0": Size(2048, 6, 6144, 16, 4, kind=Q8_0, tied=False),
    "deep, F16": Size(512, 24, 1536, 8, 8, kind=F16),
    "many heads": Size(768, 30, 2048, 12, 12),
    "wide feed-forward, few heads": Size(1536, 12, 8960, 12, 2, kind=Q8_0, head_dim=128),
}
SMALL = Size(768, 12, 2048, 12, 12)
WITHIN = 0.08


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    """One child for all that is simulated here."""
    with Prober() as prober:
        yield prober


def predicted(prober: Prober, target: Path, draft: Path, n_ctx: int) -> fit.Need:
    """As loading does it."""
    files, shape = inspect_files(target, draft), Shape(n_ctx=fit.SIMULATED, width=5)
    buffers = prober.appraise(target, draft, shape)
    assert isinstance(buffers, tuple)
    return fit.need(files, buffers, simulated=fit.SIMULATED, n_ctx=n_ctx)


def measured(target: Path, draft: Path, n_ctx: int) -> tuple[int, int]:
    """Anonymous bytes and those of files that a process held at most while it answered."""
    command = [sys.executable, Path(__file__).with_name("measured.py"), target, draft, str(n_ctx)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    held = json.loads(done.stdout)
    return held["Anon"], held["File"]


def compare(prober: Prober, folder: Path, size: Size, n_ctx: int) -> str:
    files = size.write(folder)
    need, (anonymous, mapped) = predicted(prober, *files, n_ctx), measured(*files, n_ctx)
    found = f"{need.anonymous / anonymous - 1:+.1%} {need.mapped / mapped - 1:+.1%}"
    assert need.anonymous == pytest.approx(anonymous, rel=WITHIN), found
    assert need.mapped == pytest.approx(mapped, rel=WITHIN), found
    return found


linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not tell what is held")


@linux
def test_what_is_predicted_is_what_is_held(prober: Prober, tmp_path: Path) -> None:
    """Anonymous memory and mapped files, each within 8 %: one shape here, five of them among the slow tests."""
    compare(prober, tmp_path, SMALL, 512)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_ctx", [512, 2048, 4096])
@pytest.mark.parametrize("name", SIZES)
def test_predictions_hold_for_five_shapes_and_three_contexts(
    prober: Prober, tmp_path: Path, name: str, n_ctx: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a pair with three taps, on the CPU; within 8 %, and by how much is printed."""
    found = compare(prober, tmp_path, SIZES[name], n_ctx)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}, {n_ctx}: predicted less measured, anonymous and mapped: {found}\n")


@pytest.mark.parametrize("arch", sorted(hybrids.TARGETS))
def test_states_are_counted_by_slot_and_row_and_not_by_position(prober: Prober, tmp_path: Path, arch: str) -> None:
    """What is predicted of caches and states is what llama.cpp makes of another context."""
    path = hybrids.TARGETS[arch]().write(tmp_path / "t.gguf")
    shape = Shape(n_ctx=fit.SIMULATED, n_slots=3, width=16)
    buffers = prober.appraise(path, None, shape)
    assert isinstance(buffers, tuple)
    files = inspect_files(path)
    said = fit.need(files, buffers, simulated=fit.SIMULATED, n_ctx=1024)
    with listening() as lines:
        LlamaTarget(Model(path), replace(shape, n_ctx=1024)).close()
    made = read_buffers("target", lines)
    states = sum(b.nbytes for b in made if b.use == "state")
    assert states > 0
    assert said.cache == pytest.approx(sum(b.nbytes for b in made if b.use in {"cache", "state"}), rel=WITHIN)
    bound = fit.if_small(files, None, n_ctx=64, n_slots=3, gpu_layers=0, free=8 << 30, width=16)
    assert bound
    assert bound.need.cache > states


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    folder = tmp_path_factory.mktemp("pair")
    return inspect_files(tiny.target().write(folder / "t.gguf"), tiny.draft().write(folder / "d.gguf"))


CACHE = 1 << 30  # of 8192 positions


def buffers(*more: Buffer) -> tuple[Buffer, ...]:
    return (
        Buffer("target", "", "cache", CACHE),
        Buffer("draft", "", "cache", CACHE // 8),
        Buffer("target", "CPU", "compute", 64 * MIB),
        *more,
    )


def chosen(pair: Inspection, free: int, *, wanted: int | None = None, simulated: int = 512) -> fit.Choice:
    """The pair was trained for 512 positions, so that is what nobody's wish means."""
    return fit.choose(pair, buffers(), simulated=simulated, wanted=wanted, free=free)


def test_what_fits_is_taken_as_it_was_asked_for(pair: Inspection) -> None:
    """And nothing is said."""
    choice = chosen(pair, 2 << 30)
    assert (choice.n_ctx, choice.kv, choice.layers, choice.words) == (512, "f16", Layers(0, 0), "")
    assert choice.need.cache == CACHE + CACHE // 8


def test_a_context_that_was_asked_for_keeps_its_length(pair: Inspection) -> None:
    """Its keys and values shrink instead, and one line says so."""
    whole = chosen(pair, 1 << 40, wanted=512).need
    choice = chosen(pair, whole.total - 1, wanted=512)
    assert (choice.n_ctx, choice.kv) == (512, "q8_0")
    assert choice.need.cache == CACHE * 34 // 64 + CACHE // 8
    assert "keys and values in q8_0" in choice.words


def test_a_context_that_nobody_asked_for_is_halved(pair: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to 2048 positions, and only then are keys and values quantised."""
    monkeypatch.setattr(fit, "context", lambda _target, _wanted: 8192)
    found = []
    for share in (1.0, 0.5, 0.25, 0.15):
        least = int(share * (CACHE + CACHE // 8)) + 80 * MIB
        found.append(fit.choose(pair, buffers(), simulated=8192, wanted=None, free=least))
    assert [(c.n_ctx, c.kv) for c in found] == [(8192, "f16"), (4096, "f16"), (2048, "f16"), (2048, "q8_0")]
    assert [bool(c.words) for c in found] == [False, True, True, True]
    assert "the context is 4096 tokens of 8192" in found[1].words


def test_what_cannot_fit_is_refused_with_what_would(pair: Inspection) -> None:
    """One line with the figures; what it proposes does fit."""
    with pytest.raises(OutOfMemoryError, match=r"lower --ctx-size to \d+") as raised:
        chosen(pair, 500 * MIB, wanted=512)
    assert "\n" not in str(raised.value)
    fits = int(str(raised.value).rpartition(" ")[2])
    assert chosen(pair, 500 * MIB, wanted=fits).n_ctx == fits
    with pytest.raises(OutOfMemoryError, match="use a smaller quant or model"):
        chosen(pair, 10 * MIB, wanted=512)


def test_a_small_pair_is_not_simulated(prober: Prober, pair: Inspection) -> None:
    """Its need is a bound that holds for any simulation; with less memory, or a long context, it is no small one."""
    options = {"n_slots": 1, "gpu_layers": -1}
    choice = fit.if_small(pair, None, n_ctx=512, free=8 << 30, **options)
    assert choice
    assert (choice.n_ctx, choice.kv, choice.layers) == (512, "f16", Layers(-1, -1))
    assert pair.draft
    assert choice.need.anonymous > predicted(prober, pair.target.path, pair.draft.path, 512).anonymous
    assert fit.if_small(pair, None, n_ctx=512, free=1 << 30, **options) is None
    assert fit.if_small(pair, None, n_ctx=1 << 30, free=8 << 30, **options) is None


def test_llamas_words_are_read() -> None:
    """As the pinned version writes them; another device's buffers are told apart."""
    lines = [
        "llama_context:        CPU  output buffer size =     0.50 MiB",
        "llama_kv_cache:        CPU KV buffer size =     0.00 MiB",
        "llama_kv_cache: size =  128.00 MiB (  4096 cells,  16 layers,  1/1 seqs), K (f16):   64.00 MiB, V (f16): …",
        "sched_reserve:      CUDA0 compute buffer size =    30.01 MiB",
    ]
    assert read_buffers("target", lines) == (
        Buffer("target", "CPU", "output", MIB // 2),
        Buffer("target", "", "cache", 128 * MIB),
        Buffer("target", "CUDA0", "compute", round(30.01 * MIB)),
    )


def test_a_simulation_tells_every_buffer(prober: Prober, pair: Inspection) -> None:
    """Of both contexts, through the child; twice the context takes twice the cache, and q8_0 34/64 of it."""
    assert pair.draft

    def cache(shape: Shape) -> int:
        said = prober.appraise(pair.target.path, pair.draft.path if pair.draft else None, shape)
        assert isinstance(said, tuple)
        assert {(b.of, b.use) for b in said} >= {
            (of, use) for of in ("target", "draft") for use in ("cache", "compute")
        }
        return next(b.nbytes for b in said if (b.of, b.use) == ("target", "cache"))

    shape = Shape(n_ctx=1 << 14, width=4)
    assert cache(replace(shape, n_ctx=1 << 15)) == 2 * cache(shape)
    assert cache(replace(shape, kv="q8_0")) == pytest.approx(cache(shape) * 34 / 64, rel=0.01)


def test_repacked_weights_are_those_that_are_multiplied_with(tmp_path: Path) -> None:
    """On a CPU with AVX2 those of Q4_0; a tied embedding once more, as the head that it also is."""
    for untied in (False, True):
        file = inspect_files(tiny.target(untied=untied, kind=tiny.Q4_0).write(tmp_path / "t.gguf")).target
        layers = sum(t.nbytes for n, t in file.tensors.items() if t.type.name == "Q4_0" and n != "token_embd.weight")
        head = 0 if untied else file.tensors["token_embd.weight"].nbytes
        assert repacked_bytes(file, {"avx2"}.__contains__) == layers + head
        assert repacked_bytes(file, set[str]().__contains__) == 0


def test_layers_fill_a_gpu_from_the_head_down(pair: Inspection) -> None:
    """The drafter's first, then the target's, each with its share of keys and values; never more than fits."""
    assert pair.draft
    sizes = {f.arch: layer_bytes(f) for f in (pair.target, pair.draft)}
    assert [len(s) for s in sizes.values()] == [tiny.N_LAYER + 1, 2]
    every = sum(map(sum, sizes.values())) + 3 * 1000
    for free in range(0, int(every / 0.95) + 2000, 500):
        layers, moved = layers_that_fit(pair, 3000, [Device("GPU", free)])
        assert moved.weights + moved.cache <= free
        assert moved.whole == (layers == Layers(tiny.N_LAYER + 1, 2))
        assert not layers.target or layers.draft == 2
    assert moved.whole
    assert layers_that_fit(pair, 3000, [Device("GPU", every * 2)], most=1)[0] == Layers(1, 1)


def test_a_runtime_with_quantised_keys_and_values_answers(pair: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen is what is loaded, and the line that says so reaches the log."""
    assert pair.draft
    small = fit.Choice(256, "q8_0", Layers(0, 0), fit.Need(0, 0, 0, 0, 0), "it is smaller")
    monkeypatch.setattr(fit, "if_small", lambda *_, **__: None)
    monkeypatch.setattr(fit, "choose", lambda *_, **__: small)
    said: list[str] = []
    monkeypatch.setattr(loading._logger, "warning", said.append)
    with dspark_local.load(pair.target.path, drafter=pair.draft.path, policy="fixed:3", threads=1) as runtime:
        assert runtime.info.n_ctx == 256
        assert runtime.generate("the", max_tokens=8).result().stats.predicted_n == 8
    assert said == ["it is smaller"]
