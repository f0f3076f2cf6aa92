"""What an answer took, as the protocols and llama-server name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspark_local.types import FinishReason

if TYPE_CHECKING:
    from dspark_local.backend.base import Vocab
    from dspark_local.server.desk import Job
    from dspark_local.types import Stats, TokenLogprob, TokenLogprobs


def timings(stats: Stats) -> dict[str, Any]:
    """llama-server's `timings`, with milliseconds, and the seed that was drawn or given; `prompt_n` was not cached."""
    prompt, rest = 1000 * stats.times.prefill, 1000 * (stats.times.total - stats.times.prefill)
    read = stats.prompt_n - stats.cached_n
    return {
        "cache_n": stats.cached_n,
        "prompt_n": read,
        "prompt_ms": prompt,
        "prompt_per_token_ms": prompt / max(1, read),
        "prompt_per_second": 1000 * read / prompt if prompt else 0.0,
        "predicted_n": stats.predicted_n,
        "predicted_ms": rest,
        "predicted_per_token_ms": rest / max(1, stats.predicted_n),
        "predicted_per_second": stats.tokens_per_second,
        "draft_n": stats.draft_n,
        "draft_n_accepted": stats.draft_n_accepted,
        "seed": stats.seed,
    }


def usage(job: Job) -> dict[str, Any]:
    """OpenAI's `usage` of chats and completions."""
    stats = job.generation.stats
    return {
        "prompt_tokens": job.prompt_n,
        "completion_tokens": stats.predicted_n,
        "total_tokens": job.prompt_n + stats.predicted_n,
        "prompt_tokens_details": {"cached_tokens": stats.cached_n},
    }


def cut(job: Job) -> bool:
    """Whether the answer ended before its time: at a limit, or where a grammar allowed no token."""
    assert job.finish
    return job.finish.reason in (FinishReason.LENGTH, FinishReason.CONTEXT, FinishReason.GRAMMAR)


def finish_reason(job: Job) -> str:
    """OpenAI's `finish_reason`."""
    return "length" if cut(job) else "tool_calls" if job.calls else "stop"


def logprobs(entries: tuple[TokenLogprobs, ...], vocab: Vocab) -> list[dict[str, Any]]:
    """OpenAI's log-probabilities of tokens."""
    return [{**_logprob(e, vocab), "top_logprobs": [_logprob(o, vocab) for o in e.top]} for e in entries]


def _logprob(entry: TokenLogprob | TokenLogprobs, vocab: Vocab) -> dict[str, Any]:
    piece = vocab.piece(entry.token)
    return {"token": piece.decode("utf-8", "replace"), "logprob": entry.logprob, "bytes": [*piece]}
