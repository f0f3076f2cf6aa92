"""`dspark-local run`."""

from __future__ import annotations

import io
import json
import math
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from dspark_local.cli import answer
from dspark_local.testing import scripted_runtime
from dspark_local.types import SamplingParams

from .conftest import ANSWER

if TYPE_CHECKING:
    from dspark_local.events import Event

    from .conftest import Call, Command

STATS = {
    "seed",
    "prompt_n",
    "predicted_n",
    "first_n",
    "draft_n",
    "draft_n_accepted",
    "accepted_by",
    "rounds",
    "accepted_length",
    "accepted_per_position",
    "mean_width",
    "tokens_per_second",
    "seconds",
}


def scripted(monkeypatch: pytest.MonkeyPatch, answer: str, **options: object) -> None:
    monkeypatch.setattr("dspark_local.cli.options.load", lambda *_, **__: scripted_runtime(answer, **options))


@pytest.mark.usefixtures("loads")
def test_text_goes_to_stdout_and_one_line_of_figures_to_stderr(dspark: Command) -> None:
    """Standard output has the answer and nothing else."""
    done = dspark("run", "demo", "Hi")
    assert done.code == 0
    assert done.out == ANSWER + "\n"
    assert done.err.count("\n") == 1
    assert f"{len(ANSWER) + 1} tokens" in done.err
    assert "(target's own token included)" in done.err
    assert "seed" not in done.err


@pytest.mark.usefixtures("loads")
def test_a_drawn_seed_is_told_when_it_matters(dspark: Command) -> None:
    """Above temperature 0 the statistics line names the seed, drawn or chosen."""
    assert "· seed 7" in dspark("run", "demo", "Hi", "--temperature", "0.7", "--seed", "7").err
    assert "· seed " in dspark("run", "demo", "Hi", "--temperature", "0.7").err


