"""OpenAI's `completions`. Source: https://platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from dspark_local.server.accounts import finish_reason, timings, usage
from dspark_local.server.answers import ANSWERS
from dspark_local.server.desk import Ask, Desk, Job, Part
from dspark_local.server.errors import Refusal
from dspark_local.server.fields import Count, Streamed
from dspark_local.server.streaming import answer, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.runtime import Runtime
    from dspark_local.types import TokenLogprobs

Token = Annotated[int, Field(ge=0, lt=2**31)]


class CompletionRequest(Streamed):
    """A text, or tokens, to be continued; control tokens that it names count as such."""

    model: str
    prompt: str | list[str] | list[Token] | list[list[Token]]
    max_tokens: Count | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it."""
        for name in ("echo", "suffix"):
            if getattr(self, name):
                raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} is not supported", param=name)
        if self.best_of not in (None, 1):
            raise Refusal(HTTPStatus.BAD_REQUEST, "this server gives one answer: best_of must be 1", param="best_of")
        return Ask(
            prompt=self._one(runtime.vocab.n_vocab),
            sampling=self.drawn(runtime.preset, logprobs=self.logprobs),
            max_tokens=self.max_tokens,
            stop=self.stops,
        )

    def _one(self, n_vocab: int) -> str | list[int]:
        prompt = self.prompt
        if isinstance(prompt, list) and any(isinstance(one, str | list) for one in prompt):
            if len(prompt) != 1:
                raise Refusal(HTTPStatus.BAD_REQUEST, "this server continues one prompt at a time", param="prompt")
            prompt = prompt[0]  # type: ignore[assignment] # not a token
        if isinstance(prompt, list) and any(not 0 <= token < n_vocab for token in prompt):  # type: ignore[operator] # tokens
            raise Refusal(HTTPStatus.BAD_REQUEST, f"tokens lie between 0 and {n_vocab - 1}", param="prompt")
        return prompt  # type: ignore[return-value] # one text, or its tokens


class CompletionWriter:
    """A `text_completion`, whole or in chunks of the same shape."""

    def __init__(self, job: Job, body: CompletionRequest) -> None:
        self._job = job
        self._usage = body.wants_usage
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": job.desk.name,
        }
        self._offset = 0

    def begin(self) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def part(self, part: Part) -> Iterator[str]:
        """A chunk with the text that a round added."""
        yield event({**self._head, "choices": [self._choice(part.text, part.logprobs)]})

    def end(self) -> Iterator[str]:
        """The reason; then, if wanted, the usage. The last of the two has the timings."""
        ended = {**self._head, "choices": [self._choice("", (), reason=finish_reason(self._job))]}
        last = {"timings": timings(self._job.generation.stats)}
        if self._usage:
            yield event(ended)
            yield event({**self._head, "choices": [], "usage": usage(self._job), **last})
        else:
            yield event({**ended, **last})
        yield "data: [DONE]\n\n"

    def failed(self, refusal: Refusal) -> Iterator[str]:
        """The error as an event."""
        yield event(refusal.body(""))

    def whole(self) -> dict[str, Any]:
        """The object."""
        job = self._job
        choice = self._choice(job.text, job.logprobs, reason=finish_reason(job))
        return {**self._head, "choices": [choice], "usage": usage(job), "timings": timings(job.generation.stats)}

    def _choice(self, text: str, entries: tuple[TokenLogprobs, ...], *, reason: str | None = None) -> dict[str, Any]:
        logged = None if self._job.ask.sampling.logprobs is None else self._logprobs(entries)
        return {"index": 0, "text": text, "logprobs": logged, "finish_reason": reason}

    def _logprobs(self, entries: tuple[TokenLogprobs, ...]) -> dict[str, Any]:
        """The older shape: lists side by side; offsets count the characters of what was generated."""
        tokens = [self._spelled(entry.token) for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [{self._spelled(o.token): o.logprob for o in entry.top} for entry in entries],
            "text_offset": offsets,
        }

    def _spelled(self, token: int) -> str:
        return self._job.desk.runtime.vocab.piece(token).decode("utf-8", "replace")


def routes(desk: Desk) -> APIRouter:
    """The route, before this desk."""
    router = APIRouter()

    @router.post("/v1/completions", responses=ANSWERS)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        return await answer(desk, body, CompletionWriter, request)

    return router
