"""What can go wrong, as one tree.

    DSparkError                 everything this package raises on purpose
    ├── UsageError              an option out of range, or two that contradict each other
    ├── ModelError              a file that cannot be used
    │   ├── ModelNotFoundError  no such name, no such file
    │   ├── DownloadError       a file of the hub that did not arrive
    │   ├── ModelFormatError    not a GGUF, truncated, or inconsistent in itself
    │   ├── PairError           a sound drafter, but not of this target
    │   └── ConvertError        a checkpoint that cannot become a GGUF
    ├── ContextError            the prompt does not fit the context
    ├── OutOfMemoryError        the machine cannot hold what was asked for
    ├── BackendError            llama.cpp failed, or is not a build that we can drive
    ├── StorageError            the conversations cannot be read or written
    ├── QueueFullError          as many requests wait as may; ask again later
    ├── TrainingError           a training that cannot go on
    └── ClosedError             the runtime was closed; load it again
        └── ForkError           it belongs to the process that this one was forked from

Every message is one line that says what is wrong and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class DSparkError(Exception):
    """Root of everything that this package raises on purpose.

    `code` is stable across versions, for programs; the message is for people.
    """

    code: ClassVar[str] = "error"


class UsageError(DSparkError):
    """An option is out of range, or two options contradict each other."""

    code = "usage"


class ModelError(DSparkError):
    """A model file cannot be used."""

    code = "model"


class ModelNotFoundError(ModelError):
    """There is no model of that name, and no such file."""

    code = "model_not_found"


class DownloadError(ModelError):
    """A file of the hub did not arrive, or not whole."""

    code = "download"


class ModelFormatError(ModelError):
    """The file is not a GGUF, is truncated, or contradicts itself."""

    code = "model_format"


class PairError(ModelError):
    """Drafter and target are each sound, but do not belong together."""

    code = "pair"


class ConvertError(ModelError):
    """A checkpoint cannot be converted."""

    code = "convert"


class ContextError(DSparkError):
    """The prompt does not fit the context."""

    code = "context"


class OutOfMemoryError(DSparkError):
    """The machine cannot hold what was asked for."""

    code = "out_of_memory"


class BackendError(DSparkError):
    """llama.cpp failed, or is not a build that can be driven."""

    code = "backend"


class StorageError(DSparkError):
    """The file that keeps the conversations cannot be read or written."""

    code = "storage"


class TrainingError(DSparkError):
    """A training cannot go on: its loss is no number, or the disk is full."""

    code = "training"


class ClosedError(DSparkError):
    """The runtime was closed."""

    code = "closed"


class ForkError(ClosedError):
    """The runtime belongs to the process that this one was forked from."""

    code = "fork"


class QueueFullError(DSparkError):
    """As many requests wait for a slot as the runtime lets wait."""

    code = "queue_full"
