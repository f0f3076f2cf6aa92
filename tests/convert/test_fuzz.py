"""Damaged checkpoints: a line or a sound file, and never a crash or half a file."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from dspark_local.convert import convert_draft, convert_target
from dspark_local.errors import ModelError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.model import check_model
from tests.convert import checkpoints, test_sentencepiece
from tests.convert.configs import CONFIGS
from tests.convert.deepseek import DRAFT_SHARD, Drafter
from tests.convert.deepseek import TARGET as WIDE
from tests.convert.drafters import DRAFTS, Draft
from tests.convert.families import Model
from tests.convert.test_packed import METHODS, packed_model, written

if TYPE_CHECKING:
    from pathlib import Path

ODD = [
    None,
    -1,
    0,
    1,
    3,
    2**31,
    2**70,
    10**400,
    1e308,
    1e-320,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    {},
    True,
    [[]],
    {"a": 1},
]
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
         "model.safetensors.index.json", "tokenizer.model", DRAFT_SHARD)  # fmt: skip


def bases(folder: Path) -> list[Path]:
    """One checkpoint of each kind."""
    made = [Model(name, CONFIGS[name]).write(folder / name) for name in CONFIGS]
    made += [written(folder / name, *packed_model(name)) for name in METHODS]
    made.append(
        test_sentencepiece.checkpoint(
            folder / "spm", model=test_sentencepiece.proto(), tokenizer=test_sentencepiece.fast()
        )
    )
    for path in made:
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [297, 298], "pad_token_id": 298}))
    for kind, (_, config) in DRAFTS.items():
        made.append(checkpoints.write(folder / f"draft-{kind}", config, Draft(kind, config).tensors, tokenized=False))
    made.append(Drafter(fp8=True).write(folder / "draft-deepseek"))
    return made


def bend(node: Any, chance: random.Random) -> Any:  # noqa: PLR0911 - one a change
    """One place of a JSON value changed, removed or doubled."""
    if isinstance(node, dict) and node and chance.random() < 0.9:
        key = chance.choice(sorted(node))
        match chance.randrange(8):
            case 0:
                return {k: v for k, v in node.items() if k != key}
            case 1:
                return {**node, key: chance.choice(ODD)}
            case 2:
                return {**node, key: node[chance.choice(sorted(node))]}
            case _:
                return {**node, key: bend(node[key], chance)}
    if isinstance(node, list) and node and chance.random() < 0.9:
        at = chance.randrange(len(node))
        match chance.randrange(4):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1:
                return [*node[:at], node[at], *node[at:]]
            case _:
                return [*node[:at], bend(node[at], chance), *node[at + 1 :]]
    if isinstance(node, int) and chance.random() < 0.5:
        return node + chance.choice([-1, 1, 32, -32])
    return chance.choice(ODD)


def mutate(folder: Path, chance: random.Random) -> str:
    """Damage one file of a checkpoint; what was done."""
    name = chance.choice([f for f in FILES if (folder / f).exists() or f.endswith("index.json")])
    path = folder / name
    if name.endswith("index.json"):
        names = chance.choice([["model.safetensors"], ["other.safetensors"], ["../x"], [3], ["config.json"]])
        path.write_text(json.dumps(bend({"weight_map": {f"t{i}": n for i, n in enumerate(names)}}, chance)))
        return name
    data = path.read_bytes()
    how = chance.choice(["json", "json", "json", "bytes", "cut"])
    if name == "tokenizer.model" and how == "json":
        how = "bytes"
    if how == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
    elif how == "bytes":
        at = chance.randrange(min(len(data), 6000))
        path.write_bytes(data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at + chance.randrange(9) :])
    elif name.endswith(".safetensors"):
        n = int.from_bytes(data[:8], "little")
        text = json.dumps(bend(json.loads(data[8 : 8 + n]), chance)).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])
    else:
        path.write_text(json.dumps(bend(json.loads(data), chance)))
    return f"{name} {how}"


def run(tmp_path: Path, n: int, seed: int) -> None:
    made = bases(tmp_path / "bases")
    targets = {kind: tmp_path / "bases" / family for kind, (family, _) in DRAFTS.items()}
    targets["deepseek"] = Model("qwen3", WIDE).write(tmp_path / "wide")
    refused = 0
    for i in range(n):
        chance = random.Random(f"{seed} {i}")
        base = chance.choice(made)
        src, out = tmp_path / "src", tmp_path / "out" / "t.gguf"
        shutil.rmtree(src, ignore_errors=True)
        shutil.copytree(base, src)
        out.parent.mkdir(exist_ok=True)
        did = mutate(src, chance)
        kind = chance.choice(["F16", "Q8_0", "BF16"])
        try:
            if base.name.startswith("draft-"):
                convert_draft(src, targets[base.name.removeprefix("draft-")], out, type=kind)
                check_model(GGUF.open(out))
            else:
                convert_target(src, out, type=kind)
                inspect_files(out)
            out.unlink()
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error), (base.name, did)  # noqa: PT017 - either end is right
        except Exception as error:
            raise AssertionError((i, base.name, did, str(error)[:300])) from error
        assert not list(out.parent.iterdir()), (base.name, did)
    assert refused > n / 3  # or the mutants are too tame


def test_some_damaged_checkpoints(tmp_path: Path) -> None:
    """Config, headers, tokenizers and indices, of every family and method."""
    run(tmp_path, 150, seed=1)


@pytest.mark.slow
def test_3000_damaged_checkpoints(tmp_path: Path) -> None:
    """The same, more of them."""
    run(tmp_path, 3000, seed=2)
