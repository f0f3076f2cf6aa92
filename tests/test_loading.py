"""What a user may give to load(), and the one line that they get when it is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import dspark_local
from dspark_local import DSparkError, SamplingParams, Why, errors, loading
from dspark_local.backend.probe import Verdict
from dspark_local.models import registry
from dspark_local.models.locations import beside, find
from tests.formats import tiny
from tests.formats.tiny import I32, U32, Array

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, and everything that is not one."""
    folder = tmp_path_factory.mktemp("models")
    target = tiny.target()
    target.write(folder / "t.gguf")
    tiny.draft().write(folder / "d.gguf")
    (folder / "text.gguf").write_text("This is not a model." * 10)
    (folder / "empty.gguf").touch()
    whole = (folder / "t.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[:-1000])
    (folder / "header.gguf").write_bytes(whole[:200])
    tiny.draft().with_keys(tokenizer__ggml__mask_token_id=None).write(folder / "maskless.gguf")
    tiny.draft().with_keys(dflash__target_layers=Array(tiny.I32, [0, 7])).write(folder / "deep.gguf")
    tiny.draft().with_keys(tokenizer__ggml__pre=(tiny.STR, "llama-bpe")).write(folder / "tokens.gguf")
    tiny.target().with_keys(tokenizer__ggml__pre=(tiny.STR, "llama-bpe")).write(folder / "bpe.gguf")
    tiny.draft().with_keys(dflash__embedding_length=(U32, 32)).write(folder / "broken.gguf")
    return folder


WRONG: dict[str, tuple[dict[str, Any], type[DSparkError], str]] = {
    "no such name": ({"model": "dmeo"}, errors.ModelNotFoundError, "did you mean demo"),
    "no such file": ({"model": "nowhere/x.gguf"}, errors.ModelNotFoundError, "no such file"),
    "no such file here": ({"model": "missing.gguf"}, errors.ModelNotFoundError, "no such file"),
    "a folder": ({"model": "."}, errors.ModelNotFoundError, "is a folder"),
    "not a GGUF": ({"model": "text.gguf"}, errors.ModelFormatError, "not a GGUF"),
    "an empty file": ({"model": "empty.gguf"}, errors.ModelFormatError, "not a GGUF"),
    "a truncated GGUF": ({"model": "cut.gguf"}, errors.ModelFormatError, "bytes"),
    "a truncated header": ({"model": "header.gguf"}, errors.ModelFormatError, "header.gguf"),
    "a drafter as target": ({"model": "d.gguf"}, errors.ModelFormatError, "drafter"),
    "a small model of another tokenizer": ({"model": "t.gguf", "drafter": "bpe.gguf"}, errors.PairError, "tokenizer"),
    "no model that could draft": ({"model": "t.gguf", "drafter": "model"}, errors.ModelNotFoundError, "give one"),
    "no such drafter": ({"model": "t.gguf", "drafter": "none.gguf"}, errors.ModelNotFoundError, "no such file"),
    "no mask token": ({"model": "t.gguf", "drafter": "maskless.gguf"}, errors.ModelFormatError, "mask"),
    "a layer too deep": ({"model": "t.gguf", "drafter": "deep.gguf"}, errors.PairError, "layer 7"),
    "another tokenizer": ({"model": "t.gguf", "drafter": "tokens.gguf"}, errors.PairError, "tokenizer"),
    "another width": ({"model": "t.gguf", "drafter": "broken.gguf"}, errors.ModelError, "broken.gguf"),
    "a context too small": ({"model": "t.gguf", "ctx_size": 8}, errors.UsageError, "ctx-size 64"),
    "no memory": ({"model": "t.gguf", "ctx_size": 2_000_000_000}, errors.OutOfMemoryError, "lower --ctx-size"),
    "no such policy": ({"model": "t.gguf", "policy": "always"}, errors.UsageError, "no policy is called 'always'"),
    "silly width": ({"model": "t.gguf", "fixed_width": 99}, errors.UsageError, "between 1 and 16"),
    "silly slots": ({"model": "t.gguf", "slots": 0}, errors.UsageError, "between 1 and 64"),
    "silly threads": ({"model": "t.gguf", "threads": 0}, errors.UsageError, "threads"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_loaded_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """An error of ours, that says what is wrong."""
    monkeypatch.chdir(folder)
    options, kind, says = WRONG[what]
    with pytest.raises(kind, match=says) as raised:
        dspark_local.load(**options)
    assert "\n" not in str(raised.value)


def test_drafters_beside_a_target_are_found(tmp_path: Path) -> None:
    """By convention of names, the longest first; a drafter of another target is left alone."""
    names = ["Qwen3-4B-Q4_K_M", "dspark-Qwen3-4B-Q8_0", "dspark-Qwen3-8B-Q8_0", "dspark-Qwen3-Q8_0"]
    for name in names:
        (tmp_path / f"{name}.gguf").touch()
    target = tmp_path / "Qwen3-4B-Q4_K_M.gguf"
    assert beside(target) == tmp_path / "dspark-Qwen3-4B-Q8_0.gguf"
    assert find(target, "none").drafter is None
    assert find(target, tmp_path / "dspark-Qwen3-Q8_0.gguf").drafter == tmp_path / "dspark-Qwen3-Q8_0.gguf"
    shutil.rmtree(tmp_path)


def test_a_build_that_crashes_is_spared_its_fastest_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where repacked weights kill the child, the model runs without them, and one warning says what that costs."""

    def probe(*_files: object, use_extra_bufts: bool = True, **_options: object) -> Verdict:
        return Verdict(ok=not use_extra_bufts, detail="died", died=use_extra_bufts)

    monkeypatch.setattr(loading, "probe_once", probe)
    said: list[str] = []
    monkeypatch.setattr(loading._logger, "warning", said.append)
    with dspark_local.load(folder / "t.gguf", ctx_size=128, threads=1) as runtime:
        assert runtime.generate("the", max_tokens=3).result().stats.rounds > 0
    assert said == [loading.CRASHING_BUILD]


def test_a_file_that_kills_the_child_either_way_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and this process never loads it."""
    monkeypatch.setattr(loading, "probe_once", lambda *_, **__: Verdict(ok=False, detail="it died of it", died=True))
    with pytest.raises(errors.ModelFormatError, match="died of it"):
        dspark_local.load(folder / "t.gguf")


def test_a_row_says_how_its_model_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the row says goes over what the file says; the file's own stays where the row is silent."""
    target = tiny.target().with_keys(
        general__sampling__temp=(tiny.F32, 0.9), general__sampling__top_k=(I32, 20)
    ).write(tmp_path / "sampled.gguf")
    row = registry.row("demo").model_copy(update={"sampling": registry.Preset(temperature=0.6, min_p=0.1)})
    monkeypatch.setattr(registry, "rows", lambda: {"house": row})
    monkeypatch.setattr(registry, "installed_file", lambda _: target)
    with dspark_local.load("house", drafter="none", ctx_size=128, threads=1) as runtime:
        assert runtime.preset == SamplingParams(temperature=0.6, top_k=20, min_p=0.1)
    with dspark_local.load(target, drafter="none", ctx_size=128, threads=1) as runtime:
        assert runtime.preset == SamplingParams(temperature=0.9, top_k=20)


def test_several_runtimes_live_side_by_side(folder: Path) -> None:
    """Two pairs in one process answer as one does."""
    options: dict[str, Any] = {"drafter": folder / "d.gguf", "ctx_size": 128, "threads": 1}
    with (
        dspark_local.load(folder / "t.gguf", **options) as one,
        dspark_local.load(folder / "t.gguf", **options) as other,
    ):
        answers = [r.generate("the thing", max_tokens=10) for r in (one, other, one, other)]
        assert len({a.result().tokens for a in answers}) == 1


def test_no_more_is_drafted_than_a_block_holds(folder: Path) -> None:
    """A fixed length beyond the trained block is refused, with the longest that is not."""
    pair = {"drafter": folder / "d.gguf", "ctx_size": 256, "threads": 1}
    with pytest.raises(errors.UsageError, match=f"fixed:{tiny.BLOCK} is the most"):
        dspark_local.load(folder / "t.gguf", policy="fixed:1000", **pair)
    with dspark_local.load(folder / "t.gguf", policy=f"fixed:{tiny.BLOCK}", **pair) as runtime:
        stats = runtime.generate("the", max_tokens=40).result().stats
    assert len(stats.accepted_per_position) == runtime.info.block_size == tiny.BLOCK


@pytest.mark.skipif(sys.platform != "linux", reason="where threads are listed, and where libgomp counts them")
def test_the_threads_that_measure_end(folder: Path) -> None:
    """OpenMP's too: with a team that stays beside the worker's, libgomp's threads sleep at every barrier."""
    count = (
        "import os, dspark_local\n"
        "for options in ({'policy': 'fixed:1'}, {'policy': 'auto', 'remeasure': True}):\n"
        "    with dspark_local.load('t.gguf', drafter='d.gguf', threads=2, **options):\n"
        "        print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", count], cwd=folder, capture_output=True, text=True, check=True)
    unmeasured, measured = map(int, done.stdout.split())
    assert measured == unmeasured


def test_a_machine_is_measured_once(folder: Path) -> None:
    """The first load with a policy that reckons with costs times decodes; the next finds what it learned."""

    def stages(policy: str) -> set[str]:
        heard = set()
        options: dict[str, Any] = {"drafter": folder / "d.gguf", "ctx_size": 192, "threads": 1, "policy": policy}
        dspark_local.load(folder / "t.gguf", progress=lambda stage, _: heard.add(stage), **options).close()
        return heard

    timed = ["measuring this machine" in stages(policy) for policy in ("fixed:2", "auto", "auto", "paper")]
    assert timed == [False, True, False, False]


def test_rounds_say_why(folder: Path) -> None:
    """Each round of the auto policy names its reason, and what it expected of drafting and of plain decoding."""
    with dspark_local.load(folder / "t.gguf", drafter=folder / "d.gguf", ctx_size=256, threads=1) as runtime:
        events = list(runtime.generate("the", max_tokens=60))
    rounds = [e.round for e in events if isinstance(e, dspark_local.RoundDone)]
    assert all(r.rate > 0 and r.plain > 0 for r in rounds if r.why not in {Why.LIMIT, Why.PROMPT})
    assert all((r.drafted > 0) == (r.why in (Why.DRAFT, Why.PROBE)) for r in rounds)


@pytest.mark.parametrize("first", ["pair", "plain"])
def test_a_plain_runtime_shares_the_weights(folder: Path, first: str) -> None:
    """It says the same, drafts nothing, and each lives on when the other is closed."""
    pair = dspark_local.load(folder / "t.gguf", drafter=folder / "d.gguf", ctx_size=256, threads=1, policy="fixed:3")
    plain = pair.plain()
    drafted, undrafted = (r.generate("the", max_tokens=30).result() for r in (pair, plain))
    assert drafted.tokens == undrafted.tokens
    assert drafted.stats.draft_n > 0 == undrafted.stats.draft_n
    one, other = (pair, plain) if first == "pair" else (plain, pair)
    one.close()
    assert other.generate("the", max_tokens=30).result().tokens == drafted.tokens
    other.close()
    with pytest.raises(errors.UsageError, match="no plain one"):
        plain.plain()
    with pytest.raises(errors.ClosedError):
        pair.plain()
    assert pair.vocab.piece(drafted.tokens[0]) is not None  # known already
    with pytest.raises(errors.ClosedError, match="load it again"):
        pair.vocab.encode("the", special=True)  # llama.cpp would abort


def test_a_prompt_longer_than_the_context_is_refused(folder: Path) -> None:
    """At once, with both numbers; and the runtime goes on."""
    with dspark_local.load(folder / "t.gguf", ctx_size=64, threads=1) as runtime:
        room = runtime.info.n_ctx
        with pytest.raises(errors.ContextError, match=f"the context holds {room}"):
            runtime.generate("x " * room)
        finish = runtime.generate([65] * (room - 5)).result()
        assert finish.reason in (dspark_local.FinishReason.CONTEXT, dspark_local.FinishReason.STOP)


def test_a_program_that_forgets_to_close_exits_cleanly(folder: Path) -> None:
    """In the middle of an answer, with exit code 0 and nothing on stderr."""
    script = (
        "import sys, dspark_local\n"
        "runtime = dspark_local.load(sys.argv[1], drafter=sys.argv[2], ctx_size=512, threads=1)\n"
        "print(next(iter(runtime.generate('the', max_tokens=400))))\n"
    )
    command = [sys.executable, "-P", "-c", script, folder / "t.gguf", folder / "d.gguf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("Text", "RoundDone"))
