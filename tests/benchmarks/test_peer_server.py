"""What we ask llama-server and llama-speculative-simple, and what we read from their answers."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from dspark_local import BackendError
from dspark_local.models.locations import Pair

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package

from peer_question import Question
from peer_server import Load, Server, Setting, environment, parse
from peer_simple import parse as parse_simple
from peer_simple import tell

QUESTION = Question([5, 6, 7], "<user>Why?<end>", 0.0)
LOAD = Load(pair=Pair("pair", Path("target.gguf"), Path("draft.gguf")), ctx_size=64, threads=2, slots=3)

# Answers with its own command line in characters, so that a test sees what it was started with
SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, said):
        data = json.dumps(said).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.reply({"status": "ok"})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        timings = {"predicted_n": asked["n_predict"], "predicted_per_second": 50.0}
        self.reply({"tokens": [*asked["prompt"], len(sys.argv)], "timings": timings})
    def log_message(self, *_):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SIMPLE = """
import pathlib, sys
prompt = sys.argv[sys.argv.index("--prompt") + 1]
print(f"\\n\\n{prompt}Because.")
before = pathlib.Path(__file__).with_name("before")
print("encoded    3 tokens in    0.500 seconds", file=sys.stderr)
if before.exists():
    print("decoded   10 tokens in    0.250 seconds", file=sys.stderr)
before.touch()
"""


def _program(folder: Path, source: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
    path.chmod(0o755)
    return path


def test_the_same_settings_have_one_meaning() -> None:
    """Plain loads no drafter; γ and the least confidence are llama.cpp's own options."""
    assert Setting().options(LOAD.pair) == []
    words = [str(word) for word in Setting(gamma=7, p_min=0.5).options(LOAD.pair)]
    assert words[:2] == ["--model-draft", "draft.gguf"]
    assert words[words.index("--spec-draft-n-max") + 1] == "7"
    assert words[words.index("--spec-draft-p-min") + 1] == "0.5"
    shown = [s.shown for s in (Setting(), Setting(gamma=3), Setting(gamma=7, p_min=0.5))]
    assert shown == ["plain", "γ = 3", "γ = 7, p-min 0.5"]


def test_context_is_for_each_slot() -> None:
    """llama.cpp's --ctx-size is that of all slots together."""
    words = [str(word) for word in LOAD.options]
    assert words[words.index("--ctx-size") + 1] == "192"
    assert words[words.index("--threads") + 1] == words[words.index("--threads-batch") + 1] == "2"


def test_peers_do_not_inherit_our_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """dspark_local sets OpenMP's spin count in its own process; theirs keeps libgomp's default."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OTHER", "stays")
    assert not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment().keys()
    assert environment()["OTHER"] == "stays"


def test_the_pace_is_llama_cpps_own() -> None:
    """Ten tokens at four a second, the first with the prompt, six of them accepted drafts: three rounds."""
    run = parse({
        "tokens": list(range(10)),
        "timings": {"predicted_n": 10, "predicted_per_second": 4.0, "draft_n": 12, "draft_n_accepted": 6},
    })  # fmt: skip
    assert (run.rate, run.rounds, run.accepted_length) == (4.0, 3, 3.0)


def test_a_server_answers_alone_and_in_a_crowd(tmp_path: Path) -> None:
    """It is waited for, asked in tokens, by all at once, and gone afterwards."""
    with Server(_program(tmp_path, SERVER), LOAD, Setting(gamma=3)) as server:
        run = server.answer(QUESTION, 8)
        assert run.tokens == (5, 6, 7, len(server.command))
        assert run.rate == 50.0
        crowd = server.crowd([QUESTION] * 4, 8)
        assert crowd.tokens == (run.tokens,) * 4
        assert crowd.rate == pytest.approx(16 / crowd.seconds)
    assert server._process.returncode is not None


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The last line of its log is in the error."""
    program = _program(tmp_path, "print('loading'); raise SystemExit('error: no such quantisation')")
    with pytest.raises(BackendError, match=r"γ = 3: error: no such quantisation"):
        Server(program, LOAD, Setting(gamma=3))


def test_a_lost_end_of_a_log_is_asked_for_again(tmp_path: Path) -> None:
    """The first run of this program says no speed."""
    told = tell(_program(tmp_path, SIMPLE), LOAD, Setting(gamma=3), QUESTION, 8)
    assert (told.text, told.tokens, told.rate) == ("Because.", 10, 40.0)


def test_a_program_that_fails_is_not_asked_again(tmp_path: Path) -> None:
    """Its last words are in the error."""
    program = _program(tmp_path, "raise SystemExit('error: out of memory')")
    with pytest.raises(BackendError, match="out of memory"):
        tell(program, LOAD, Setting(gamma=3), QUESTION, 8)


def test_another_tokenisation_is_no_comparison() -> None:
    """A prompt that it reads as other tokens is refused."""
    log = "encoded    4 tokens in    0.500 seconds\ndecoded   10 tokens in    0.250 seconds"
    with pytest.raises(BackendError, match="reads 4 tokens in a prompt of 3"):
        parse_simple(f"{QUESTION.rendered}Because.", log, QUESTION)
