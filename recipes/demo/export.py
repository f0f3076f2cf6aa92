"""The target's checkpoint in the Hugging Face layout: what `dspark-local convert target` reads."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from model import Target, config
from safetensors.torch import load_file, save_file
from tokenizer import END_OF_TEXT, IM_END

if TYPE_CHECKING:
    from pathlib import Path


def write_target(target: Target, tokenizer_folder: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and generation defaults of the target."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().float().contiguous() for name, tensor in target.state_dict().items()}
    save_file(weights, folder / "model.safetensors.new", metadata={"format": "pt"})
    (folder / "model.safetensors.new").replace(folder / "model.safetensors")
    _json(folder / "config.json", config(target.shape))
    _json(
        folder / "generation_config.json",
        {"do_sample": True, "temperature": 0.7, "eos_token_id": [IM_END, END_OF_TEXT], "pad_token_id": END_OF_TEXT},
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if tokenizer_folder != folder:
            shutil.copyfile(tokenizer_folder / name, folder / name)


def read_target(folder: Path) -> Target:
    """The target of `write_target`."""
    target = Target()
    target.load_state_dict(load_file(folder / "model.safetensors"))
    return target.eval()


def _json(path: Path, value: object) -> None:
    path.with_suffix(".new").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".new").replace(path)
