"""A run on the disk: the drafter so far in DeepSpec's layout, and what a killed run needs to go on."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dspark_local.convert.writer import forget_parts
from dspark_local.errors import TrainingError, UsageError
from dspark_local.training.network import config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from dspark_local.training.design import Design


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is: steps done, the best held-out accepted length and when, seconds of CPU spent on the way."""

    step: int = 0
    best: float = 0.0
    best_step: int = 0
    cpu_seconds: float = 0.0


def write_drafter(folder: Path, weights: dict[str, Tensor], design: Design) -> None:
    """Write the drafter as `dspark-local convert draft` reads it. Raises TrainingError when the disk refuses."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    _whole(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps(config(design), indent=2) + "\n"
    _whole(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def write_position(path: Path, state: dict[str, Tensor], position: Position, identity: dict[str, Any]) -> None:
    """Write where a run is. Raises TrainingError when the disk refuses."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    metadata = {"position": json.dumps(asdict(position)), "identity": json.dumps(identity)}
    _whole(path, lambda beside: save_file(tensors, beside, metadata=metadata))


def read_position(path: Path, identity: dict[str, Any]) -> tuple[dict[str, Tensor], Position] | None:
    """Where the run was, if it began. Raises UsageError for a run of something else, or a damaged file."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["identity"]) != identity:
                raise UsageError(f"{path.parent} holds a run with other options; give another --out, or remove it")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return state, Position(**json.loads(metadata["position"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        raise UsageError(f"{path} is damaged; remove it to train from the beginning") from None


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        forget_parts(path)
        write(beside)
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrainingError(f"{path} cannot be written: {why}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
