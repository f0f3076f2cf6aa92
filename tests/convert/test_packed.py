"""4-bit weights keep their codes: what comes out is what went in, or as near as the report says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dspark_local.convert import convert_target, exact_type, keeps_codes
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints, packers
from tests.convert.configs import CONFIGS
from tests.convert.families import Model
from tests.convert.test_families import TOKENS, logits_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALL = slice(None)
WEIGHTS = {"num_bits": 4, "type": "int", "group_size": 32}
GROUPS = {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}}
COMPRESSED = {"quant_method": "compressed-tensors", "config_groups": GROUPS}
METHODS: dict[str, tuple[Callable[..., packers.Tensors], dict[str, Any]]] = {
    "gptq": (packers.gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}),
    "gptq_v2": (
        lambda *a: packers.gptq(*a, shift=0),
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq_v2"},
    ),
    "awq": (packers.awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}),
    "pack-quantized": (packers.pack_quantized, {**COMPRESSED, "format": "pack-quantized"}),
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def packed_model(
    method: str,
    *,
    size: int = 32,
    symmetric: bool = False,
    family: str = "llama3",
    dtype: type = np.float16,
    width: int = 64,
) -> tuple[Model, dict[str, np.ndarray]]:
    """A model whose projections are 4-bit codes: its numbers, and the tensors to write instead of them."""
    config = {**CONFIGS[family], "intermediate_size": 128, "hidden_size": width}
    pack, quantization = METHODS[method]
    model = Model(family, config)
    rng, tensors = np.random.default_rng(5), {}
    for name, values in model.tensors.items():
        if name.split(".")[-2] not in PROJECTIONS or not name.endswith("weight"):
            tensors[name] = values
            continue
        codes = rng.integers(0, 16, values.shape, dtype=np.int64)
        groups = (values.shape[0], values.shape[1] // size)
        scales = (rng.uniform(0.5, 1.5, groups) * 0.2 / np.sqrt(values.shape[1])).astype(dtype)
        model.steps[name] = np.repeat(scales.astype(np.float64), size, 1)
        zeros = np.full(groups, 8) if symmetric else rng.integers(1, 16, groups)
        model.tensors[name] = packers.dequantised(codes, scales, zeros)
        module = name.removesuffix("weight")
        tensors |= {module + part: tensor for part, tensor in pack(codes, scales, zeros).items()}
    model.config["quantization_config"] = {
        **quantization,
        **({"group_size": size} if "group_size" in quantization else {}),
    }
    return model, tensors


def written(folder: Path, model: Model, tensors: dict[str, np.ndarray]) -> Path:
    return checkpoints.write(folder, model.config, tensors)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_codes_and_function_are_kept(tmp_path: Path, method: str, symmetric: bool) -> None:
    """Symmetric codes become Q4_0 and mean the same numbers bit for bit; others Q4_1, as near as is told; both run."""
    model, tensors = packed_model(method, symmetric=symmetric)
    src = written(tmp_path / "src", model, tensors)
    assert keeps_codes(src)
    told: dict[str, tuple[str, float]] = {}
    path = convert_target(src, tmp_path / "t.gguf", type="F32", tell=lambda name, *what: told.update({name: what}))
    out = GGUF.open(path)
    assert out.meta("general.file_type") == (2 if symmetric else 3)
    names = checkpoints.layer_names(model.layers)
    seen = 0
    for theirs, ours in names.items():
        if theirs.split(".")[-2] not in PROJECTIONS or "q_proj" in theirs or "k_proj" in theirs:
            continue  # rows of q and k are in another order, which the logits below judge
        want, got = model.w(theirs), out.rows(ours, ALL).astype(np.float64)
        kind, error = told[ours]
        assert out.tensors[ours].type.name == kind == ("Q4_0" if symmetric else "Q4_1")
        if symmetric:
            assert error == 0
            np.testing.assert_array_equal(got, want)
        else:
            steps = np.abs(got - want) / model.steps[model.name(theirs)]
            assert 0 < steps.max() <= error < 0.01
        seen += 1
    assert seen == 5 * model.layers
    assert len(told) == 7 * model.layers
    expected = model.forward(TOKENS)
    error = np.sqrt(((logits_of(path, TOKENS) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.03, error  # llama.cpp quantises what it multiplies these blocks with to 8 bits


@pytest.mark.parametrize("size", [64, 128])
def test_larger_groups_are_several_blocks(tmp_path: Path, size: int) -> None:
    """The scale of a group stands in each of its blocks."""
    model, tensors = packed_model("gptq", size=size, symmetric=True, family="llama-biased", width=128)
    out = GGUF.open(convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16"))
    name = "layers.1.self_attn.v_proj.weight"
    np.testing.assert_array_equal(out.rows("blk.1.attn_v.weight", ALL), model.w(name))


def test_scales_that_f16_rounds_are_told(tmp_path: Path) -> None:
    """In steps of the codes; nothing is called exact that is not."""
    model, tensors = packed_model("gptq", symmetric=True, dtype=np.float32)
    told: list[float] = []
    path = convert_target(
        written(tmp_path / "src", model, tensors),
        tmp_path / "t.gguf",
        type="F16",
        tell=lambda _n, _k, e: told.append(e),
    )
    name = "layers.0.mlp.down_proj.weight"
    off = np.abs(GGUF.open(path).rows("blk.0.ffn_down.weight", ALL) - model.w(name)) / model.steps[model.name(name)]
    assert 0 < off.max() <= max(told) < 8 * 2**-11 * 1.001
    assert min(told) > 0


def test_act_order_is_refused_unless_blocks_stay_whole(tmp_path: Path) -> None:
    """Groups in another order are fine; groups that mix within a block are a line."""
    model, tensors = packed_model("gptq", symmetric=True)
    index = "model.layers.0.self_attn.v_proj.g_idx"
    scales = "model.layers.0.self_attn.v_proj.scales"
    tensors[index] = 1 - tensors[index]
    tensors[scales] = tensors[scales][::-1].copy()
    out = GGUF.open(convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16"))
    np.testing.assert_array_equal(out.rows("blk.0.attn_v.weight", ALL), model.w("layers.0.self_attn.v_proj.weight"))
    tensors[index] = np.arange(64, dtype=np.int32) % 2
    with pytest.raises(ConvertError, match="act-order"):
        convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16")


def test_a_bias_of_nothing_is_dropped(tmp_path: Path) -> None:
    """AutoGPTQ writes zeros where the family has no bias; one that is not zero is refused."""
    model, tensors = packed_model("gptq", symmetric=True)
    bias = "model.layers.0.self_attn.v_proj.bias"
    tensors[bias] = np.zeros(32, np.float16)
    convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16")
    tensors[bias] = np.ones(32, np.float16)
    with pytest.raises(ConvertError, match="does not know"):
        convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16")


def fp4_model(method: str) -> tuple[Model, dict[str, np.ndarray], dict[str, str]]:
    """As packed_model, for floats of four bits; and the types that safetensors gives to what numpy has none for."""
    model = Model("llama-biased", {**CONFIGS["llama-biased"], "intermediate_size": 128})
    rng, tensors, types = np.random.default_rng(5), {}, {}
    for name, values in model.tensors.items():
        if name.split(".")[-2] not in PROJECTIONS or not name.endswith("weight"):
            tensors[name] = values
            continue
        codes = rng.integers(0, 16, values.shape, dtype=np.int64)
        module = name.removesuffix("weight")
        if method == "mxfp4":
            exponents = rng.integers(119, 123, (len(codes), codes.shape[1] // 32)).astype(np.uint8)
            numbers = packers.E2M1[codes] * np.repeat(2.0 ** (exponents.astype(float) - 127), 32, 1)
            tensors |= {f"{module}weight_packed": packers.nibble_bytes(codes), f"{module}weight_scale": exponents}
        else:
            bits = rng.integers(40, 60, (len(codes), codes.shape[1] // 16)).astype(np.uint8)
            whole = np.float32(0.0625)
            numbers = packers.E2M1[codes] * np.repeat(packers.e4m3(bits), 16, 1) * whole
            modelopt = method == "modelopt"
            ends = (
                ("weight", "weight_scale_2", whole) if modelopt else ("weight_packed", "weight_global_scale", 1 / whole)
            )
            tensors |= {module + ends[0]: packers.nibble_bytes(codes), module + "weight_scale": bits}
            tensors[module + ends[1]] = np.array(ends[2], np.float32).reshape(() if modelopt else (1,))
            types[module + "weight_scale"] = "F8_E4M3"
        model.tensors[name] = numbers
    quantization: dict[str, Any] = {**COMPRESSED, "format": f"{method}-pack-quantized"}
    model.config["quantization_config"] = (
        {"quant_method": "modelopt", "quant_algo": "NVFP4"} if method == "modelopt" else quantization
    )
    return model, tensors, types


@pytest.mark.parametrize("method", ["mxfp4", "nvfp4", "modelopt"])
def test_four_bit_floats_are_kept(tmp_path: Path, method: str) -> None:
    """MXFP4 and NVFP4 become ggml's own types, bit for bit, and run."""
    model, tensors, types = fp4_model(method)
    src = written(tmp_path / "src", model, tensors)
    retype(src / "model.safetensors", types)
    path = convert_target(src, tmp_path / "t.gguf", type="F32")
    out = GGUF.open(path)
    name, ours = "layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"
    scale = out.rows("blk.1.ffn_down.scale", ALL).item() if method != "mxfp4" else 1.0
    np.testing.assert_array_equal(out.rows(ours, ALL).astype(np.float64) * scale, model.w(name))
    expected = model.forward(TOKENS)
    error = np.sqrt(((logits_of(path, TOKENS) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.05, error


def retype(path: Path, types: dict[str, str]) -> None:
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    for name, dtype in types.items():
        header[name]["dtype"] = dtype
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])


def test_the_other_tensors_keep_their_type(tmp_path: Path) -> None:
    """What holds the plain matrices exactly is not asked of the codes and their scales."""
    model, tensors = packed_model("awq", dtype=np.float16)
    plain = {n: t.astype(np.float16) if t.dtype == np.float32 and t.ndim > 1 else t for n, t in tensors.items()}
    assert exact_type(written(tmp_path / "src", model, plain)) == "F16"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "only 4-bit gptq"),
        ({"quant_method": "gptq", "bits": 4}, "cannot be read"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"}, "version gemv"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes are not kept"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "config_groups"),
        ({**COMPRESSED, "format": "float-quantized"}, "float-quantized"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "not a multiple of 32"),
        ("awq", "cannot be read"),
    ],
)
def test_what_is_not_kept_is_a_line(tmp_path: Path, change: object, says: str) -> None:
    """Also a config that speaks of another method than its tensors."""
    model, tensors = packed_model("gptq", symmetric=True)
    model.config["quantization_config"] = change
    with pytest.raises(ConvertError, match=says) as raised:
        convert_target(written(tmp_path / "src", model, tensors), tmp_path / "t.gguf", type="F16")
    assert "\n" not in str(raised.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), method=st.sampled_from(sorted(METHODS)))
def test_any_shape_of_any_part_is_kept_or_refused(tmp_path: Path, data: st.DataObject, method: str) -> None:
    """A part of another shape or type never gets by the checks into numpy."""
    model, tensors = packed_model(method)
    name = data.draw(st.sampled_from(sorted(n for n in tensors if ".layers.0." in n)))
    shape = data.draw(st.lists(st.integers(0, 70), max_size=3))
    tensors[name] = np.zeros(shape, data.draw(st.sampled_from([np.int32, np.float16, np.float32, np.uint8, np.int64])))
    src = tmp_path / "src"
    written(src, model, tensors)
    save_file(tensors, src / "model.safetensors")
    try:
        convert_target(src, tmp_path / "t.gguf", type="F16")
    except ConvertError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
