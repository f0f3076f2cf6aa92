"""Programs that end, are interrupted or fork while a runtime is at work: exit codes, and no hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

PATIENCE = 120
BEGIN = """
import contextlib, os, signal, sys, threading, time
import dspark_local
from dspark_local.testing import scripted_runtime
ASK = [{"role": "user", "content": "hello"}]
runtime = scripted_runtime("x" * 5000, seconds=0.005)
generation = runtime.chat(ASK)
events = iter(generation)
next(events)
"""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def start(script: str) -> subprocess.Popen[str]:
    """A program of its own, away from the checkout."""
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", BEGIN + script]
    folder = tempfile.gettempdir()
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(script: str) -> tuple[int, str, str]:
    process = start(script)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


ENDS = [
    "sys.exit(3)",
    """
def read():
    with contextlib.suppress(dspark_local.ClosedError):
        list(events)
threading.Thread(target=read, daemon=True).start()
time.sleep(0.05)
sys.exit(3)
""",
    "del runtime, generation; sys.exit(3)",
    "runtime.close(); sys.exit(3)",
    "others = [scripted_runtime('y' * 5000, seconds=0.005).chat(ASK) for _ in range(3)]; sys.exit(3)",
    """
import asyncio
async def read():
    async for event in runtime.chat(ASK):
        pass
async def main():
    asyncio.create_task(read())
    await asyncio.sleep(0.05)
    sys.exit(3)
asyncio.run(main())
""",
]


def test_a_program_ends_when_it_wants_to() -> None:
    """In the middle of an answer, read by it, by a thread or by a task: with its own exit code."""
    processes = [start(script) for script in ENDS]
    for script, process in zip(ENDS, processes, strict=True):
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (3, "", ""), script


@pytest.mark.parametrize(
    "reads", ["for event in events: pass", "generation.result()", "runtime.generate('x').result()"]
)
def test_ctrl_c_interrupts_a_reader(reads: str) -> None:
    """KeyboardInterrupt where it waits; the answer is cancelled, and the next one comes."""
    process = start(
        f"""
try:
    print("ready", flush=True)
    {reads}
except KeyboardInterrupt:
    del generation, events
    print(runtime.chat(ASK, max_tokens=3).result().text)
    sys.exit(130)
"""
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "xxx\n", "")


def test_a_signal_handler_may_close() -> None:
    """As a server does at SIGTERM: the reader gets ClosedError where it waits."""
    process = start(
        """
signal.signal(signal.SIGTERM, lambda *_: runtime.close())
try:
    print("ready", flush=True)
    while True:
        runtime.chat(ASK, max_tokens=5).cancel()
except dspark_local.ClosedError as error:
    print(error.code)
"""
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "closed\n", "")


REFUSED = """
def refused():
    ask = (lambda: runtime.chat(ASK)), (lambda: runtime.generate("x")), runtime.plain
    for use in (*ask, lambda: next(events), generation.result):
        try:
            use()
        except dspark_local.ForkError as error:
            assert "spawn" in str(error)
        else:
            os._exit(9)
    generation.cancel()
    with runtime:
        pass
"""


@forks
@pytest.mark.parametrize("leave", ["sys.exit(4)", "os._exit(4)"])
def test_a_fork_is_refused_and_harmless(leave: str) -> None:
    """In the child every use raises ForkError at once, closing does nothing; the parent's answer goes on."""
    code, out, err = outcome(
        f"""{REFUSED}
child = os.fork()
if not child:
    refused()
    {leave}
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
assert next(events)
generation.cancel()
print(len(generation.result().text) > 0)
"""
    )
    assert (code, out, err) == (0, "True\n", "")


@forks
def test_a_fork_amid_requests_of_other_threads_is_refused_too() -> None:
    """Whatever lock another thread holds at that moment."""
    code, out, err = outcome(
        f"""{REFUSED}
going = True
def ask():
    while going:
        runtime.chat(ASK, max_tokens=1).cancel()
threads = [threading.Thread(target=ask) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        refused()
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
going = False
for thread in threads:
    thread.join()
"""
    )
    assert (code, out, err) == (0, "", "")


@forks
def test_multiprocessing_by_fork_is_refused() -> None:
    """A pool that forks hands the error back; one that spawns would load a model of its own."""
    code, out, err = outcome(
        """
import multiprocessing
def ask(_):
    return runtime.chat(ASK).result().text
with multiprocessing.get_context("fork").Pool(2) as pool:
    try:
        pool.map(ask, range(4))
    except dspark_local.ForkError as error:
        print(error.code)
"""
    )
    assert (code, out, err) == (0, "fork\n", "")


@forks
def test_a_model_is_not_loaded_in_a_fork_of_a_process_that_uses_llama_cpp() -> None:
    """Its first decode would wait for threads that are not there."""
    code, out, err = outcome(
        """
runtime.close()
with dspark_local.load("demo", policy="fixed:3", threads=2) as loaded:
    child = os.fork()
    if not child:
        try:
            dspark_local.load("demo", policy="fixed:3")
        except dspark_local.ForkError as error:
            print(error, flush=True)
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    assert loaded.chat(ASK, max_tokens=3).result().text
"""
    )
    assert (code, err) == (0, "")
    assert "start it by spawn" in out