def test_json_is_one_object_with_the_promised_keys(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find text, thinking, tokens, finish_reason and stats, and nothing else on standard output."""
    scripted(monkeypatch, "<think>hm</think>Yes.")
    done = dspark("run", "demo", "Hi", "--json", "--seed", "3")
    said = json.loads(done.out)
    assert done.code == 0
    assert done.err == ""
    assert set(said) == {"text", "thinking", "tokens", "finish_reason", "stats"}
    assert (said["text"], said["thinking"], said["finish_reason"]) == ("Yes.", "hm", "stop")
    stats = said["stats"]
    assert set(stats) == STATS
    assert stats["seed"] == 3
    assert stats["predicted_n"] == len(said["tokens"])
    assert stats["draft_n_accepted"] <= stats["draft_n"]
    assert stats["accepted_length"] == (stats["predicted_n"] - stats["first_n"]) / stats["rounds"]
    assert set(stats["seconds"]) == {"prefill", "inject", "draft", "verify", "host", "total"}
    parts = [v for k, v in stats["seconds"].items() if k != "total"]
    assert stats["seconds"]["total"] == pytest.approx(sum(parts))


@pytest.mark.usefixtures("loads")
def test_logprobs_stand_in_the_json(dspark: Command) -> None:
    """One for each token, with its text and bytes and the likeliest others, as OpenAI's API names them."""
    said = json.loads(dspark("run", "demo", "Hi", "--json", "--logprobs", "2").out)
    assert [entry["id"] for entry in said["logprobs"]] == said["tokens"]
    first = said["logprobs"][0]
    assert (first["token"], first["bytes"]) == ("A", [65])
    assert first["logprob"] <= 0
    assert first["top_logprobs"][0] == {k: v for k, v in first.items() if k != "top_logprobs"}
    assert len(first["top_logprobs"]) == 2


def test_what_is_not_given_is_the_models_own(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of temperature 1 draws, so the statistics name the seed; an option goes over it."""
    runtimes = []

    def load(*_: object, **__: object) -> object:
        runtimes.append(scripted_runtime())
        runtimes[-1].preset = SamplingParams(temperature=1, top_k=20, top_p=0.9)
        return runtimes[-1]

    monkeypatch.setattr("dspark_local.cli.options.load", load)
    assert "· seed " in dspark("run", "demo", "Hi").err
    assert runtimes[-1].preset == SamplingParams(temperature=1, top_k=20, top_p=0.9)
    assert "seed" not in dspark("run", "demo", "Hi", "--temperature", "0", "--top-k", "5", "--logit-bias", "3-inf").err
    assert runtimes[-1].preset == SamplingParams(top_k=5, top_p=0.9, logit_bias=((3, -math.inf),))


def test_thinking_stays_off_stdout(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is no terminal, thinking is dropped."""
    scripted(monkeypatch, "<think>hm</think>Yes.")
    done = dspark("run", "demo", "Hi")
    assert done.out == "Yes.\n"
    assert "hm" not in done.err


@pytest.mark.usefixtures("loads")
def test_a_dash_reads_stdin(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 become replacement characters."""
    asked: list[str] = []
    monkeypatch.setattr(
        "dspark_local.cli.options.Options.messages",
        lambda _self, prompt: asked.append(prompt) or [{"role": "user", "content": prompt}],
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Wie geht's? ü\n".encode() + b"\xff\n")))
    assert dspark("run", "demo", "-").code == 0
    assert asked == ["Wie geht's? ü\n�"]


def test_raw_sends_the_prompt_without_a_template(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt's tokens are those of the text itself."""
    scripted(monkeypatch, "abc")
    raw = json.loads(dspark("run", "demo", "assistant: ", "--raw", "--json").out)
    assert raw["stats"]["prompt_n"] == len("assistant: ")
    assert raw["text"] == "abc"


def test_interrupting_json_still_gives_an_object(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves an object that says what there is and why it ended, and exit code 130."""
    scripted(monkeypatch, "word " * 200, seconds=0.01)
    take, seen = answer._Json.take, []

    def interrupted(page: answer._Json, event: Event) -> None:
        take(page, event)
        seen.append(event)
        if len(seen) == 10:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(answer._Json, "take", interrupted)
    done = dspark("run", "demo", "Hi", "--json")
    said = json.loads(done.out)
    assert done.code == 130
    assert said["finish_reason"] == "cancelled"
    assert ("word " * 200).startswith(said["text"])


def test_stop_cuts_the_text(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of several stop strings ends the answer before itself."""
    scripted(monkeypatch, "one two three")
    assert dspark("run", "demo", "Hi", "--stop", "zzz", "--stop", " two").out == "one\n"


@pytest.mark.usefixtures("loads")
def test_a_limit_is_named(dspark: Command) -> None:
    """An answer that was cut says so, and why."""
    done = dspark("run", "demo", "Hi", "--max-tokens", "3")
    assert done.out == ANSWER[:3] + "\n"
    assert "cut at --max-tokens" in done.err


def test_options_reach_the_loader(dspark: Command, loads: list[Call]) -> None:
    """Each of them under the loader's own name."""
    arguments = ["--drafter", "d.gguf", "--policy", "fixed:5", "--fixed-width", "--ctx-size", "512", "--threads", "1"]
    dspark("run", "some.gguf", "Hi", *arguments, "--gpu-layers", "0", "--draft-candidates", "backend")
    (call,) = loads
    assert call.model == "some.gguf"
    del call.options["progress"]
    assert call.options == {
        "drafter": "d.gguf",
        "policy": "fixed:5",
        "draft_candidates": "backend",
        "fixed_width": 4,
        "ctx_size": 512,
        "slots": 1,
        "max_waiting": None,
        "threads": 1,
        "gpu_layers": 0,
        "keep_bytes": None,
        "rpc": None,
        "remeasure": False,
    }


def test_no_draft_loads_no_drafter(dspark: Command, loads: list[Call]) -> None:
    """And the defaults are the loader's automatic ones."""
    dspark("run", "demo", "Hi", "--no-draft")
    dspark("run", "demo", "Hi")
    assert [c.options["drafter"] for c in loads] == ["none", "auto"]
    assert [c.options["fixed_width"] for c in loads] == [None, None]
