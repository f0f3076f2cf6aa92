"""Checkpoints in the Hugging Face layout: what `dspark_local.convert` reads."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from model import Drafter, DraftShape, Shape, Target, draft_config, target_config
from safetensors.torch import load_file, save_file
from tokenizer import END_OF_TEXT, IM_END
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path


def write_target(target: Target, tokenizer_folder: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and generation defaults of the target."""
    _write(target, target_config(target.shape), tokenizer_folder, folder)


def write_drafter(drafter: Drafter, tokenizer_folder: Path, folder: Path) -> None:
    """Write the drafter in DeepSpec's layout, without the embedding and the head that it shares with the target."""
    _write(drafter, draft_config(drafter.shape, drafter.draft), tokenizer_folder, folder)


def read_target(folder: Path) -> Target:
    """The target of `write_target`."""
    target = Target(_shape(_config(folder)))
    target.load_state_dict(load_file(folder / "model.safetensors"))
    return target.eval()


def read_drafter(folder: Path) -> Drafter:
    """The drafter of `write_drafter`."""
    config = _config(folder)
    fields = {name: config[name] for name in DraftShape.__dataclass_fields__}
    fields["target_layer_ids"] = tuple(fields["target_layer_ids"])
    shape = _shape({**config, "num_hidden_layers": config["num_target_layers"]})
    drafter = Drafter(shape, DraftShape(**fields))
    drafter.load_state_dict(load_file(folder / "model.safetensors"))
    return drafter.eval()


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _shape(config: dict[str, Any]) -> Shape:
    return Shape(**{name: config[name] for name in Shape.__dataclass_fields__})


def _write(module: nn.Module, config: dict[str, object], tokenizer_folder: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().float().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, folder / "model.safetensors.new", metadata={"format": "pt"})
    (folder / "model.safetensors.new").replace(folder / "model.safetensors")
    _json(folder / "config.json", config)
    _json(
        folder / "generation_config.json",
        {"do_sample": True, "temperature": 0.7, "eos_token_id": [IM_END, END_OF_TEXT], "pad_token_id": END_OF_TEXT},
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if tokenizer_folder != folder:
            shutil.copyfile(tokenizer_folder / name, folder / name)


def _json(path: Path, value: object) -> None:
    path.with_suffix(".new").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".new").replace(path)


def untrained(tokenizer_folder: Path, folder: Path, seed: int = 0) -> None:
    """A pair of random weights below `folder`: the layout without the training, for whoever tests a converter."""
    torch.manual_seed(seed)
    write_target(Target(Shape()), tokenizer_folder, folder / "target")
    write_drafter(Drafter(Shape(), DraftShape()), tokenizer_folder, folder / "draft")
