"""An answer's figures, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dspark_local.types import FinishReason

if TYPE_CHECKING:
    from dspark_local.backend.base import Vocab
    from dspark_local.events import Finish
    from dspark_local.types import Stats, TokenLogprob, TokenLogprobs

_ENDS = {
    FinishReason.STOP: "",
    FinishReason.LENGTH: "cut at --max-tokens",
    FinishReason.CONTEXT: "the context is full, see --ctx-size",
    FinishReason.CANCELLED: "interrupted",
    FinishReason.TIMEOUT: "out of time",
    FinishReason.GRAMMAR: "broken off: the grammar allows no token here",
}


def line(finish: Finish, *, seed: bool) -> str:
    """The statistics as one line; `seed` adds the seed, for who did not choose it."""
    stats = finish.stats
    parts = [f"{stats.predicted_n} tokens", f"{stats.tokens_per_second:.1f} tok/s"]
    if stats.draft_n:
        parts += [
            f"accepted length {stats.accepted_length:.2f} (target's own token included)",
            f"{100 * stats.draft_n_accepted / stats.draft_n:.0f} % of {stats.draft_n} drafts",
        ]
    if stats.rounds:
        parts.append(f"width {stats.mean_width:.1f}")
    if seed:
        parts.append(f"seed {stats.seed}")
    return " · ".join(filter(None, [*parts, _ENDS[finish.reason]]))


def record(finish: Finish, thinking: str, vocab: Vocab) -> dict[str, Any]:
    """What `--json` prints; its keys are a promise, hence spelled out here. `logprobs` only if they were asked for."""
    said: dict[str, Any] = {
        "text": finish.text,
        "thinking": thinking,
        "tokens": list(finish.tokens),
        "finish_reason": finish.reason.value,
        "stats": _stats(finish.stats),
    }
    if finish.logprobs:
        said["logprobs"] = [
            {**_logprob(entry, vocab), "top_logprobs": [_logprob(other, vocab) for other in entry.top]}
            for entry in finish.logprobs
        ]
    return said


def _logprob(entry: TokenLogprob | TokenLogprobs, vocab: Vocab) -> dict[str, Any]:
    """As OpenAI's API has it, and the token's id; bytes may be a part of a character."""
    piece = vocab.piece(entry.token)
    return {"id": entry.token, "token": piece.decode("utf-8", "replace"), "logprob": entry.logprob, "bytes": [*piece]}


def _stats(stats: Stats) -> dict[str, Any]:
    return {
        "seed": stats.seed,
        "prompt_n": stats.prompt_n,
        "predicted_n": stats.predicted_n,
        "first_n": stats.first_n,
        "draft_n": stats.draft_n,
        "draft_n_accepted": stats.draft_n_accepted,
        "accepted_by": dict(stats.accepted_by),
        "rounds": stats.rounds,
        "accepted_length": stats.accepted_length,
        "accepted_per_position": stats.accepted_per_position,
        "mean_width": stats.mean_width,
        "tokens_per_second": stats.tokens_per_second,
        "seconds": {**asdict(stats.times), "total": stats.times.total},
    }
