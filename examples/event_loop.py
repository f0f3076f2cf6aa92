"""Several questions at once in one event loop, each with a time limit.

python examples/event_loop.py
"""

import asyncio

import dspark_local
from dspark_local import FinishReason, Runtime

QUESTIONS = ["What does random.choice do?", "What does os.path.join do?", "What does sorted do?"]


async def answer(runtime: Runtime, question: str) -> str:
    """The whole answer; what there is of it after half a minute."""
    generation = await runtime.achat([{"role": "user", "content": question}], max_tokens=100, timeout=30)
    finish = await generation.aresult()
    late = " (out of time)" if finish.reason is FinishReason.TIMEOUT else ""
    return f"{question}\n  {finish.text}{late}"


async def main() -> None:
    """Each is printed as soon as it is whole."""
    runtime = await asyncio.to_thread(dspark_local.load, "demo", slots=2)  # the third waits for its turn
    async with runtime:
        for done in asyncio.as_completed([answer(runtime, question) for question in QUESTIONS]):
            print(await done)


if __name__ == "__main__":
    asyncio.run(main())
