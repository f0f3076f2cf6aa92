"""llama.cpp's grammar sampler, as a Constraint.

It aborts the process on a token that does not fit, so only tokens that it allowed before are ever accepted. It takes
any byte for the rest of a character, and the names of control tokens for text; so the bytes are checked here as well.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dspark_local.backend.library import api, forget_errors, last_error
from dspark_local.backend.spelling import Spelling, rest
from dspark_local.errors import UsageError
from dspark_local.formats.gbnf import ROOT, read_gbnf

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.backend.model import Model

_TOKEN_DATA = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # llama_token_data


class GrammarState:
    """A grammar behind some text."""

    def __init__(self, pointer: Any, spelling: Spelling, pending: bytes = b"") -> None:  # noqa: ANN401 - llama_sampler *
        self._pointer = pointer
        self._spelling = spelling
        self._pending = pending  # beginning of a character
        weakref.finalize(self, api.llama_sampler_free, pointer)

    @classmethod
    def of(cls, model: Model, text: str) -> Self:
        """The grammar's beginning.

        Raises UsageError for a grammar that is faulty, or that no token of the model can begin.
        """
        read_gbnf(text)
        forget_errors()
        pointer = api.llama_sampler_init_grammar(model.vocab, text.encode(), ROOT.encode())
        if not pointer:
            raise UsageError(f"llama.cpp refuses the grammar: {last_error()}")
        state = cls(pointer, model.spelling)
        if not state.allowed(np.arange(model.n_vocab)).any():
            raise UsageError("the grammar forbids everything: no token of the model can begin a text that fits it")
        return state

    def allowed(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each of these tokens may come next; shape of `tokens`."""
        data = np.zeros(tokens.size, _TOKEN_DATA)
        data["id"] = tokens
        array = api.llama_token_data_array(
            data=ctypes.cast(data.ctypes.data, ctypes.POINTER(api.llama_token_data)), size=tokens.size, selected=-1
        )
        api.llama_sampler_apply(self._pointer, ctypes.byref(array))
        fits: npt.NDArray[np.bool_] = data["logit"] == 0
        fits[fits] = self._spelling.follow(self._pending, tokens[fits])
        return fits

    def accept(self, token: int) -> None:
        """Go on behind a token, which must be allowed."""
        assert self.allowed(np.array([token]))[0]
        api.llama_sampler_accept(self._pointer, token)
        self._pending = rest(self._pending + self._spelling.pieces[token]) or b""

    def copy(self) -> Self:
        """The same state, to go on elsewhere."""
        return type(self)(api.llama_sampler_clone(self._pointer), self._spelling, self._pending)
