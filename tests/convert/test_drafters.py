"""Drafters of every layout: converted, run beside their target, and compared with the checkpoint's function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

import dspark_local
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.convert import convert_draft
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.configs import CONFIGS
from tests.convert.drafters import DRAFT_VOCAB, DRAFTS, Draft, pair
from tests.convert.families import Model
from tests.convert.test_families import TOKENS
from tests.real.pairs import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspark_local.backend.llama import LlamaDraft, LlamaTarget
    from dspark_local.formats.inspection import Inspection
    from tests.convert.families import Array


class Function(Protocol):
    """A drafter in numpy."""

    def block(self, features: Array, anchor: int, target: Model) -> tuple[list[int], Array, Array]: ...


def compared(
    model: LlamaTarget,
    drafter: LlamaDraft,
    files: Inspection,
    target: Model,
    draft: Function,
    *,
    sure: float = 0.01,
    tied: Callable[[], bool] = lambda: False,
) -> None:
    """Rows of logits and confidences agree to F16's accuracy, and so do the tokens where they are no ties.

    Confidences are right to within `sure`. `tied` says of the last block whether rounding may choose other experts for
    it, which all of its rows see: few blocks may be so.
    """
    assert files.spec
    assert files.spec.target_layers == (1, 3)
    same, drafted, ties, off = 0, 0, 0, []
    (rows,) = model.decode([Span(0, 0, TOKENS)])
    assert rows.hidden is not None
    hidden = rows.hidden.copy()
    for start in range(1, len(TOKENS)):
        drafter.inject([Features(0, start - 1, hidden[start - 1 : start])])
        (block,) = drafter.draft([Block(0, start, TOKENS[start])], files.spec.n_drafts)
        tokens, logits, confidences = draft.block(hidden[:start].astype(np.float64), TOKENS[start], target)
        assert (block.confidences is None) == (not len(confidences))
        if tied():
            ties += 1
            continue
        picked = list(block.logits.argmax(-1))
        agree = next((k for k, (a, b) in enumerate(zip(picked, tokens, strict=True)) if a != b), len(tokens))
        for k in range(min(agree + 1, len(tokens))):  # behind a difference the chains have other inputs
            reached = np.isfinite(logits[k])
            np.testing.assert_array_equal(block.logits[k] > -1e30, reached)
            difference = block.logits[k][reached] - logits[k][reached]
            far = np.sqrt((difference**2).mean() / (logits[k][reached] ** 2).mean()) > 0.01
            off.append(far or (block.confidences is not None and abs(block.confidences[k] - confidences[k]) > sure))
        same, drafted = same + agree, drafted + min(agree + 1, len(tokens))
    assert not any(off)
    assert ties <= 0.05 * len(TOKENS)
    assert same >= 0.97 * drafted


@pytest.mark.parametrize("kind", DRAFTS)
def test_llama_cpp_drafts_what_the_checkpoint_says(tmp_path: Path, kind: str) -> None:
    """From its own taps of the target, block by block."""
    target, draft, target_path, draft_path = pair(tmp_path, kind)
    with opened(target_path, draft_path, Shape(n_ctx=256, width=len(TOKENS))) as (model, drafter, files):
        compared(model, drafter, files, target, draft)


def test_a_reduced_vocabulary_is_written_as_token_ids(tmp_path: Path) -> None:
    """The checkpoint's d2t is how far a token lies above its row; the file's is the token."""
    _, draft, _, path = pair(tmp_path, "speculators")
    out = GGUF.open(path)
    np.testing.assert_array_equal(out.ints("d2t"), draft.tensors["d2t"] + np.arange(DRAFT_VOCAB))
    assert "token_embd.weight" not in out.tensors
    assert out.meta("dflash.sample_from_anchor") is False


@pytest.mark.parametrize("architecture", ["DFlashDraftModel", "Qwen3DSparkModel"])
def test_a_plain_dflash_drafter_has_no_heads_but_the_target_s(tmp_path: Path, architecture: str) -> None:
    """Whether its makers say so by the architecture, or by a Markov head of rank 0."""
    _, config = DRAFTS["dflash"]
    draft = Draft("dflash", config)
    src = Model("qwen3", CONFIGS["qwen3"]).write(tmp_path / "T")
    checkpoints.write(tmp_path / "D", config | {"architectures": [architecture]}, draft.tensors, tokenized=False)
    out = GGUF.open(convert_draft(tmp_path / "D", src, tmp_path / "d.gguf", type="F16"))
    assert not [name for name in out.tensors if name.startswith(("markov", "conf", "token_embd", "output.w"))]
    assert out.meta("dflash.has_confidence_head") is False
    assert out.meta("dflash.sample_from_anchor") is (architecture == "Qwen3DSparkModel")  # DeepSpec's drafts there


def put(**changes: object) -> Callable[[Draft, dict[str, Any]], None]:
    return lambda _draft, config: config.update(changes)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("deepspec", put(markov_head_type="gated"), "no graph for a gated Markov head"),
        ("deepspec", put(markov_head_type="rnn"), "no graph for a rnn Markov head"),
        ("deepspec", put(architectures=["Qwen3Eagle3Model"]), "no place for its norms of queries and keys"),
        ("deepspec", put(architectures=["Gemma4Eagle3Model"]), "no place for its norms of queries and keys"),
        (
            "deepspec",
            put(architectures=["LlamaForCausalLMEagle3"]),
            "an Eagle3 drafter, which dspark-local",
        ),
        ("deepspec", put(architectures=["DFlash2DraftModel"]), "DFlash2 drafter"),
        ("deepspec", put(target_layer_ids=[0, 3]), "below the target's last"),
        ("deepspec", put(block_size="seven"), "block_size must be"),
        ("deepspec", put(use_sliding_window=True), "use_sliding_window is not converted"),
        ("deepspec", put(draft_vocab_size=9999), "more than vocab_size"),
        ("deepspec", put(draft_vocab_size=100), "no d2t"),
        ("speculators", put(aux_hidden_state_layer_ids=[0, 3]), "aux_hidden_state_layer_ids must name"),
        ("speculators", put(draft_vocab_size=100), "has shape"),
        ("speculators", lambda d, _: d.tensors.update(d2t=np.full(DRAFT_VOCAB, -5)), "d2t maps two rows"),
        ("speculators", lambda d, _: d.tensors.update(d2t=np.zeros(DRAFT_VOCAB, np.float32)), "whole numbers"),
        ("speculators", lambda d, _: d.tensors.pop("lm_head.weight"), "lacks lm_head.weight"),
        ("gemma4", put(attention_k_eq_v=False), "attention_k_eq_v"),
        ("gemma4", put(layer_types=["sliding_attention"] * 2), "full_attention"),
        ("gemma4", put(final_logit_softcapping=30.0), "final_logit_softcapping"),
    ],
)
def test_what_has_no_graph_or_does_not_fit_is_one_sentence(
    tmp_path: Path, kind: str, change: Callable[[Draft, dict[str, Any]], None], says: str
) -> None:
    """And nothing is left."""
    family, config = DRAFTS[kind]
    config, draft = dict(config), Draft(kind, config)
    change(draft, config)
    src = Model(family, CONFIGS[family]).write(tmp_path / "T")
    checkpoints.write(tmp_path / "D", config, draft.tensors, tokenized=False)
    with pytest.raises(ConvertError, match=says) as raised:
        convert_draft(tmp_path / "D", src, tmp_path / "d.gguf", type="F16")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize("kind", ["speculators", "gemma4"])
def test_the_pair_runs_and_changes_nothing(tmp_path: Path, kind: str) -> None:
    """Loaded as a user would, drafting in every round, the text is the target's own."""
    _, _, target, draft = pair(tmp_path, kind)
    texts = []
    for drafter in (str(draft), "none"):
        policy = "plain" if drafter == "none" else "fixed:3"
        with dspark_local.load(
            target, drafter=drafter, policy=policy, fixed_width=4, ctx_size=256, threads=1
        ) as runtime:
            answer = runtime.generate("the thing", max_tokens=24).result()
            assert (answer.stats.draft_n > 0) == (drafter != "none")
            texts.append(answer.tokens)
    assert texts[0] == texts[1]
