"""The examples run as they are, on the demo pair."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import dspark_local

EXAMPLES = Path(__file__).parents[2] / "examples"
LIBRARY = (EXAMPLES.parent / "docs" / "library.md").read_text(encoding="utf-8")
CODE = [code for code in re.findall(r"```python\n(.*?)```", LIBRARY, re.DOTALL) if "load" in code and "print" in code]
PATIENCE = 120


def start(name: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, EXAMPLES / name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_console() -> None:
    """Two questions and an empty line: two answers, the second knows the first."""
    process = start("console.py", stdin=subprocess.PIPE)
    out, err = process.communicate("What does random.choice do?\nAnd os.path.join?\n\n", timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert out.count("> ") == 3
    assert "random.choice" in out


def test_console_interrupted() -> None:
    """Ctrl-C ends the answer, not the program."""
    process = start("console.py", stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write("What does random.choice do?\n")
    process.stdin.flush()
    assert process.stdout.read(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate("\n", timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")


def test_console_says_what_is_wrong_in_one_line() -> None:
    process = start("console.py", "no/such/model.gguf")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.startswith("model_not_found: ")
    assert err.count("\n") == 1


def test_event_loop() -> None:
    """Three answers, in the order in which they end."""
    process = start("event_loop.py")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    for question in ("random.choice", "os.path.join", "sorted"):
        assert f"What does {question} do?\n  " in out


@pytest.mark.parametrize("code", CODE, ids=lambda code: code.strip().splitlines()[0])
def test_what_the_documentation_shows_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program of docs/library.md, behind the imports of those before it."""
    names: dict[str, Any] = {"asyncio": asyncio, "dspark_local": dspark_local, "json": json}
    exec(code, names)
    said = capsys.readouterr()
    assert said.out.strip()
    assert said.out.count("'busy'") <= 4
    assert said.err == ""


def test_qt_window() -> None:
    """Without a screen: a question is answered, a second one stopped, and closing waits for nothing."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed (pip install PySide6-Essentials)")
    code = f"""
import runpy
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
import dspark_local
example = runpy.run_path({str(EXAMPLES / "qt_window.py")!r})
app = QApplication([])
with dspark_local.load("demo", policy="fixed:3") as runtime:
    window = example["Window"](runtime)
    window.show()
    def ask(text):
        window.line.setText(text)
        window.line.returnPressed.emit()
        window.reader.finished.connect(app.quit)
    ask("What does random.choice do?")
    app.exec()
    first = window.messages[-1]
    ask("What does os.path.join do?")
    window.stop.click()
    app.exec()
    ask("And now?")
    window.close()
    print(first.role, first.content)
    print([m.role for m in window.messages])
    assert first.content in window.talk.toPlainText()
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=EXAMPLES
    )
    assert done.returncode == 0, done.stderr
    assert "assistant `random.choice`" in done.stdout


def test_fastapi_app() -> None:
    """Text streams; what is wrong comes as a status and a code; more than may wait is refused with 503."""
    pytest.importorskip("fastapi", reason="fastapi is not installed (the `server` extra)")
    from fastapi.testclient import TestClient  # noqa: PLC0415 - may be absent

    example = runpy.run_path(str(EXAMPLES / "fastapi_app.py"))
    with TestClient(example["app"]) as client:
        answer = client.post("/ask", json={"question": "What does random.choice do?", "max_tokens": 20})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "random.choice" in answer.text

        wrong = client.post("/ask", json={"question": "Hi", "max_tokens": 0})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "usage")
        long = client.post("/ask", json={"question": "word " * 20_000})
        assert (long.status_code, long.json()["code"]) == (413, "context")

        codes: list[int] = []

        def ask() -> None:
            codes.append(client.post("/ask", json={"question": "What does sorted do?"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(codes) == 12
        assert set(codes) <= {200, 503}
        assert codes.count(200) >= 6
