"""The functions of llama.cpp that have C++ names, bound once and checked at import.

They are declared in llama.cpp's src/llama-ext.h, a staging header: hence the exact pin of llama-cpp-python.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspark_local.backend.library import VERSION, lib
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

_FLOATS = ctypes.POINTER(ctypes.c_float)
_INTS = ctypes.POINTER(ctypes.c_int32)
_VOID = ctypes.c_void_p


@dataclass(frozen=True, slots=True)
class _Symbol:
    """Names by compiler (Itanium ABI, MSVC), argument types, result."""

    names: tuple[str, str]
    arguments: tuple[Any, ...]
    result: Any


_SYMBOLS = {
    "set_embeddings_layer_inp": _Symbol(
        (
            "_Z30llama_set_embeddings_layer_inpP13llama_contextjb",
            "?llama_set_embeddings_layer_inp@@YAXPEAUllama_context@@I_N@Z",
        ),
        (_VOID, ctypes.c_uint32, ctypes.c_bool),
        None,
    ),
    "get_embeddings_layer_inp": _Symbol(
        (
            "_Z30llama_get_embeddings_layer_inpP13llama_contextj",
            "?llama_get_embeddings_layer_inp@@YAPEAMPEAUllama_context@@I@Z",
        ),
        (_VOID, ctypes.c_uint32),
        _FLOATS,
    ),
    "set_embeddings_nextn": _Symbol(
        (
            "_Z26llama_set_embeddings_nextnP13llama_contextbb",
            "?llama_set_embeddings_nextn@@YAXPEAUllama_context@@_N1@Z",
        ),
        (_VOID, ctypes.c_bool, ctypes.c_bool),
        None,
    ),
    "get_embeddings_nextn": _Symbol(
        (
            "_Z26llama_get_embeddings_nextnP13llama_context",
            "?llama_get_embeddings_nextn@@YAPEAMPEAUllama_context@@@Z",
        ),
        (_VOID,),
        _FLOATS,
    ),
    "model_target_layer_ids": _Symbol(
        (
            "_Z28llama_model_target_layer_idsPK11llama_model",
            "?llama_model_target_layer_ids@@YAPEBHPEBUllama_model@@@Z",
        ),
        (_VOID,),
        _INTS,
    ),
    "model_target_layer_ids_n": _Symbol(
        (
            "_Z30llama_model_target_layer_ids_nPK11llama_model",
            "?llama_model_target_layer_ids_n@@YAIPEBUllama_model@@@Z",
        ),
        (_VOID,),
        ctypes.c_uint32,
    ),
}


def _bind(name: str) -> Callable[..., Any]:
    symbol = _SYMBOLS[name]
    for mangled in (*symbol.names, f"llama_{name}"):
        function: Any = getattr(lib, mangled, None)
        if function is not None:
            function.argtypes = list(symbol.arguments)
            function.restype = symbol.result
            return function  # type: ignore[no-any-return]  # ctypes functions are Any
    raise BackendError(f"llama-cpp-python {VERSION} has no llama_{name}; install the pinned version (`make setup`)")


set_embeddings_layer_inp = _bind("set_embeddings_layer_inp")
get_embeddings_layer_inp = _bind("get_embeddings_layer_inp")
set_embeddings_nextn = _bind("set_embeddings_nextn")
get_embeddings_nextn = _bind("get_embeddings_nextn")
model_target_layer_ids = _bind("model_target_layer_ids")
model_target_layer_ids_n = _bind("model_target_layer_ids_n")
