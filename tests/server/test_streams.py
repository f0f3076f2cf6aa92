"""Many streams at once: each is its solo run by seed, in the fixed-width mode."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import openai
import pytest

from dspark_local import SamplingParams

from .conftest import PATIENCE

if TYPE_CHECKING:
    from .conftest import Served

FUNCTIONS = ["random.choice", "os.walk", "json.dumps", "bisect.insort", "glob.glob", "ast.parse", "csv.reader"]
TOKENS = 24


@pytest.mark.parametrize("streams", [1, 4, 16])
async def test_each_stream_is_its_solo_run(demo: Served, streams: int) -> None:
    """More of them than slots: some wait, join and leave between the rounds of others; no text is mixed or wrong."""
    asked = [f"What does {FUNCTIONS[i % len(FUNCTIONS)]} do?" for i in range(streams)]
    client = openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    async def read(seed: int, question: str) -> str:
        stream = await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": question}],
            temperature=0.9,
            seed=seed,
            max_tokens=TOKENS + seed % 5,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    texts = await asyncio.gather(*(read(seed, question) for seed, question in enumerate(asked)))
    await client.close()
    for seed, (question, text) in enumerate(zip(asked, texts, strict=True)):
        solo = demo.runtime.chat(
            [{"role": "user", "content": question}],
            SamplingParams(temperature=0.9, seed=seed),
            max_tokens=TOKENS + seed % 5,
        )
        assert text == (await asyncio.to_thread(solo.result)).text
