"""The command as a whole, on tiny random targets: the same seed, a kill, other architectures, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, an extra")

from safetensors.numpy import load_file  # noqa: E402 - after the skip

from dspark_local import SamplingParams, load  # noqa: E402
from dspark_local.cli.main import main  # noqa: E402
from dspark_local.convert import convert_target  # noqa: E402
from dspark_local.errors import TrainingError, UsageError  # noqa: E402
from dspark_local.formats.gguf import GGUF  # noqa: E402
from dspark_local.models.locations import find  # noqa: E402
from dspark_local.training.answers import Asking  # noqa: E402
from dspark_local.training.plan import Plan  # noqa: E402
from dspark_local.training.schedule import Schedule  # noqa: E402
from dspark_local.training.train import train  # noqa: E402
from tests.convert.configs import CONFIGS  # noqa: E402
from tests.convert.families import Model  # noqa: E402
from tests.formats import tiny  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = Plan(
    schedule=Schedule(steps=6, tokens=256, anchors=4, interval=2, patience=99),
    asking=Asking(max_tokens=24, sampled=1.0),
    slots=4,
    kept="f32",
    threads=1,
)


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt number {i}\n" for i in range(8)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    keys = {"tokenizer__chat_template": (tiny.STR, "{% for m in messages %}{{ m.content }}{% endfor %}")}
    return tiny.target(kind=tiny.F16).with_keys(**keys).write(tmp_path / "tiny-F16.gguf")


def run(
    target: Path, asked: Path, folder: Path, plan: Plan = PLAN, progress: Callable[[str, float], None] = lambda *_: None
) -> Path:
    file = folder.with_suffix(".gguf")
    return train(str(target), [asked], folder, replace(plan, file=file), tell=lambda _: None, progress=progress)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "resume.safetensors")


def same(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert (one / "answers.jsonl").read_bytes() == (other / "answers.jsonl").read_bytes()


def at(stage: str, n: int) -> Callable[[str, float], None]:
    """A progress that kills the run at the n-th report of a stage."""
    heard = [0]

    def progress(now: str, _share: float) -> None:
        heard[0] += now == stage
        if heard[0] == n:
            raise Killed

    return progress


@pytest.mark.parametrize("kept", ["f32", "bf16"])
def test_the_same_seed_gives_the_same_weights_and_a_kill_changes_nothing(
    tmp_path: Path, target: Path, asked: Path, kept: str
) -> None:
    """To the bit: run twice, and killed while asking, between two checkpoints, and at one."""
    plan = replace(PLAN, kept=kept)  # type: ignore[arg-type]
    run(target, asked, tmp_path / "one", plan)
    assert any(np.any(array) for name, array in weights(tmp_path / "one").items() if "markov_w2" in name)
    for stage, n in (("asking the target", 5), ("training", 3), ("training", 1)):
        with pytest.raises(Killed):
            run(target, asked, tmp_path / "killed", plan, at(stage, n))
    run(target, asked, tmp_path / "killed", plan)
    same(tmp_path / "one", tmp_path / "killed")
    assert (tmp_path / "one.gguf").read_bytes()[-4096:] == (tmp_path / "killed.gguf").read_bytes()[-4096:]


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_one_that_was_not(tmp_path: Path, target: Path, asked: Path) -> None:
    """By the system, at random moments of asking, reading, training and writing."""
    options = ["--max-tokens", "24", "--sampled", "1", "--steps", "40", "--interval", "4", "--threads", "1"]
    command = [sys.executable, "-m", "dspark_local.cli.main", "train", str(target), "--prompts", str(asked), *options]

    def given(name: str) -> list[str]:
        return [*command, "--out", str(tmp_path / name), "--file", str(tmp_path / f"{name}.gguf")]

    began = time.monotonic()
    done = subprocess.run(given("one"), check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = time.monotonic() - began
    rng = random.Random(1)
    for _ in range(20):
        with contextlib.suppress(subprocess.TimeoutExpired):  # which kills it
            patience = rng.uniform(0.3, 0.9) * whole
            subprocess.run(given("killed"), check=True, capture_output=True, cwd=tmp_path, timeout=patience)
    subprocess.run(given("killed"), check=True, capture_output=True, cwd=tmp_path)
    same(tmp_path / "one", tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("**/*.part"))


def test_another_seed_or_option_is_another_run(tmp_path: Path, target: Path, asked: Path) -> None:
    run(target, asked, tmp_path / "one")
    with pytest.raises(UsageError, match="holds a run with other options"):
        run(target, asked, tmp_path / "one", replace(PLAN, schedule=replace(PLAN.schedule, rate=0.5)))
    with pytest.raises(UsageError, match="answers of another target"):
        run(target, asked, tmp_path / "one", replace(PLAN, asking=replace(PLAN.asking, seed=2)))


def test_states_that_are_read_again_give_the_same_weights(tmp_path: Path, target: Path, asked: Path) -> None:
    """A cache that holds a few texts only costs time and nothing else, as far as the shards are the same."""
    small = 8 * 60 * 2 * tiny.N_EMBD * 4
    tell: list[str] = []
    for name, cap in (("small", small), ("again", small)):
        plan = replace(PLAN, cache=cap, file=tmp_path / f"{name}.gguf")
        train(str(target), [asked], tmp_path / name, plan, tell=tell.append, progress=lambda *_: None)
    same(tmp_path / "small", tmp_path / "again")
    assert list((tmp_path / "small" / "states").iterdir()) == []


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gemma3", "mistral", "llama3", "gemma4"])
def test_every_architecture_is_trained_for_and_runs(tmp_path: Path, asked: Path, family: str) -> None:
    """Built-in taps or the callback, soft-capped and scaled heads: drafts are verified, the text is the target's."""
    path = convert_target(Model(family, CONFIGS[family]).write(tmp_path / family), tmp_path / "t-F16.gguf", type="F16")
    trained = run(path, asked, tmp_path / "out")
    sampling = SamplingParams(temperature=1.0, seed=5)
    said = []
    for drafter in (trained, "none"):
        with load(path, drafter=drafter, policy="fixed:3", fixed_width=4, ctx_size=128, threads=1) as runtime:
            said.append(runtime.generate("prompt number 1", sampling, max_tokens=24).result())
    assert said[0].tokens == said[1].tokens
    assert said[0].stats.draft_n > 0


