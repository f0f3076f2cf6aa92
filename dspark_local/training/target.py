"""The target as its file has it: embedding and head, dequantised where they are needed, and who it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from dspark_local.backend.base import Floats

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
_SAMPLE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class TargetFile:
    """A GGUF that a drafter is trained for."""

    gguf: GGUF

    @classmethod
    def open(cls, path: Path) -> TargetFile:
        """Raises as GGUF.open does."""
        return cls(GGUF.open(path))

    @property
    def softcap(self) -> float:
        """Final logits are cap · tanh(logit / cap); 0 where they are not (Gemma 2)."""
        return self._real("final_logit_softcapping")

    @property
    def scale(self) -> float:
        """What the logits are multiplied with."""
        return self._real("logit_scale") or 1.0

    def _real(self, key: str) -> float:
        value = self.gguf.meta(f"{self.gguf.arch}.{key}")
        return float(value) if isinstance(value, (int, float)) else 0.0

    def embed(self, ids: npt.NDArray[np.int64]) -> Floats:
        """Rows [..., width] of the embedding, as the drafter's graph takes them: never scaled."""
        distinct, places = np.unique(ids, return_inverse=True)
        return self.gguf.rows(EMBEDDING, distinct)[places.reshape(ids.shape)]

    def head(self) -> Floats:
        """[n_vocab, width]."""
        return self.gguf.rows(HEAD if HEAD in self.gguf.tensors else EMBEDDING, slice(None))

    def logits(self, final: Floats) -> Floats:
        """What the target makes of final states [n, width]."""
        plain: Floats = final @ self.head().T * self.scale
        return np.asarray(self.softcap * np.tanh(plain / self.softcap) if self.softcap else plain, np.float32)

    def identity(self) -> dict[str, Any]:
        """What tells this file from another of the same name."""
        digest = hashlib.sha256()
        with self.gguf.path.open("rb") as file:
            for start in (0, max(0, self.gguf.size - _SAMPLE)):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
        return {"name": self.gguf.path.name, "size": self.gguf.size, "digest": digest.hexdigest()[:16]}
