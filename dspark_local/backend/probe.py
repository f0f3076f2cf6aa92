"""Would llama.cpp load and run these files, on this machine, without dying? A child process finds out.

A child that dies took the blow for the program: the file killed it, or the build did, as builds by GCC 12 and
older do on a CPU with AMX as soon as a quantised matrix meets a larger batch; `use_extra_bufts=False` avoids
that one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Self

from dspark_local.backend.appraisal import Buffer
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from dspark_local.backend.base import Shape

_TAIL = 4096
_MOST_CODES = 255  # of a program that ends by itself
_MOST_DETAIL = 300
_LAST_WORDS = re.compile(r"\.(c|cpp|h):\d+: |what\(\)|Error")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`: it runs. If not, `detail` says why in one line; `died`: it would have taken the program along."""

    ok: bool
    detail: str = ""
    died: bool = False


class Prober:
    """A child that tries files, started when first needed and again after each death.

    `timeout` seconds for one check, `threads` those that the child computes with (all cores if None). Use it
    as a context manager, or close it. Not for several threads at once.
    """

    def __init__(self, *, timeout: float = 300.0, threads: int | None = None) -> None:
        self._timeout = timeout
        self._threads = threads or os.cpu_count() or 1
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; twice is fine."""
        if self._worker:
            self._worker.kill()
            self._worker = None

    def check(
        self,
        target: Path,
        draft: Path | None = None,
        *,
        use_extra_bufts: bool = True,
        gpu_layers: int = 0,
        candidates: bool = False,
    ) -> Verdict:
        """Load a target, and the drafter for it; run one round. Raises BackendError without a child."""
        options = {"use_extra_bufts": use_extra_bufts, "gpu_layers": gpu_layers, "candidates": candidates}
        said = self._ask(target, draft, **options)
        return said if isinstance(said, Verdict) else Verdict(ok=said["ok"], detail=said["detail"])

    def appraise(
        self,
        target: Path,
        draft: Path | None,
        shape: Shape,
        *,
        use_extra_bufts: bool = True,
        gpu_layers: int = 0,
    ) -> tuple[Buffer, ...] | Verdict:
        """What the contexts of a pair would take, by llama.cpp's own simulation; or why that cannot be told."""
        said = self._ask(target, draft, use_extra_bufts=use_extra_bufts, gpu_layers=gpu_layers, shape=asdict(shape))
        if isinstance(said, Verdict):
            return said
        if not said["ok"]:
            return Verdict(ok=False, detail=said["detail"])
        return tuple(Buffer(**buffer) for buffer in said["buffers"])

    def _ask(self, target: Path, draft: Path | None, **options: Any) -> dict[str, Any] | Verdict:  # noqa: ANN401 - JSON
        job = {
            "target": str(target),
            "draft": str(draft) if draft else None,
            "threads": self._threads,
            **options,
        }
        self._worker = self._worker or _Worker()
        try:
            answer = self._worker.ask(json.dumps(job), self._timeout)
        except TimeoutError:
            self.close()
            detail = f"llama.cpp gave no answer in {self._timeout:g} seconds"
            return Verdict(ok=False, detail=detail, died=True)
        if answer is None:
            detail = self._worker.epitaph()
            self.close()
            return Verdict(ok=False, detail=detail, died=True)
        said: dict[str, Any] = json.loads(answer)
        return said


class _Worker:
    """One child process, its answers line by line, and its last words."""

    def __init__(self) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in kill()
        # Without a debugger's backtrace, which takes seconds where one is installed.
        env = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dspark_local.backend.probe_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=env,
                encoding="utf-8",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows: no console of its own
            )
        except OSError as error:
            raise BackendError(f"no child process can be started to probe a model ({error})") from error
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()  # pipes have no timeout everywhere

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def ask(self, job: str, timeout: float) -> str | None:
        """Send a job and return the child's answer; None if it died. Raises TimeoutError."""
        assert self._process.stdin
        try:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
        except OSError:  # it is dead already
            return None
        try:
            return self._answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def epitaph(self) -> str:
        """Tell in one line what it died of, without the paths of the machine that built llama.cpp."""
        code = self._process.wait()
        cause = f"exit code {code:#x}" if code > _MOST_CODES else f"exit code {code}"  # Windows' own, in its spelling
        if code < 0:
            cause = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _TAIL))
        said = self._stderr.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in said if line.strip()]
        told = [line for line in lines if _LAST_WORDS.search(line)] or lines
        words = re.sub(r"\S*[/\\](?=\S)", "", told[-1]) if told else ""
        return f"llama.cpp died of it ({cause}{': ' + words[:_MOST_DETAIL] if words else ''})"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError):  # of a job that a dead child never read
            self._process.stdin.close()
        self._stderr.close()
