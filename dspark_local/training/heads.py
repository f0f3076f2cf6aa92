"""The target's embedding and head for torch, on a device and in a precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from dspark_local.training.target import TargetFile


class TorchHeads:
    """Both are the target's own, and frozen; the embedding stays in the file."""

    def __init__(self, target: TargetFile, *, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._target = target
        self.head = self.tensor(target.head())
        self.scale, self.softcap = target.scale, target.softcap

    def tensor(self, values: npt.NDArray[Any]) -> Tensor:
        """Floats, or bfloat16 bits in uint16, as a tensor."""
        array = np.ascontiguousarray(values)
        if array.dtype == np.uint16:
            bits = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            return bits.to(self.device, self.dtype)
        return torch.from_numpy(array).to(self.device, self.dtype)

    def tokens(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """Ids on the device."""
        return torch.from_numpy(ids).to(self.device)

    def flags(self, values: npt.NDArray[np.bool_]) -> Tensor:
        """Flags on the device."""
        return torch.from_numpy(values).to(self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings `[..., width]` of `ids`."""
        return self.tensor(self._target.embed(ids.cpu().numpy()))
