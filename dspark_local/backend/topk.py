"""The likeliest tokens of each row, picked in a context's graph by llama.cpp's own top-k, slot by slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.backend.candidates import MOST, ordered
from dspark_local.backend.library import api
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.backend.base import Floats
    from dspark_local.sampling.truncation import Ids


_CANNOT = "llama.cpp does not pick candidates on this backend"


class TopK:
    """A sampler for each slot of a context that wants one; its rows are then read here, for their logits stay behind.

    `k` tokens of a row: a graph that asked for more than there are would abort.
    """

    def __init__(self, context: Any, n_vocab: int) -> None:  # noqa: ANN401 - llama_context *
        self.k = min(MOST, n_vocab)
        self._context = context
        self._n_vocab = n_vocab
        self._chains: dict[int, Any] = {}

    def want(self, slot: int, wanted: bool) -> None:  # noqa: FBT001 - what is wanted
        """Let a slot's rows be picked from, or whole again: any change has llama.cpp reserve its buffers anew.

        Raises BackendError where that isn't possible.
        """
        if wanted == (slot in self._chains):
            return
        if not wanted:
            api.llama_set_sampler(self._context, slot, None)
            api.llama_sampler_free(self._chains.pop(slot))
            return
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())  # serves one context, once
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_k(self.k))
        if not api.llama_set_sampler(self._context, slot, chain):
            api.llama_sampler_free(chain)
            raise BackendError(_CANNOT)
        self._chains[slot] = chain

    def rows(self, first: int, n: int) -> tuple[Ids, Floats]:
        """Tokens [n, k] of consecutive rows of the last decode, ascending, and their logits [n, k].

        Raises BackendError where they are whole after all: llama.cpp takes a sampler that the backend cannot run.
        """
        counts = (api.llama_get_sampled_candidates_count_ith, api.llama_get_sampled_logits_count_ith)
        if any(count(self._context, row) != self.k for count in counts for row in range(first, first + n)):
            raise BackendError(_CANNOT)
        ids = self._read(api.llama_get_sampled_candidates_ith(self._context, first), n)
        return ordered(ids, self._read(api.llama_get_sampled_logits_ith(self._context, first), n))

    def _read(self, pointer: Any, n: int) -> npt.NDArray[Any]:  # noqa: ANN401 - a pointer of ctypes
        """What lies at the beginning of rows that are as wide as the vocabulary."""
        return np.ctypeslib.as_array(pointer, (n, self._n_vocab))[:, : self.k]

    def drop(self) -> None:
        """Take every slot's back."""
        for slot in list(self._chains):
            self.want(slot, wanted=False)

    def free(self) -> None:
        """Free the samplers, once their context is; twice is fine."""
        while self._chains:
            api.llama_sampler_free(self._chains.popitem()[1])
