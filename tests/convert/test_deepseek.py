"""DeepSeek-V4's DSpark drafters: stages of the target's checkpoint, run beside a target of their width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.base import Shape
from dspark_local.convert import convert_draft, convert_target
from dspark_local.convert.copying import copy_keys
from dspark_local.convert.writer import write
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.pair import check_pair
from tests.convert.deepseek import DRAFT_SHARD, EXPERTS, HIDDEN, STAGES, TARGET, TARGET_SHARD, Drafter
from tests.convert.families import Model
from tests.convert.test_drafters import compared
from tests.convert.test_families import TOKENS
from tests.real.pairs import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gguf import GGUFWriter

    from tests.convert.deepseek import Stored

TIE = 1e-3  # in a gate's scores, which are around 1


def target_of(folder: Path) -> tuple[Model, Path]:
    target = Model("qwen3", TARGET)
    return target, convert_target(target.write(folder / "T"), folder / "T-F16.gguf", type="F16")


@pytest.mark.parametrize("fp8", [True, False], ids=["fp8", "mxfp4"])
def test_llama_cpp_drafts_what_the_checkpoint_says(tmp_path: Path, fp8: bool) -> None:
    """Block logits, confidences and tokens, by experts of either type."""
    drafter = Drafter(fp8=fp8)
    target, path = target_of(tmp_path)
    draft = convert_draft(drafter.write(tmp_path / "D"), path, tmp_path / "d.gguf", type="F32")
    with opened(path, draft, Shape(n_ctx=256, width=len(TOKENS))) as (model, running, files):
        # rounded keys and values go through three stages of experts: a confidence is off by 0.0122 at most on Zen 3
        compared(model, running, files, target, drafter, sure=0.015, tied=lambda: drafter.lead < TIE)


@pytest.mark.parametrize("fp8", [True, False], ids=["fp8", "mxfp4"])
def test_numbers_are_those_of_the_bytes(tmp_path: Path, fp8: bool) -> None:
    """FP8 times the scale of its tile, tiles at the edges too; MXFP4 codes are kept, whatever the others become."""
    drafter, told = Drafter(fp8=fp8), []
    _, path = target_of(tmp_path)
    src = drafter.write(tmp_path / "D")
    out = GGUF.open(convert_draft(src, path, tmp_path / "d.gguf", type="BF16", tell=lambda *what: told.append(what)))
    for ours, theirs in (
        ("fc.weight", "mtp.0.main_proj.weight"),
        ("blk.1.attn_q_b.weight", "mtp.1.attn.wq_b.weight"),
        ("blk.2.attn_output_a.weight", "mtp.2.attn.wo_a.weight"),
        ("blk.2.ffn_down_shexp.weight", "mtp.2.ffn.shared_experts.w2.weight"),
        ("blk.0.hc_ffn_fn.weight", "mtp.0.hc_ffn_fn"),
        ("markov_w2.weight", f"mtp.{STAGES - 1}.markov_head.markov_w2.weight"),
    ):
        np.testing.assert_array_equal(out.rows(ours, slice(None)), drafter.w(theirs))
    for i in range(STAGES):
        for ours, theirs in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
            name = f"blk.{i}.ffn_{ours}_exps.weight"
            want = np.stack([drafter.w(f"mtp.{i}.ffn.experts.{e}.{theirs}.weight") for e in range(EXPERTS)])
            np.testing.assert_array_equal(out.rows(name, slice(None)).reshape(want.shape), want)
            assert out.tensors[name].type.name == ("BF16" if fp8 else "MXFP4")
            assert ((name, "MXFP4", 0.0) in told) is not fp8


def test_it_takes_head_and_embedding_from_its_target(tmp_path: Path) -> None:
    """They lie in the same checkpoint, and are the target's."""
    _, path = target_of(tmp_path)
    out = GGUF.open(convert_draft(Drafter(fp8=False).write(tmp_path / "D"), path, tmp_path / "d.gguf", type="Q4_0"))
    assert not {"token_embd.weight", "output.weight"} & set(out.tensors)
    assert out.meta("dflash.block_count") == STAGES


