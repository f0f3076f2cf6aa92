"""Every row of the registry at tiny size: its architecture with its published config, its kind of drafter, lossless.

Weights are random, so nothing is said of speed or of acceptance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dspark_local
from dspark_local import SamplingParams
from dspark_local.backend import taps
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.convert import convert_draft, convert_target
from dspark_local.formats.inspection import inspect_files
from dspark_local.models import registry
from tests.convert import checkpoints
from tests.convert.configs import CONFIGS, WINDOW
from tests.convert.drafters import DRAFTS, Draft
from tests.convert.families import Model
from tests.convert.test_families import TOKENS
from tests.formats import hybrids
from tests.real.hybrids import pair
from tests.real.pairs import opened

if TYPE_CHECKING:
    from pathlib import Path

# The family of tests/convert/configs.py that a row's architecture and keys are those of.
ROWS = {
    "demo": "qwen3",
    "qwen3-4b": "qwen3",
    "qwen3-8b": "qwen3",
    "qwen3-14b": "qwen3",
    "gemma-2-27b": "gemma2",
    "gemma-4-12b": "gemma4",
    "gemma-4-31b": "gemma4",
    "qwen2.5-72b": "qwen2",
    "llama-3-8b": "llama3",
    "llama-3-70b": "llama3",
    "mistral-7b": "mistral",
    "deepseek-v4-flash": "deepseek4",  # these are of tests/formats/hybrids.py
    "deepseek-v4-pro": "deepseek4",
    "lfm2.5-1.2b": "lfm2",
    "lfm2.5-2.6b": "lfm2",
    "lfm2.5-8b-a1b": "lfm2moe",
}
KINDS = sorted({(family, kind) for name, family in ROWS.items() for kind in registry.row(name).kinds})
SECOND = {"gemma2", "gemma3", "qwen2"}  # whose graphs do not fill llama.cpp's own taps


def dspark(folder: Path, family: str) -> tuple[Model, Draft, Path, Path]:
    """A target of the family, and a DSpark drafter for it with layers of its own kind."""
    kind = "gemma4" if family == "gemma4" else "deepspec"
    target, draft = Model(family, CONFIGS[family]), Draft(kind, DRAFTS[kind][1])
    src = target.write(folder / "T")
    checkpoints.write(folder / "D", draft.published, draft.tensors, tokenized=False)
    path = convert_target(src, folder / "T-F16.gguf", type="F16")
    return target, draft, path, convert_draft(folder / "D", src, folder / "dspark-T-F16.gguf", type="F16")


def dflash(folder: Path, family: str) -> tuple[Path, Path]:
    """A target of the family, and a drafter without the Markov head."""
    published = DRAFTS["deepspec"][1]
    draft = Draft("deepspec", published)
    tensors = {n: t for n, t in draft.tensors.items() if "markov" not in n and "confidence" not in n}
    config = {k: v for k, v in published.items() if "markov" not in k} | {"architectures": ["DFlashDraftModel"]}
    src = Model(family, CONFIGS[family]).write(folder / "T")
    checkpoints.write(folder / "D", config, tensors, tokenized=False)
    path = convert_target(src, folder / "T-F16.gguf", type="F16")
    return path, convert_draft(folder / "D", src, folder / "dflash-T-F16.gguf", type="F16")


def small(folder: Path, family: str) -> tuple[Path, Path]:
    """A target of the family, and a smaller model of the same."""
    config = CONFIGS[family]
    text = config.get("text_config", config)
    fewer = {**text, "num_hidden_layers": 2, "intermediate_size": 64}
    if "layer_types" in fewer:
        fewer["layer_types"] = fewer["layer_types"][-2:]
    shrunk: dict[str, Any] = {**config, "text_config": fewer} if "text_config" in config else fewer
    paths = []
    for name, c in (("T", config), ("S", shrunk)):
        src = Model(family, c).write(folder / name)
        paths.append(convert_target(src, folder / f"{name}-F16.gguf", type="F16"))
    return paths[0], paths[1]


def test_every_row_is_accounted_for() -> None:
    """A new row names the config that exercises it."""
    assert set(registry.rows()) == set(ROWS)


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_a_row_loads_with_its_kind_of_drafter_and_is_lossless(tmp_path: Path, family: str, kind: str) -> None:
    """Token for token over windows' lengths, with as many rewinds, greedy and drawn."""
    drafter: Path | str
    if family in hybrids.TARGETS:
        target, drafter = pair(tmp_path, family)
    elif kind == "dspark":
        _, _, target, drafter = dspark(tmp_path, family)
    elif kind == "dflash":
        target, drafter = dflash(tmp_path, family)
    elif kind == "model":
        target, drafter = small(tmp_path, family)
    else:
        src = Model(family, CONFIGS[family]).write(tmp_path / "T")
        target, drafter = convert_target(src, tmp_path / "t.gguf", type="F16"), "lookup"
    prompts = [TOKENS[:9], TOKENS[:5] * 3]

    def texts(drafts: Path | str) -> tuple[list[tuple[int, ...]], int]:
        options: dict[str, Any] = {"policy": "fixed:3", "fixed_width": 4, "ctx_size": 192, "threads": 1}
        with dspark_local.load(target, drafter=drafts, **options) as runtime:
            assert runtime.info.drafter == ("none" if drafts == "none" else kind)
            done = [
                runtime.generate(p, SamplingParams(temperature=t, seed=3), max_tokens=5 * WINDOW).result()
                for t in (0.0, 0.9)
                for p in prompts
            ]
        return [d.tokens for d in done], sum(d.stats.draft_n - d.stats.draft_n_accepted for d in done)

    plain, _ = texts("none")
    drafted, rewound = texts(drafter)
    assert drafted == plain
    assert rewound > 0


