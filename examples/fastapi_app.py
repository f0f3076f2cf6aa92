"""Answers as a stream of text over HTTP.

    pip install fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app
    curl --no-buffer --json '{"question": "What does random.choice do?"}' localhost:8000/ask

`dspark-local serve` speaks the protocols that other tools know; this is for an API of your own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

import dspark_local
from dspark_local import DSparkError, Generation, QueueFullError, Runtime, Text, UsageError

STATUS = {QueueFullError.code: 503, UsageError.code: 400, dspark_local.ContextError.code: 413}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One runtime for the life of the server: two answers at once, four more that wait."""
    app.state.runtime = await asyncio.to_thread(dspark_local.load, "demo", slots=2, max_waiting=4)
    async with app.state.runtime:
        yield


app = FastAPI(lifespan=lifespan)


class Ask(BaseModel):
    """What a client sends."""

    question: str
    max_tokens: int = 200


def runtime_of(request: Request) -> Runtime:
    """The server's runtime."""
    runtime: Runtime = request.app.state.runtime
    return runtime


@app.post("/ask")
async def ask(asked: Ask, runtime: Annotated[Runtime, Depends(runtime_of)]) -> StreamingResponse:
    """Errors before the first word have a status; a client that leaves ends the answer."""
    messages = [{"role": "user", "content": asked.question}]
    generation = await runtime.achat(messages, max_tokens=asked.max_tokens, timeout=60)
    return StreamingResponse(text_of(generation), media_type="text/plain")


async def text_of(generation: Generation) -> AsyncIterator[str]:
    """The pieces of its text."""
    async with generation:
        async for event in generation:
            if isinstance(event, Text):
                yield event.text


@app.exception_handler(DSparkError)
async def refused(_request: Request, error: DSparkError) -> JSONResponse:
    """An error of ours as data."""
    return JSONResponse({"code": error.code, "message": str(error)}, STATUS.get(error.code, 500))
