"""A drafter's checkpoint from the hub, converted once for its target and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from dspark_local.models.progress import Progress

TYPE = "Q8_0"  # drafters are small, and 4 bits cost acceptance


def converted(checkpoint: Path, target: Path, progress: Progress) -> Path:
    """GGUF of the checkpoint in a folder of the hub's cache, for this target. Raises ConvertError, PairError."""
    # a folder in the cache is named by its commit, a target in it by its name and bytes
    identity = "\n".join([str(checkpoint.resolve()), target.name, str(target.stat().st_size)])
    name = f"dspark-{target.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}-{TYPE}.gguf"
    path = Path(platformdirs.user_cache_dir("dspark-local")) / "drafters" / name
    if not path.is_file():
        from dspark_local.convert import convert_draft  # noqa: PLC0415 - it loads gguf and safetensors

        path.parent.mkdir(parents=True, exist_ok=True)
        convert_draft(
            checkpoint, target, path, type=TYPE, progress=lambda done, of: progress("converting", done / max(1, of))
        )
    return path
