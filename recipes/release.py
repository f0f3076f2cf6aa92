"""Build a wheel and an sdist of this checkout, and try each out in a clean environment.

    python3 recipes/release.py            # writes dist/; some minutes, most of them pip's

Tracked files alone go in, as they are in the working tree. Each distribution is installed into an environment of its
own, with the llama.cpp wheel that recipes/setup.py keeps, and answers one question by the demo pair, far from the
checkout. Nothing is published.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import setup as recipe

NAMES = {"dspark_local"}  # what the wheel may put on top of site-packages, beside its metadata
WANTED = (
    "dspark_local/py.typed",
    "dspark_local/registry/models.toml",
    "dspark_local/convert/__init__.py",
    "dspark_local/tui/app.py",
    "dspark_local/demo/demo-q4_0.gguf",
    "dspark_local/demo/dspark-demo-q8_0.gguf",
)
QUESTION = "What does textwrap.dedent do?"


def main() -> None:
    """Build, try out, keep. Exits with one line when anything is not as it should be."""
    parser = argparse.ArgumentParser(description="Build wheel and sdist, and try each in a clean environment.")
    parser.add_argument("--out", type=Path, default=recipe.ROOT / "dist", help="default: %(default)s")
    options = parser.parse_args()
    llama = recipe.wheel(recipe.llama_requirement())
    with tempfile.TemporaryDirectory(prefix="dspark-local-release-") as room:
        made = built(Path(room))
        check(next(path for path in made if path.suffix == ".whl"))
        for path in made:
            recipe.say(f"trying {path.name} in a clean environment")
            recipe.say(f"  {tried(path, llama, Path(room) / path.suffix.strip('.'))}")
        options.out.mkdir(parents=True, exist_ok=True)
        for path in made:
            shutil.copy2(path, options.out / path.name)
            print(options.out / path.name)


def built(room: Path) -> list[Path]:
    """The sdist, and the wheel that is made from it, as an installer would make it."""
    source = room / "source"
    git = shutil.which("git") or sys.exit("dspark-local: a release needs git, which says what belongs into it")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=recipe.ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(recipe.ROOT / name, source / name)
    python = environment(room / "tools")
    run(python, "-m", "pip", "install", "-q", "build")
    recipe.say("building the sdist, and the wheel from it")
    run(python, "-m", "build", "--outdir", room / "dist", source)
    return sorted((room / "dist").iterdir())


def check(wheel: Path) -> None:
    """The wheel holds what it must, and no generic name."""
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    if top != NAMES:
        sys.exit(f"dspark-local: {wheel.name} would install {', '.join(sorted(top - NAMES))} beside {', '.join(NAMES)}")
    if missing := [name for name in WANTED if name not in names]:
        sys.exit(f"dspark-local: {wheel.name} lacks {', '.join(missing)}")


def tried(path: Path, llama: Path, folder: Path) -> str:
    """What the demo answers from an environment that holds nothing else; that distribution's first line."""
    python = environment(folder)
    run(python, "-m", "pip", "install", "-q", llama)
    run(python, "-m", "pip", "install", "-q", path)
    command = [python.with_name("dspark-local"), "run", "demo", QUESTION, "--max-tokens", "24", "--policy", "fixed:3"]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config")}
    done = subprocess.run(command, cwd=folder, env=clean | own, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        sys.exit(f"dspark-local: {path.name} does not answer: {done.stderr.strip() or 'it said nothing'}")
    return done.stdout.strip().splitlines()[0]


def environment(folder: Path) -> Path:
    """Python of a new virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path) -> None:
    """Run one step quietly; stop with the end of its own words if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write("".join(done.stdout.splitlines(keepends=True)[-40:]))
        sys.exit(f"dspark-local: {' '.join(map(str, command[1:4]))} failed; it says why above")


if __name__ == "__main__":
    main()
