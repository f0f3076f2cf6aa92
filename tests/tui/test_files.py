"""Text that comes from files and goes to them: attachments, exports, the user's editor."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest

from dspark_local.chat import Message
from dspark_local.errors import UsageError
from dspark_local.testing import scripted_runtime
from dspark_local.tui.attachments import MOST, attached, completion
from dspark_local.tui.editor import edited
from dspark_local.tui.export import as_json, as_markdown, write
from dspark_local.tui.widgets.message import UserMessage

from .driver import chatting

if TYPE_CHECKING:
    from pathlib import Path

TALK = [Message("system", "Be brief."), Message("user", "Ö?"), Message("assistant", "*Yes*.\n")]
ANSWER = "It is so:\n\n```python\nprint(1)\n```\n\nand\n\n```\nprint(2)\n```\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_file_goes_along_in_a_fence_that_it_cannot_break(folder: Path) -> None:
    """Quoted if its path has spaces; before a full stop too; once, however often it is named."""
    (folder / "a.py").write_text("print(1)\n")
    (folder / "b c.md").write_text("````\nx\n````\n")
    assert attached("see @a.py.") == "see @a.py.\n\na.py:\n```py\nprint(1)\n```"
    assert attached('@"b c.md"') == '@"b c.md"\n\nb c.md:\n`````md\n````\nx\n````\n`````'
    assert attached("@a.py @a.py").count("print(1)") == 1


def test_an_at_sign_that_names_no_file_is_text(folder: Path) -> None:
    """Decorators, addresses, folders, and names that no file can have."""
    (folder / "folder").mkdir()
    for text in ("@property", "me@a.py", "@folder", "@", "@" + "x" * 5000, "@~nobody-there/x"):
        (folder / "a.py").write_text("never")
        assert attached(text) == text


def test_what_is_no_text_or_too_long_is_refused(folder: Path) -> None:
    """In one line, before anything is sent."""
    (folder / "a.bin").write_bytes(b"\xff\xfe")
    (folder / "long.txt").write_bytes(b"x" * (MOST + 1))
    with pytest.raises(UsageError, match=r"a\.bin is no text"):
        attached("@a.bin")
    with pytest.raises(UsageError, match=r"long\.txt is longer than 1 MiB"):
        attached("@long.txt")


def test_a_path_is_completed_as_far_as_it_is_certain(folder: Path) -> None:
    """A folder by its slash; nothing where nothing fits, and nothing outside a path."""
    (folder / "report-1.txt").touch()
    (folder / "report-2.txt").touch()
    (folder / "docs").mkdir()
    (folder / "docs" / "only.md").touch()
    assert completion("see @rep") == "ort-"
    assert completion("@do") == "cs/"
    assert completion("@docs/") == "only.md"
    assert [completion(text) for text in ("@x", "@", "rep", "a@rep", "@none/x", "@rep ")] == [""] * 6


def test_exports_hold_all_turns() -> None:
    """Markdown for people, JSON as other tools take it."""
    assert as_markdown(TALK) == "## System\n\nBe brief.\n\n## User\n\nÖ?\n\n## Assistant\n\n*Yes*.\n"
    kept = json.loads(as_json(TALK, model="demo"))
    assert kept["model"] == "demo"
    assert kept["messages"] == [{"role": m.role, "content": m.content} for m in TALK]


def test_an_export_replaces_nothing(folder: Path) -> None:
    """The second one of a title gets a number; a title of signs a name; nothing else is left behind."""
    names = [write(folder, title, ".md", "x").name for title in ("How? So!", "how so", "?!", "../../etc")]
    assert names == ["how-so.md", "how-so-2.md", "chat.md", "etc.md"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)
    with pytest.raises(OSError, match="No such file"):
        write(folder / "none", "t", ".md", "x")


def test_the_editor_is_the_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the text and gives it back; without one, or when it fails, nothing changes."""
    script = folder / "editor.py"
    script.write_text("import sys\nwith open(sys.argv[1], 'a') as file: file.write(' more\\n')")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    assert edited("text") == "text more"
    for command, why in (("false", "ended with 1"), ("/no/such/editor", "does not work"), ("", "set \\$EDITOR")):
        monkeypatch.setenv("EDITOR", command)
        with pytest.raises(UsageError, match=why):
            edited("text")


def test_the_editor_of_windows_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backslashes are no escapes, and quotes are read by Windows."""
    lines = []
    monkeypatch.setattr("dspark_local.tui.editor.sys.platform", "win32")
    monkeypatch.setenv("VISUAL", r'"C:\Program Files\Vim\vim.exe" -n')

    def run(command: str, **_: object) -> CompletedProcess[str]:
        lines.append(command)
        return CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", run)
    assert edited("text") == "text"
    assert lines[0].startswith(r'"C:\Program Files\Vim\vim.exe" -n "')
    assert lines[0].endswith('message.md"')


async def test_an_attached_file_reaches_the_model_and_a_bad_one_stays_in_the_prompt(folder: Path) -> None:
    """Right takes the completion."""
    (folder / "notes.txt").write_text("remember")
    (folder / "a.bin").write_bytes(b"\xff")
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.press(*"see @no")
        await chat.until(lambda: chat.prompt.suggestion == "tes.txt")
        await chat.press("right", "enter")
        await chat.until(lambda: bool(chat.answers))
        await chat.answered()
        assert chat.dialogue.talk.turns[0].content == "see @notes.txt\n\nnotes.txt:\n```txt\nremember\n```"
        await chat.press(*"@a.bin", "enter")
        await chat.until(lambda: bool(chat.notices()))
        assert chat.prompt.text == "@a.bin"
        assert len(chat.screen.query(UserMessage)) == 1


async def test_answer_and_code_are_copied() -> None:
    """F5 the Markdown, F8 the last code block, without its fence."""
    async with chatting(scripted_runtime(ANSWER)) as chat:
        await chat.ask("How?")
        await chat.answered()
        await chat.press("f5")
        assert chat.app.clipboard == ANSWER
        await chat.press("f8")
        assert chat.app.clipboard.rstrip("\n") == "print(2)"


async def test_a_conversation_is_exported_where_the_program_runs(folder: Path) -> None:
    """Named by its first line."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.ask("How so?")
        await chat.answered()
        await chat.screen.run_action("export('md')")
        assert (folder / "how-so.md").read_text() == "## User\n\nHow so?\n\n## Assistant\n\nYes.\n"
        await chat.screen.run_action("export('json')")
        assert json.loads((folder / "how-so.json").read_text())["model"] == "scripted"
        await chat.until(lambda: chat.notices() == ["written: how-so.md", "written: how-so.json"])


async def test_ctrl_g_opens_the_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is written; its trouble is a notice."""
    async with chatting(scripted_runtime()) as chat:
        monkeypatch.setattr(chat.app, "suspend", nullcontext)
        monkeypatch.setattr("dspark_local.tui.widgets.prompt.edited", lambda text: f"{text}!")
        await chat.press(*"hi", "ctrl+g")
        assert chat.prompt.text == "hi!"
        monkeypatch.undo()
        await chat.press("ctrl+g")
        await chat.until(lambda: bool(chat.notices()))
        assert chat.prompt.text == "hi!"
