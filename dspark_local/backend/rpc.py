"""llama.cpp's RPC backend: devices of other machines, each offered by an `rpc-server` there.

A server that cannot be reached, or that speaks another version, aborts the process that asks it. So a child asks first.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

from dspark_local.backend.library import lib
from dspark_local.errors import UsageError

_ENDPOINT = re.compile(r"[^\s:,]+:\d{1,5}")
_PATIENCE = 30.0  # seconds for a child to start and to greet the servers
_NAME = b"RPC"


def endpoints(text: str) -> tuple[str, ...]:
    """What `host:port,host:port` names. Raises UsageError."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for endpoint in found:
        if not _ENDPOINT.fullmatch(endpoint):
            raise UsageError(f"{endpoint!r} is no rpc-server; --rpc takes host:port, several with commas between")
    return found


def use(text: str | None) -> None:
    """Let models that are loaded from now on take memory of these servers, if any; the same ones twice is fine.

    Raises UsageError for what names no servers, if this build has no such backend, or if one does not answer.
    """
    if text is None:
        return
    servers = endpoints(text)
    if not _registered():
        raise UsageError(
            "this build of llama.cpp has no RPC backend, which --rpc needs; docs/install.md says how to get one"
        )
    for server in servers:
        if not _answers(server):
            raise UsageError(f"no rpc-server of this llama.cpp answers at {server}; start one there, or leave it out")
    for server in servers:
        _add(server)


def _answers(server: str) -> bool:
    command = [sys.executable, "-P", "-m", __name__, server]
    try:
        return subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False).returncode == 0  # noqa: S603 - ourselves
    except subprocess.TimeoutExpired:
        return False


def _registered() -> int | None:
    lib.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    found: int | None = lib.ggml_backend_reg_by_name(_NAME)
    return found


def _add(server: str) -> None:
    """As llama.cpp's common/arg.cpp does for its programs."""
    address = lib.ggml_backend_reg_get_proc_address
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    pointer = address(_registered(), b"ggml_backend_rpc_add_server")
    added = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(pointer)(server.encode())
    if not added:
        raise UsageError(f"the rpc-server at {server} offers no device")
    lib.ggml_backend_register.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_register(added)


if __name__ == "__main__":
    _add(sys.argv[1])
