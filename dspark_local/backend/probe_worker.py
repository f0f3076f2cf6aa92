"""The child of a probe: loads what it is told to, runs one round of it, and says so, if it lives to say it.

One JSON object per line on stdin (Job), one per line on stdout (Answer). It is here to die in our place.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.backend.appraisal import Buffer, read_buffers
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.library import gpu_memory, listening
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.backend.repack import repacked_bytes
from dspark_local.errors import DSparkError
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from typing import TextIO

_N_CTX = 256
_N_TOKENS = 64  # enough rows for AMX tiles, on which a bad build dies
_NO_DIALOGS = 0x0003  # SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX
_ALL_BYTES = bytes(range(1, 256)).decode("latin-1")  # a vocabulary without byte tokens may throw on some


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to try: a target, a drafter for it or none, and how; with a `shape`, only what they would take in it.

    `candidates` as in LlamaDraft.
    """

    target: str
    draft: str | None = None
    gpu_layers: int = 0
    use_extra_bufts: bool = True
    threads: int = 1
    candidates: bool = False
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok`, or why not, in one line; and the buffers of a simulation."""

    ok: bool
    detail: str = ""
    buffers: tuple[Buffer, ...] = ()


def try_job(job: Job) -> Answer:
    """Prefill, inject, draft and verify once. What llama.cpp refuses is an answer; what kills it is none."""
    try:
        with ExitStack() as held:
            if job.shape:
                return Answer(ok=True, buffers=_simulated(job, job.shape, held))
            _round(job, held)
    except DSparkError as error:
        return Answer(ok=False, detail=str(error))
    return Answer(ok=True)


def _round(job: Job, held: ExitStack) -> None:
    spec = read_draft_spec(GGUF.open(job.draft)) if job.draft else None
    model = _model(job, job.target)
    shape = Shape(n_ctx=_N_CTX, width=spec.block_size + 1 if spec else 1, threads=job.threads)
    target = held.enter_context(closing(LlamaTarget(model, shape, layers=spec.target_layers if spec else ())))
    model.encode(_ALL_BYTES, special=False)
    tokens = [i % model.n_vocab for i in range(_N_TOKENS)]
    rows = target.decode([Span(0, 0, tokens, outputs=0)])[0]
    if job.draft and spec:
        weights = _model(job, job.draft)
        draft = held.enter_context(closing(LlamaDraft(weights, target, spec, shape, candidates=job.candidates)))
        assert rows.hidden is not None
        draft.inject([Features(0, 0, rows.hidden)])
        drafted = draft.draft([Block(0, _N_TOKENS, tokens[-1])], draft.block_size)[0]
        tokens = [int(row.argmax()) for row in drafted.logits]
    target.decode([Span(0, _N_TOKENS, tokens[: shape.width])])
    target.rewind(0, _N_TOKENS)


def _simulated(job: Job, shape: Shape, held: ExitStack) -> tuple[Buffer, ...]:
    draft = GGUF.open(job.draft) if job.draft else None
    spec = read_draft_spec(draft) if draft else None
    layers = spec.target_layers if spec else ()
    with listening() as lines:
        target = held.enter_context(closing(LlamaTarget(_model(job, job.target, simulated=True), shape, layers=layers)))
    buffers = read_buffers("target", lines) + _repacked("target", GGUF.open(job.target), job)
    if job.draft and draft and spec:
        with listening() as lines:
            held.enter_context(closing(LlamaDraft(_model(job, job.draft, simulated=True), target, spec, shape)))
        buffers += read_buffers("draft", lines) + _repacked("draft", draft, job)
    return buffers + tuple(Buffer("machine", name, "free", free) for name, free in gpu_memory().items())


def _repacked(of: str, file: GGUF, job: Job) -> tuple[Buffer, ...]:
    return (Buffer(of, "CPU", "repacked", repacked_bytes(file)),) if job.use_extra_bufts else ()


def _model(job: Job, path: str, *, simulated: bool = False) -> Model:
    return Model(Path(path), gpu_layers=job.gpu_layers, extra_buffers=job.use_extra_bufts, simulated=simulated)


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answer jobs until the input ends."""
    for line in lines:
        job = json.loads(line)
        shape = job.pop("shape", None)
        answer = try_job(Job(**job, shape=Shape(**shape) if shape else None))
        answers.write(json.dumps(asdict(answer)) + "\n")
        answers.flush()


def main() -> None:
    """Serve on stdin and what was stdout; whatever else is printed goes to stderr."""
    if sys.platform == "win32":
        ctypes.windll.kernel32.SetErrorMode(_NO_DIALOGS)  # it would wait for somebody to close one
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  # POSIX only; a model's core dump would fill the disk

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