@pytest.mark.parametrize("family", [*sorted(SECOND), "mistral", "llama3", "qwen3", "gemma4"])
def test_a_dspark_drafter_reads_what_the_layers_are_given(tmp_path: Path, family: str) -> None:
    """Tapped rows are the inputs of the published function's layers, and drafts are those of the reference."""
    target, draft, target_path, draft_path = dspark(tmp_path, family)
    assert (inspect_files(target_path).target.arch in taps.BUILT_IN) == (family not in SECOND)
    target.forward(TOKENS)
    same = drafted = 0
    with opened(target_path, draft_path, Shape(n_ctx=256, width=len(TOKENS))) as (model, drafter, files):
        assert files.spec
        (rows,) = model.decode([Span(0, 0, TOKENS)])
        assert rows.hidden is not None
        hidden = rows.hidden.copy()
        for k, layer in enumerate(files.spec.target_layers):
            want = target.inputs[layer]
            got = hidden[:, k * want.shape[1] : (k + 1) * want.shape[1]]
            assert np.sqrt(((got - want) ** 2).mean() / (want**2).mean()) < 0.005
        for start in range(1, len(TOKENS)):
            drafter.inject([Features(0, start - 1, hidden[start - 1 : start])])
            (block,) = drafter.draft([Block(0, start, TOKENS[start])], files.spec.n_drafts)
            tokens, _, _ = draft.block(hidden[:start].astype(np.float64), TOKENS[start], target)
            picked = list(block.logits.argmax(-1))
            agree = next((k for k, (a, b) in enumerate(zip(picked, tokens, strict=True)) if a != b), len(tokens))
            same, drafted = same + agree, drafted + min(agree + 1, len(tokens))
    assert same >= 0.97 * drafted


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gemma4"])
def test_a_window_is_rewound_past_its_end(tmp_path: Path, family: str) -> None:
    """Rejected drafts, three windows deep and longer than one, leave nothing behind: logits are the function's."""
    target, _, target_path, draft_path = dspark(tmp_path, family)
    wrong = [(t + 1) % 250 for t in TOKENS]
    with opened(target_path, draft_path, Shape(n_ctx=256, width=2 * WINDOW)) as (model, _, _):
        model.decode([Span(0, 0, TOKENS[: 3 * WINDOW], outputs=0)])
        at, found = 3 * WINDOW, []
        while at < len(TOKENS):
            (rows,) = model.decode([Span(0, at, [TOKENS[at], *wrong[: 2 * WINDOW - 1]])])
            found.append(rows.logits[0].copy())
            at += 1
            model.rewind(0, at)
    expected = target.forward(TOKENS)[3 * WINDOW :]
    error = np.sqrt(((np.array(found) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.005, error


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gemma4"])
def test_slots_with_a_window_leave_each_others_beginnings_alone(tmp_path: Path, family: str) -> None:
    """Requests of several slots, one of which goes back far behind its end, say what each says alone."""
    src = Model(family, CONFIGS[family]).write(tmp_path / "T")
    target = convert_target(src, tmp_path / "t.gguf", type="F16")
    a, b = [t % 250 + 1 for t in range(96)], [(7 * t) % 250 + 1 for t in range(96)]
    greedy = SamplingParams(logprobs=0)

    def said(*, slots: int) -> list[list[float]]:
        options: dict[str, Any] = {"drafter": "none", "ctx_size": 256, "threads": 1, "keep_bytes": 0}
        answers = []
        with dspark_local.load(target, slots=slots, **options) as runtime:
            for prompts in ([a, b], [a[:60], b], [b[:30], a[:96]]) * 2:
                running = [runtime.generate(p, greedy, max_tokens=40) for p in prompts]
                answers += [[entry.logprob for entry in g.result().logprobs] for g in running]
        return answers

    for ours, alone in zip(said(slots=2), said(slots=1), strict=True):
        np.testing.assert_allclose(ours[:8], alone[:8], atol=0.02)