def test_training_lowers_the_loss_and_fine_tuning_goes_on_from_there(tmp_path: Path, target: Path, asked: Path) -> None:
    """A second run that starts from the first's file starts about where that ended."""
    schedule = replace(PLAN.schedule, steps=60, interval=10)
    plan = replace(PLAN, schedule=schedule, file=tmp_path / "first.gguf", type="F16")
    heard: list[str] = []
    talk = partial(train, str(target), [asked], tell=heard.append, progress=lambda *_: None)
    first = talk(tmp_path / "first", plan)
    began, *_, ended = losses(heard)
    heard.clear()
    talk(tmp_path / "more", replace(plan, finetune=first, file=tmp_path / "more.gguf"))
    assert ended < began - 0.1
    assert losses(heard)[0] < (began + ended) / 2


def losses(heard: list[str]) -> list[float]:
    return [float(line.split("loss ")[1].split(",")[0]) for line in heard if "loss" in line]


def test_a_pair_is_registered_by_name(
    tmp_path: Path, target: Path, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lies beside the target, is found there, and the name loads both."""
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_: str(tmp_path / "config"))
    plan = replace(PLAN, name="my-pair")
    for folder in ("out", "again"):  # the same files under the same name once more are the same
        train(str(target), [asked], tmp_path / folder, plan, tell=lambda _: None, progress=lambda *_: None)
    assert (tmp_path / "dspark-tiny-F16-Q8_0.gguf").is_file()
    for model in ("my-pair", str(target)):
        assert find(model).drafter == tmp_path / "dspark-tiny-F16-Q8_0.gguf"
        with load(model, policy="fixed:2", ctx_size=128, threads=1) as runtime:
            assert runtime.generate("prompt", SamplingParams(), max_tokens=8).result().stats.draft_n


def test_a_loss_that_is_no_number_is_one_line(tmp_path: Path, target: Path, asked: Path) -> None:
    plan = replace(PLAN, schedule=replace(PLAN.schedule, rate=1e30))
    with pytest.raises(TrainingError, match="the loss is no number any more at step 2"):
        run(target, asked, tmp_path / "out", plan)


def test_wrong_starts_are_refused(tmp_path: Path, target: Path, asked: Path) -> None:
    own = tiny.draft(own_heads=True).write(tmp_path / "own.gguf")
    with pytest.raises(UsageError, match="a head or an embedding of its own"):
        run(target, asked, tmp_path / "out", replace(PLAN, finetune=own))
    with pytest.raises(UsageError, match="give --to F16"):
        run(target, asked, tmp_path / "out", replace(PLAN, rank=40, type="Q8_0"))
    first = run(target, asked, tmp_path / "first")
    plan = replace(PLAN, finetune=first, file=first)
    with pytest.raises(UsageError, match="name another file"):
        train(str(target), [asked], tmp_path / "more", plan, tell=lambda _: None, progress=lambda *_: None)


@pytest.mark.parametrize(
    ("prompts", "said"), [("", "holds no prompt"), ("one\ntwo\n", "at least 4"), (None, "No such file")]
)
def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], prompts: str | None, said: str
) -> None:
    path = tmp_path / "p.txt"
    if prompts is not None:
        path.write_text(prompts)
    code = main(["train", str(target), "--prompts", str(path), "--out", str(tmp_path / "out"), "--threads", "1"])
    assert code == 2
    line = capsys.readouterr().err.strip().splitlines()
    assert len(line) == 1
    assert said in line[0]


def test_the_command_line_trains_and_evaluates(
    tmp_path: Path, target: Path, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max-tokens", "24", "--sampled", "1", "--steps", "2", "--threads", "1", "--slots", "4"]
    assert main(["train", str(target), "--prompts", str(asked), "--out", str(tmp_path / "out"), *options]) == 0
    file = capsys.readouterr().out.strip()
    assert GGUF.open(file).arch == "dflash"
    found = tmp_path / "found.json"
    options = ["--suite", str(asked), "--limit", "2", "--max-tokens", "16", "--threads", "1", "--json", str(found)]
    assert main(["eval", str(target), *options, "--temperature", "1"]) == 0
    assert "Accepted length" in capsys.readouterr().out
    (task,) = json.loads(found.read_text())["tasks"]
    assert (task["task"], task["answers"]) == ("prompts", 2)
