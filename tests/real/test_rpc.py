"""Beyond one machine: a build without RPC says so; with it, rpc-servers hold the target, and the text is the same."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dspark_local
from dspark_local import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parents[2] / "benchmarks"
COMMAND = Path(sys.executable).with_name("dspark-local")
QUESTION = "What does textwrap.dedent do?"


@pytest.mark.parametrize("rpc", ["nowhere", "a b:1", "host:", ":50052", "host:1,"])
def test_what_names_no_server_is_refused(rpc: str) -> None:
    """In one line, before anything is asked."""
    with pytest.raises(errors.UsageError, match="--rpc takes host:port"):
        dspark_local.load("demo", rpc=rpc, threads=1)


def test_a_build_without_rpc_says_so() -> None:
    """With the place where another one is described."""
    with pytest.raises(errors.UsageError, match=r"no RPC backend, which --rpc needs; docs/install.md"):
        dspark_local.load("demo", rpc="127.0.0.1:50052", threads=1)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed libraries, the RPC backend of the same source added to them, and an rpc-server."""
    sys.path.insert(0, str(HERE))
    peer = import_module("peer_build")
    recipe = import_module("setup")
    requirement = recipe.llama_requirement()
    source = peer.BUILD / f"llama.cpp-{recipe.key(requirement)}" / "source"
    if not source.is_dir():
        peer._fetch(requirement, source)
    folder = tmp_path_factory.mktemp("rpc")
    lib = folder / "lib"
    import llama_cpp  # noqa: PLC0415 - only its folder is wanted

    shutil.copytree(Path(llama_cpp.__file__).parent / "lib", lib)
    for path in lib.glob("libggml.so*"):
        path.unlink()
    ggml = source / "ggml" / "src"
    include = [f"-I{p}" for p in (source / "ggml" / "include", ggml, ggml / "ggml-rpc", source / "common")]
    shared = ["-DGGML_BACKEND_SHARED", "-DGGML_SHARED"]
    library = ["-fPIC", "-shared", *shared, "-DGGML_BUILD", "-DGGML_BACKEND_BUILD", "-Wl,-rpath,$ORIGIN"]

    def compile_(out: Path, sources: list[Path], *flags: str) -> None:
        command = ["c++", "-std=c++17", "-O1", *include, *sources, "-o", out, f"-L{lib}", *flags, "-lggml-base"]
        subprocess.run(command, check=True, capture_output=True)

    rpc = [ggml / "ggml-rpc" / name for name in ("ggml-rpc.cpp", "transport.cpp")]
    compile_(lib / "libggml-rpc.so", rpc, *library, "-lpthread")
    registry = [ggml / name for name in ("ggml-backend-reg.cpp", "ggml-backend-dl.cpp")]
    uses = ["-DGGML_USE_CPU", "-DGGML_USE_RPC", "-Wl,-soname,libggml.so.0"]
    compile_(lib / "libggml.so.0", registry, *library, *uses, "-lggml-cpu", "-lggml-rpc")
    (lib / "libggml.so").symlink_to("libggml.so.0")
    server = [source / "tools" / "rpc" / "rpc-server.cpp"]
    compile_(folder / "rpc-server", server, *shared, f"-Wl,-rpath,{lib}", "-lggml", "-lggml-rpc", "-lggml-cpu")
    return folder


@pytest.fixture
def servers(build: Path) -> Iterator[list[int]]:
    """Two of them on loopback: their ports."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen([build / "rpc-server", "-t", "1", "-p", str(port)], **quiet) for port in ports]
    try:
        for port in ports:
            _wait(port)
        yield ports
    finally:
        for process in running:
            process.terminate()
            process.wait(30)


def _wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the rpc-server does not listen")


def run(build: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    short = ("--threads", "1", "--max-tokens", "40", "--policy", "fixed:3")
    command = [COMMAND, "run", "demo", QUESTION, *short, *arguments]
    env = {**os.environ, "LLAMA_CPP_LIB_PATH": str(build / "lib")}
    return subprocess.run(command, env=env, cwd=build, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_two_servers_hold_the_target(build: Path, servers: list[int]) -> None:
    """The whole target lies there, the drafter here; the text is what one machine says, and drafts are accepted."""
    here = run(build)
    there = run(build, "--rpc", ",".join(f"127.0.0.1:{port}" for port in servers))
    assert (there.returncode, here.returncode) == (0, 0), there.stderr
    assert there.stdout == here.stdout != ""
    assert "accepted length" in there.stderr


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_one_line(build: Path) -> None:
    """llama.cpp would abort the process: nobody there, and somebody who is no rpc-server."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        done = run(build, "--rpc", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("dspark-local: no rpc-server of this llama.cpp answers at")
    assert "Traceback" not in done.stderr
