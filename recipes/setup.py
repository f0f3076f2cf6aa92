"""Make a checkout ready to run: a virtual environment, a llama-cpp-python that works on this CPU, the package.

    python3 recipes/setup.py

It needs Python 3.11 and a C/C++ compiler, nothing else; it does only what is missing, so a second run takes no time.

llama.cpp built with GCC 12 or older crashes on CPUs with AMX (the compiler drops the stores to the tile configuration),
so AMX is left out on x86; everything else that the CPU has stays in. Pip's own wheel cache ignores such flags, hence a
cache of our own, keyed by all that shapes the build.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / ".dspark-local"
AMX_OFF = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def main() -> None:
    """Bring the environment up to date with the checkout."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs under whatever python3 is
        sys.exit(f"dspark-local needs Python 3.11 or newer; this is {platform.python_version()}")
    wanted = state()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        say("creating the virtual environment .venv")
        venv.create(VENV, with_pip=True)
    requirement = llama_requirement()
    if installed("llama-cpp-python") != requirement.partition("==")[2]:
        say("installing llama.cpp")
        pip("install", str(wheel(requirement)))
    say("installing dspark-local and its dependencies")
    pip("install", "-e", f"{ROOT}[test]", "--config-settings", "editable_mode=strict")
    STAMP.write_text(wanted)


def state() -> str:
    """Digest of what the environment depends on: the project file and the list of modules."""
    folders = ("dspark_local", "convert", "tui")
    modules = sorted(str(p.relative_to(ROOT)) for f in folders for p in (ROOT / f).rglob("*.*"))
    modules = [m for m in modules if "__pycache__" not in m]
    text = "\n".join([(ROOT / "pyproject.toml").read_text(), *modules, sys.version])
    return hashlib.sha256(text.encode()).hexdigest()


def llama_requirement() -> str:
    """The pinned llama-cpp-python, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return next(d for d in project["dependencies"] if d.startswith("llama-cpp-python=="))


def installed(package: str) -> str | None:
    """Version of a package in the virtual environment."""
    done = subprocess.run([BIN / "python", "-m", "pip", "show", package], capture_output=True, text=True, check=False)
    found = re.search(r"^Version: (.*)$", done.stdout, re.MULTILINE)
    return found[1] if found else None


def wheel(requirement: str) -> Path:
    """A wheel of llama-cpp-python built on this machine, from the cache or anew."""
    folder = cache() / "wheels" / key(requirement)
    if found := sorted(folder.glob("*.whl")):
        return found[0]
    shutil.rmtree(fresh := folder.with_suffix(f".{os.getpid()}"), ignore_errors=True)
    build(requirement, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return next(iter(folder.glob("*.whl")))


def flags() -> dict[str, str]:
    """The compiler flags of every build of llama.cpp here."""
    return {k: f"{os.environ.get(k, '')} {amx_off()}".strip() for k in ("CFLAGS", "CXXFLAGS")}


def key(requirement: str) -> str:
    """Digest of all that shapes a build of llama.cpp."""
    identity = [requirement, str(flags()), os.environ.get("CMAKE_ARGS", ""), compiler_version(), cpu()]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]


def build(requirement: str, folder: Path) -> None:
    """Build the wheel; if it fails, leave nothing and stop."""
    say("building llama.cpp for this machine, once (minutes)")
    folder.mkdir(parents=True)
    command = [
        *[BIN / "python", "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir"],
        *["--no-binary", "llama-cpp-python", "-w", folder, requirement],
    ]
    if not watched(command):
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit("dspark-local: llama.cpp did not build; the end of its log is above (a C++ compiler is needed)")


def watched(command: list[str | Path]) -> bool:
    """Run a build with one line of progress; print the end of the log if it fails."""
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
    env = {**os.environ, **flags(), "CMAKE_BUILD_PARALLEL_LEVEL": jobs}
    log: list[str] = []
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        shown = -1
        for line in process.stdout:
            log.append(line)
            if step := re.match(r"\s*\[\s*(\d+)(?:/(\d+)|%)\]", line):
                shown = progress(int(step[1]), int(step[2] or 100), shown)
    if process.returncode:
        sys.stderr.write("".join(log[-40:]))
    return not process.returncode


def progress(done: int, of: int, shown: int) -> int:
    """A bar on a terminal, a line every tenth elsewhere; returns what was shown last."""
    tenth = 10 * done // of
    if sys.stderr.isatty():
        bar = "█" * (30 * done // of)
        sys.stderr.write(f"\r  {bar:<30} {done}/{of} " + ("\n" if done == of else ""))
    elif tenth != shown:
        sys.stderr.write(f"  {10 * tenth} %\n")
    sys.stderr.flush()
    return tenth


def amx_off() -> str:
    """Compiler flags that leave AMX out, where the compiler knows them."""
    if platform.machine().lower() not in ("x86_64", "amd64") or os.name == "nt":
        return ""
    command = [*compiler().split(), *AMX_OFF.split(), "-x", "c", "-c", os.devnull, "-o", os.devnull]
    return AMX_OFF if subprocess.run(command, capture_output=True, check=False).returncode == 0 else ""


def compiler() -> str:
    """The C compiler that a build will use."""
    return os.environ.get("CC") or "cc"


def compiler_version() -> str:
    """First line of what the compiler says of itself."""
    try:
        done = subprocess.run([*compiler().split(), "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "" if os.name == "nt" else sys.exit("dspark-local: no C compiler found; install gcc or clang")
    return done.stdout.partition("\n")[0]


def cpu() -> str:
    """Model and features of the processor: a wheel built for one may not run on another."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = [x for x in info.read_text().splitlines() if x.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(lines)))


def cache() -> Path:
    """Where wheels are kept between checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "dspark-local"


def pip(*arguments: str) -> None:
    """Run pip in the virtual environment, quietly; stop with its own words if it fails."""
    command = [
        BIN / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        *arguments[:1],
        "-q",
        *arguments[1:],
    ]
    if subprocess.run(command, check=False).returncode:
        sys.exit("dspark-local: installing failed; pip says why above")


def say(text: str) -> None:
    """One line of what is going on."""
    sys.stderr.write(f"dspark-local: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
