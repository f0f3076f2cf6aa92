"""Large and interrupted conversions: bounded memory, and no file that looks finished before it is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.configs import CONFIGS
from tests.convert.families import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("dspark-local" + (".exe" if os.name == "nt" else ""))
GIB = 1 << 30


def kill_at_random(tmp_path: Path, n: int, seed: int) -> None:
    """Kill `n` conversions, each at another moment; then one is left to end."""
    chance = random.Random(seed)
    config = {**CONFIGS["llama3"], "hidden_size": 256, "intermediate_size": 512}
    src, out = Model("llama3", config).write(tmp_path / "src"), tmp_path / "out"
    arguments = [COMMAND, "convert", "target", src, "--out", out / "t.gguf", "--to"]
    out.mkdir()
    began = time.monotonic()
    subprocess.run([*arguments, "Q4_K_M"], check=True, capture_output=True)
    took = time.monotonic() - began
    whole = (out / "t.gguf").read_bytes()
    (out / "t.gguf").unlink()
    stopped = 0
    for _ in range(n):
        process = subprocess.Popen(
            [*arguments, chance.choice(["Q4_K_M", "F16"])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0, took))
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT]))
        stopped += process.wait(timeout=60) != 0
        for path in out.glob("*.gguf"):  # a hidden .part may stay behind a SIGKILL, but no GGUF that is not whole
            GGUF.open(path)
            assert process.returncode == 0 or path.stat().st_size
            path.unlink()
    assert stopped > n / 4
    subprocess.run([*arguments, "Q4_K_M"], check=True, capture_output=True)
    assert (out / "t.gguf").read_bytes() == whole
    assert [path.name for path in out.iterdir()] == ["t.gguf"]  # what the killed ones left was swept away


def test_killed_conversions_leave_nothing_finished(tmp_path: Path) -> None:
    """At a few random moments of converting and quantising."""
    kill_at_random(tmp_path, 4, seed=1)


@pytest.mark.slow
def test_100_killed_conversions_leave_nothing_finished(tmp_path: Path) -> None:
    """The same, more often."""
    kill_at_random(tmp_path, 100, seed=2)


def sparse(folder: Path, layers: int) -> Path:
    """A checkpoint of Qwen3-8B's shape in BF16 with `layers` layers, whose weights are a hole in the file."""
    config = checkpoints.config(
        hidden_size=4096,
        intermediate_size=12288,
        head_dim=128,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_hidden_layers=layers,
        vocab_size=151936,
        tie_word_embeddings=False,
    )
    folder.mkdir()
    checkpoints.write(folder, config, {})
    at, header = 0, {}
    for name, shape in shapes(config):
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return folder


def shapes(config: dict[str, object]) -> Iterator[tuple[str, list[int]]]:
    hidden, ffn, vocab, q, kv = 4096, 12288, 151936, 4096, 1024
    layer = {
        "input_layernorm": [hidden],
        "self_attn.q_proj": [q, hidden],
        "self_attn.k_proj": [kv, hidden],
        "self_attn.v_proj": [kv, hidden],
        "self_attn.o_proj": [hidden, q],
        "self_attn.q_norm": [128],
        "self_attn.k_norm": [128],
        "post_attention_layernorm": [hidden],
        "mlp.gate_proj": [ffn, hidden],
        "mlp.up_proj": [ffn, hidden],
        "mlp.down_proj": [hidden, ffn],
    }
    yield "model.embed_tokens.weight", [vocab, hidden]
    yield "lm_head.weight", [vocab, hidden]
    yield "model.norm.weight", [hidden]
    for i in range(int(str(config["num_hidden_layers"]))):
        for name, shape in layer.items():
            yield f"model.layers.{i}.{name}.weight", shape


def convert_within(tmp_path: Path, layers: int, kind: str) -> int:
    """Peak resident bytes of a process that converts the sparse checkpoint."""
    src = sparse(tmp_path / "src", layers)
    script = (
        "import resource, sys; from pathlib import Path; from dspark_local.convert import convert_target\n"
        "convert_target(Path(sys.argv[1]), Path(sys.argv[2]), type=sys.argv[3])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, src, tmp_path / "t.gguf", kind], check=True, capture_output=True, text=True
    )
    return int(done.stdout) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_an_8b_shape_takes_less_than_2_gb(tmp_path: Path, kind: str) -> None:
    """All 36 layers, 16 GB of BF16."""
    if os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize < 20 * GIB:
        pytest.skip("needs 20 GiB of disk")
    assert convert_within(tmp_path, 36, kind) < 2e9
