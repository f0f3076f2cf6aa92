"""Model weights and vocabulary in llama.cpp, and one context over them."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from dspark_local.backend.base import NoRoomError
from dspark_local.backend.grammar import GrammarState
from dspark_local.backend.library import api, check_process, forget_errors, last_error
from dspark_local.backend.neighbours import NEIGHBOURS
from dspark_local.backend.rollback import Rollback
from dspark_local.backend.spelling import Spelling
from dspark_local.errors import BackendError, ClosedError, ModelFormatError, ModelNotFoundError, OutOfMemoryError
from dspark_local.sampling.dry import find_breakers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspark_local.backend.memory import Batch
    from dspark_local.sampling.dry import Breakers

KV_TYPES = {"f16": api.GGML_TYPE_F16, "q8_0": api.GGML_TYPE_Q8_0}
_LOAD_NOTHING = 0  # LLAMA_LOAD_MODE_NONE, which simulation wants
_PARTIAL = api.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY  # the recurrent state without keys and values
NO_SLOT = 1  # llama_decode: no room in the KV cache


class Model:
    """Weights of one GGUF file.

    `progress` is called with the share loaded, 0 to 1. `extra_buffers` False gives up repacked weights, which some
    builds need (see probe.py). `simulated` reads metadata only: contexts over it tell their size, and must not decode.
    `vocab_only` reads the tokenizer alone, and no context is to be had.

    Raises ModelNotFoundError, ModelFormatError or ForkError.
    """

    def __init__(
        self,
        path: Path,
        *,
        gpu_layers: int = -1,
        extra_buffers: bool = True,
        simulated: bool = False,
        vocab_only: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        check_process()
        if not path.is_file():
            raise ModelNotFoundError(f"no such file: {path}")
        params = api.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = extra_buffers
        if simulated:
            params.no_alloc, params.load_mode = True, _LOAD_NOTHING
        params.vocab_only = vocab_only
        report = api.llama_progress_callback(lambda share, _: progress(share) is None if progress else True)
        params.progress_callback = report
        forget_errors()
        self.path = path
        self.pointer = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise ModelFormatError(f"llama.cpp cannot load {path.name}: {last_error()}")
        self._users = 1
        self._lock = threading.Lock()
        self._vocab = api.llama_model_get_vocab(self.pointer)
        self.n_vocab: int = api.llama_vocab_n_tokens(self.vocab)
        self.n_embd: int = api.llama_model_n_embd(self.pointer)
        self.n_layer: int = api.llama_model_n_layer(self.pointer)
        self.n_ctx_train: int = api.llama_model_n_ctx_train(self.pointer)
        self.arch = self.meta("general.architecture") or ""
        self.recurrent = bool(api.llama_model_is_recurrent(self.pointer) or api.llama_model_is_hybrid(self.pointer))
        n_suppressed = ctypes.c_int32()
        suppressed = api.llama_vocab_get_suppress_tokens(self.vocab, ctypes.byref(n_suppressed))
        self.suppressed: tuple[int, ...] = tuple(suppressed[: n_suppressed.value]) if n_suppressed.value else ()
        self._pieces: dict[int, bytes] = {}
        self._breakers: dict[tuple[str, ...], Breakers] = {}
        template = api.llama_model_chat_template(self.pointer, None)
        self.chat_template: str | None = template.decode() if template else None
        self.bos = self._text(api.llama_vocab_bos(self.vocab))
        self.eos = self._text(api.llama_vocab_eos(self.vocab))

    @property
    def vocab(self) -> Any:  # noqa: ANN401 - a pointer of ctypes
        """llama.cpp's vocabulary. Raises ClosedError when the weights are freed, and it with them."""
        if not self.pointer:
            raise ClosedError(f"{self.path.name} is closed; load it again")
        return self._vocab

    def meta(self, key: str) -> str | None:
        """A metadata value as text."""
        buffer = ctypes.create_string_buffer(256)
        found = api.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if found >= 0 else None

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of `text`, with nothing added; `special` lets names of control tokens count as such."""
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        n = api.llama_tokenize(self.vocab, data, len(data), tokens, room, False, special)
        assert n >= 0, "a token is at least a byte"
        return list(tokens[:n])

    def piece(self, token: int) -> bytes:
        """UTF-8 bytes of a token; empty for control tokens."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._piece(token, special=False)
        return found

    def is_end(self, token: int) -> bool:
        """Whether the model ends its answer with this token."""
        return bool(api.llama_vocab_is_eog(self.vocab, token))

    @cached_property
    def spelling(self) -> Spelling:
        """The bytes of all tokens; read once, when the first grammar wants them."""
        return Spelling.of(self.n_vocab, self.piece, self.is_end)

    def constraint(self, grammar: str) -> GrammarState:
        """A GBNF grammar's beginning. Raises UsageError as GrammarState.of does."""
        return GrammarState.of(self, grammar)

    def breakers(self, strings: tuple[str, ...]) -> Breakers:
        """Where DRY's repetitions end; found once for the same strings, in the text of every token."""
        if strings not in self._breakers:
            spelled = [self._detokenised(token) for token in range(self.n_vocab)]
            self._breakers[strings] = find_breakers(strings, spelled, lambda text: self.encode(text, special=False))
        return self._breakers[strings]

    def _detokenised(self, token: int) -> bytes:
        tokens, buffer = (ctypes.c_int32 * 1)(token), ctypes.create_string_buffer(64)
        n = api.llama_detokenize(self.vocab, tokens, 1, buffer, len(buffer), False, True)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = api.llama_detokenize(self.vocab, tokens, 1, buffer, len(buffer), False, True)
        return buffer.raw[:n]

    def _text(self, token: int) -> str:
        return self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        n = api.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = api.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:n]

    def share(self) -> Self:
        """The same weights for one more user, who closes them too."""
        with self._lock:
            assert self.pointer
            self._users += 1
        return self

    def close(self) -> None:
        """Free the weights when the last user closes them, on whatever thread; once more is fine."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            pointer, self.pointer = self.pointer, None
        if pointer:
            api.llama_model_free(pointer)


def context_params(
    *,
    n_ctx: int,
    n_slots: int,
    n_batch: int,
    n_outputs: int,
    threads: int,
    unified: bool,
    kv: str = "f16",
    n_back: int = 0,
) -> Any:  # noqa: ANN401 - llama_context_params
    """Parameters of a context with `n_ctx` positions for each of `n_slots` sequences.

    `n_back` tokens of a decode can be taken back where the architecture keeps a recurrent state.
    """
    params = api.llama_context_default_params()
    params.n_ctx = n_ctx * n_slots
    params.n_batch = params.n_ubatch = n_batch
    params.n_seq_max = n_slots
    params.n_outputs_max = max(n_outputs, n_slots)
    params.n_outputs_max_per_seq = 0
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = unified
    params.type_k = params.type_v = KV_TYPES[kv]
    params.n_rs_seq = n_back
    params.swa_full = True  # a window that forgets cannot be rewound
    params.no_perf = True
    return params


class Context:
    """One llama.cpp context: decode, rewind, and the seconds that its decodes took.

    A `polite` one decodes with fewer threads while other programs keep cores busy.
    """

    def __init__(self, model: Model, params: Any, *, polite: bool = False) -> None:  # noqa: ANN401 - llama_context_params
        self.model = model
        self.busy = 0.0
        self._threads = self._using = params.n_threads
        self._polite = polite
        forget_errors()
        self.pointer = api.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise OutOfMemoryError(
                f"no context of {params.n_ctx} tokens for {model.path.name}: {last_error()}; lower --ctx-size"
            )
        self._memory = api.llama_get_memory(self.pointer)
        self._rollback = Rollback(api.llama_n_rs_seq(self.pointer)) if model.recurrent else None
        # llama.cpp lowers both to the context's size, and aborts on a larger batch
        self.n_batch: int = min(api.llama_n_batch(self.pointer), api.llama_n_ubatch(self.pointer))

    def decode(self, batch: Batch) -> None:
        """Run a batch. When it fails, with BackendError, its slots hold what they held before, or nothing."""
        assert 0 < batch.struct.n_tokens <= self.n_batch
        self._check(batch)
        if self._polite:
            self._use(min(self._threads, NEIGHBOURS.free()))
        began = time.perf_counter()
        forget_errors()
        code = api.llama_decode(self.pointer, batch.struct)
        api.llama_synchronize(self.pointer)
        self.busy += time.perf_counter() - began
        NEIGHBOURS.decoded()
        if self._rollback and code != NO_SLOT:  # which is said before anything is done
            for slot, start, n in batch.spans:
                self._rollback.decoded(slot, start, n)
        if code:
            for slot, start, _ in batch.spans:
                self.rewind(slot, start)
            if code == NO_SLOT:
                raise NoRoomError(f"the KV cache has no room for {batch.struct.n_tokens} tokens more")
            raise BackendError(f"llama.cpp failed to decode {batch.struct.n_tokens} tokens ({code}): {last_error()}")

    def _check(self, batch: Batch) -> None:
        """A recurrent state goes on where it is, whatever positions say."""
        if self._rollback and any(start != self._rollback.held(slot) for slot, start, _ in batch.spans):
            raise BackendError(f"the cache of {self.model.path.name} has lost what came before")

    def _use(self, threads: int) -> None:
        if threads != self._using:
            api.llama_set_n_threads(self.pointer, threads, threads)
            self._using = threads

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions of a slot, or all where a recurrent state is gone; what is left."""
        n = self._rollback.reached(slot, n) if self._rollback else n
        if not api.llama_memory_seq_rm(self._memory, slot, n, -1):
            raise BackendError(f"{self.model.path.name} cannot take back tokens; its cache does not rewind")
        if self._rollback:
            self._rollback.holds(slot, n)
        return n

    def checkpoint(self, slot: int) -> bytearray | None:
        """A slot's recurrent state, if it has one, for `undo`."""
        if not (self._rollback and self._rollback.held(slot)):
            return None
        size = api.llama_state_seq_get_size_ext(self.pointer, slot, _PARTIAL)
        state = bytearray(size)
        if api.llama_state_seq_get_data_ext(self.pointer, _bytes(state), size, slot, _PARTIAL) != size:
            raise BackendError(f"llama.cpp cannot take out the state of {self.model.path.name}: {last_error()}")
        return state

    def undo(self, slot: int, n: int, state: bytearray | None) -> None:
        """Forget all but the first n positions of a slot, behind which its state was this."""
        if state and self._rollback:
            if api.llama_state_seq_set_data_ext(self.pointer, _bytes(state), len(state), slot, _PARTIAL) != len(state):
                self.rewind(slot, 0)
                raise BackendError(f"llama.cpp cannot put back the state of {self.model.path.name}: {last_error()}")
            self._rollback.holds(slot, n)
        self.rewind(slot, n)

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot share the first n positions of another one of the same KV stream; nothing moves."""
        self.rewind(slot, 0)
        api.llama_memory_seq_cp(self._memory, source, slot, 0, n)

    def state(self, slot: int, most: int) -> bytearray:
        """Keys and values of a slot, as bytes. Raises BackendError, also for more bytes than `most`."""
        size = api.llama_state_seq_get_size(self.pointer, slot)
        if size > most:
            raise BackendError(f"the cache of {self.model.path.name} is too large to be kept: {size} bytes")
        state = bytearray(size)
        if not size or api.llama_state_seq_get_data(self.pointer, _bytes(state), size, slot) != size:
            raise BackendError(f"llama.cpp cannot take out the cache of {self.model.path.name}: {last_error()}")
        return state

    def restore(self, slot: int, state: bytearray) -> int:
        """Let a slot hold a state; how many positions that are. Raises BackendError, and then it is empty."""
        self.rewind(slot, 0)
        forget_errors()
        if api.llama_state_seq_set_data(self.pointer, _bytes(state), len(state), slot) != len(state):
            self.rewind(slot, 0)
            raise BackendError(f"llama.cpp cannot put back a cache of {self.model.path.name}: {last_error()}")
        n: int = api.llama_memory_seq_pos_max(self._memory, slot) + 1
        if self._rollback:
            self._rollback.holds(slot, n)
        return n

    def close(self) -> None:
        """Free the context; twice is fine."""
        if self.pointer:
            api.llama_free(self.pointer)
            self.pointer = None


def _bytes(state: bytearray) -> Any:  # noqa: ANN401 - a ctypes array
    return (ctypes.c_uint8 * len(state)).from_buffer(state)
