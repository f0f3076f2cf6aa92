"""Every family: converted, run by llama.cpp, and compared with the function that its checkpoint is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.base import Shape, Span
from dspark_local.backend.llama import LlamaTarget
from dspark_local.backend.model import Model as Weights
from dspark_local.convert import convert_target
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from tests.convert import checkpoints
from tests.convert.configs import CONFIGS, VOCAB
from tests.convert.families import Model

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = [int(t) for t in np.random.default_rng(3).integers(0, VOCAB - 10, 40)]


def logits_of(path: Path, tokens: list[int]) -> np.ndarray:
    inspect_files(path)
    model = LlamaTarget(Weights(path), Shape(n_ctx=256, width=len(tokens), threads=1))
    try:
        return model.decode([Span(0, 0, tokens)])[0].logits.copy()
    finally:
        model.close()


@pytest.mark.parametrize("family", CONFIGS)
def test_llama_cpp_computes_what_the_checkpoint_says(tmp_path: Path, family: str) -> None:
    """Logits of 40 tokens, more than a window and than the pretraining's rope, agree to F16's accuracy."""
    model = Model(family, CONFIGS[family])
    path = convert_target(model.write(tmp_path / "src"), tmp_path / "t.gguf", type="F16")
    expected = model.forward(TOKENS)
    error = np.sqrt(((logits_of(path, TOKENS) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.005, error


@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [
        ("llama3", "model.layers.0.self_attn.rotary_emb.inv_freq", (16,)),
        ("gemma3", "vision_tower.vision_model.embeddings.patch_embedding.weight", (4, 4)),
        ("gemma4", "model.embed_vision.embedding_projection.weight", (4, 4)),
        ("gemma4-small", "model.language_model.layers.3.self_attn.k_proj.weight", (64, 64)),
        ("qwen2", "lm_head.weight", (VOCAB, 64)),
    ],
)
def test_what_says_nothing_is_left_out(tmp_path: Path, family: str, name: str, shape: tuple[int, ...]) -> None:
    """Other parts of a model, buffers, a head that repeats the embedding, and keys of layers that share others'."""
    model = Model(family, CONFIGS[family])
    want = convert_target(model.write(tmp_path / "src"), tmp_path / "t.gguf", type="F16").read_bytes()
    model.tensors[name] = np.ones(shape, np.float32)
    assert convert_target(model.write(tmp_path / "src"), tmp_path / "t.gguf", type="F16").read_bytes() == want


def test_a_window_bounds_the_context(tmp_path: Path) -> None:
    """Mistral's first generation looks back so far only, and the graph that runs it has no window."""
    model = Model("mistral", {**CONFIGS["mistral"], "sliding_window": 100})
    path = convert_target(model.write(tmp_path / "src"), tmp_path / "t.gguf", type="F16")
    assert GGUF.open(path).meta("llama.context_length") == 100


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("llama3", {"mlp_bias": True}, "mlp_bias is not converted"),
        ("llama3", {"num_hidden_layers": 5000}, "llama.cpp takes 512"),
        ("llama3", {"num_key_value_heads": 3, "num_attention_heads": 2}, "cannot share|has shape"),
        ("llama3", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope low_freq_factor must be"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window is not converted"),
        ("qwen2", {"head_dim": 16}, "as wide as hidden_size"),
        ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1}}, "yarn with beta_fast"),
        ("gemma2", {"query_pre_attn_scalar": 144}, "has 32 built in"),
        ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping must be"),
        ("gemma2", {"layer_types": ["full_attention"] * 4}, "alternates sliding and full"),
        ("gemma3-named", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is not converted"),
        ("gemma3-named", {"layer_types": ["full_attention"]}, "the kind of each of the 4 layers"),
        ("qwen3", {"head_dim": 31}, "rotated in pairs"),
        ("qwen3", {"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ],
)
def test_what_would_be_another_function_is_refused(
    tmp_path: Path, family: str, change: dict[str, object], says: str
) -> None:
    """In one line, and nothing is left."""
    src = Model(family, CONFIGS[family]).write(tmp_path / "src")
    checkpoints.edit(src, **change)
    with pytest.raises(ConvertError, match=says) as raised:
        convert_target(src, tmp_path / "t.gguf", type="F16")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*.gguf*"))