def test_the_target_s_own_shards_are_not_needed(tmp_path: Path) -> None:
    """They are a hundred gigabytes; a shard with stages is."""
    _, path = target_of(tmp_path)
    src = Drafter(fp8=False).write(tmp_path / "D")
    whole = convert_draft(src, path, tmp_path / "whole.gguf", type="Q8_0")
    (src / TARGET_SHARD).unlink()
    part = convert_draft(src, path, tmp_path / "part.gguf", type="Q8_0")
    assert part.read_bytes() == whole.read_bytes()
    (src / DRAFT_SHARD).unlink()
    with pytest.raises(ConvertError, match=f"lacks {TARGET_SHARD}"):
        convert_draft(src, path, tmp_path / "d.gguf", type="Q8_0")


def test_what_the_last_layer_puts_out_is_tapped_where_llama_cpp_gives_it(tmp_path: Path) -> None:
    """DeepSeek-V4's drafters want it, and its graph has it; other targets' have not."""
    src = Drafter(fp8=False).write(tmp_path / "D", dspark_target_layer_ids=[0, 3])
    _, path = target_of(tmp_path)
    tokenizer = GGUF.open(path)
    with pytest.raises(ConvertError, match="below the target's last"):
        convert_draft(src, path, tmp_path / "d.gguf", type="Q8_0")

    def keys(writer: GGUFWriter) -> None:
        copy_keys(tokenizer, writer, lambda key: key.startswith("tokenizer."))
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(4)

    path = write(tmp_path / "v4.gguf", "deepseek4", keys, [], None)
    out = GGUF.open(convert_draft(src, path, tmp_path / "d.gguf", type="Q8_0"))
    assert out.meta("dflash.target_layers") == (1, 4)
    assert check_pair(GGUF.open(path), out).target_layers == (1, 4)


def cut(*ends: str) -> Callable[[Stored], object]:
    """Without the stages' tensors of these ends."""
    return lambda stored: [stored.pop(name) for name in list(stored) if name[:4] == "mtp." and name.endswith(ends)]


def put(name: str, dtype: str, array: np.ndarray) -> Callable[[Stored], object]:
    return lambda stored: stored.update({name: (dtype, array)})


def whole(_stored: Stored) -> None:
    """Nothing is changed."""


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (cut("mtp.1.ffn.experts.3.w2.weight", "mtp.1.ffn.experts.3.w2.scale"), {}, "lacks layers.1.ffn.experts.3.w2"),
        (cut("mtp.0.attn.wkv.scale"), {}, "wkv.weight is of type F8_E4M3"),
        (cut("mtp.0.attn.wkv.weight"), {}, "lacks layers.0.attn.wkv.weight"),
        (put("mtp.0.attn.wkv.scale", "F8_E8M0", np.ones((1, 1), np.uint8)), {}, "do not fit together"),
        (put("mtp.0.attn.wkv.scale", "F8_E8M0", np.full((1, 2), 255, np.uint8)), {}, "holds NaN"),
        (put("mtp.0.attn.wkv.weight", "F8_E4M3", np.full((64, 192), 127, np.uint8)), {}, "holds NaN"),
        (put("mtp.0.ffn.experts.0.w1.scale", "F8_E8M0", np.full((160, 6), 255, np.uint8)), {}, "hold NaN"),
        (put("mtp.1.ffn.gate.tid2eid", "I32", np.ones((4, 2), np.int32)), {}, "tid2eid, which this family"),
        (whole, {"dspark_block_size": None}, "no DSpark drafter: its config.json has no dspark_block_size"),
        (cut("weight", "scale", "fn", "base", "sink", "bias", "vl"), {}, "no tensors named mtp"),
        (whole, {"hc_mult": 2}, "only for hc_mult 4"),
        (whole, {"scoring_func": "sigmoid"}, "no scoring_func 'sigmoid'"),
        (whole, {"o_groups": 3}, "divide into o_groups"),
        (whole, {"num_experts_per_tok": 7}, "more than n_routed_experts"),
        (whole, {"n_routed_experts": 5}, "experts.5.w1.weight and 8 more"),
        (whole, {"quantization_config": {"quant_method": "fp8"}}, "quantization_config cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, change: Callable[[Stored], object], config: dict[str, object], says: str
) -> None:
    """And leaves nothing."""
    drafter = Drafter(fp8=False)
    change(drafter.stored)
    _, path = target_of(tmp_path)
    with pytest.raises(ConvertError, match=says) as raised:
        convert_draft(drafter.write(tmp_path / "D", **config), path, tmp_path / "d.gguf", type="F16")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*d.gguf*"))
