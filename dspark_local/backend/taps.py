"""Hidden states of chosen target layers, in either of two ways.

Some architectures fill llama.cpp's layer-input taps; asking one that does not aborts the process. For all others
the public evaluation callback takes `l_out-(k-1)`, the output of the layer before, which is layer k's input.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dspark_local.backend import symbols
from dspark_local.backend.library import api, lib
from dspark_local.backend.memory import floats
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    from dspark_local.backend.base import Floats

# Architectures whose graphs assign t_layer_inp (llama.cpp src/models, at the pinned version).
BUILT_IN = frozenset(
    [
        "deepseek4",
        "gemma4",
        "gpt-oss",
        "lfm2",
        "lfm2moe",
        "llama",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
    ]
)


class Taps(Protocol):
    """`layers` are the indices whose inputs are wanted, `width` the target's hidden width."""

    def prepare(self, params: Any) -> None:  # noqa: ANN401 - llama_context_params, which has no type
        """Set what must be set before the context exists."""

    def attach(self, context: Any) -> None:  # noqa: ANN401 - a raw pointer
        """Set what needs the context."""

    def begin(self) -> None:
        """A decode is about to run."""

    def rows(self, n: int) -> Floats:
        """[n, taps · width] of the decode that just ran, in batch order; a copy."""
        ...


def taps_for(arch: str, layers: tuple[int, ...], width: int) -> Taps:
    """The way that this architecture allows."""
    return LayerInputs(layers, width) if arch in BUILT_IN else Callback(layers, width)


class LayerInputs:
    """llama.cpp's own taps: one buffer per layer, a row per batch token."""

    def __init__(self, layers: tuple[int, ...], width: int) -> None:
        self._layers, self._width = layers, width
        self._context: Any = None

    def prepare(self, params: Any) -> None:  # noqa: ANN401 - as in the Protocol
        """Nothing is needed before the context exists."""

    def attach(self, context: Any) -> None:  # noqa: ANN401 - as in the Protocol
        """Turn the layers on."""
        self._context = context
        for layer in self._layers:
            symbols.set_embeddings_layer_inp(context, layer, True)

    def begin(self) -> None:
        """Nothing to do."""

    def rows(self, n: int) -> Floats:
        """Layers side by side."""
        pointers = [symbols.get_embeddings_layer_inp(self._context, layer) for layer in self._layers]
        return np.concatenate([floats(p, n, self._width) for p in pointers], axis=1)


class Callback:
    """The evaluation callback: collects `l_out-(k-1)` node by node."""

    def __init__(self, layers: tuple[int, ...], width: int) -> None:
        if min(layers) < 1:
            raise BackendError("the drafter taps the embedding itself, which this architecture does not show")
        self._names = {f"l_out-{layer - 1}".encode(): i for i, layer in enumerate(layers)}
        self._width = width
        self._found: list[list[Floats]] = [[] for _ in layers]
        self._get_name = _function("ggml_get_name", [ctypes.c_void_p], ctypes.c_char_p)
        self._nbytes = _function("ggml_nbytes", [ctypes.c_void_p], ctypes.c_size_t)
        self._read = _function(
            "ggml_backend_tensor_get",
            [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
            None,
        )
        self._callback = api.ggml_backend_sched_eval_callback(self._visit)

    def prepare(self, params: Any) -> None:  # noqa: ANN401 - as in the Protocol
        """Install the callback."""
        params.cb_eval = self._callback

    def attach(self, context: Any) -> None:  # noqa: ANN401 - as in the Protocol
        """Nothing more."""

    def begin(self) -> None:
        """Forget the last decode."""
        for found in self._found:
            found.clear()

    def rows(self, n: int) -> Floats:
        """Layers side by side."""
        none = np.empty((0, self._width), np.float32)
        columns = [np.concatenate([none, *found]) for found in self._found]
        if any(len(column) != n for column in columns):
            raise BackendError("this target's layers cannot be read; run it with --no-draft")
        return np.concatenate(columns, axis=1)

    def _visit(self, tensor: int, ask: bool, _user_data: object) -> bool:  # noqa: FBT001 - llama.cpp's
        column = self._names.get(self._get_name(tensor))
        if ask or column is None:
            return column is not None
        rows = np.empty((self._nbytes(tensor) // 4 // self._width, self._width), np.float32)
        self._read(tensor, rows.ctypes.data, 0, rows.nbytes)
        self._found[column].append(rows)
        return True


def _function(name: str, arguments: list[Any], result: Any) -> Any:  # noqa: ANN401 - ctypes
    function = getattr(lib, name)
    function.argtypes, function.restype = arguments, result
    return function
