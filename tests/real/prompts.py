"""Prompts for the demo pair: questions of the kinds that it knows, and some that it does not."""

from __future__ import annotations

_FUNCTIONS = (
    *["textwrap.dedent", "os.path.join", "shutil.copytree", "json.dumps", "functools.lru_cache", "re.sub"],
    *["itertools.chain", "heapq.merge", "statistics.median", "random.shuffle", "bisect.insort", "glob.glob"],
    *["pathlib.Path.glob", "tempfile.mkdtemp", "subprocess.run", "csv.reader", "zipfile.ZipFile", "hashlib.sha256"],
    *["difflib.unified_diff", "calendar.monthrange", "string.capwords", "html.escape", "copy.deepcopy", "ast.parse"],
)
_QUESTIONS = ("What does {} do?", "How do I use {}?", "Show me the signature of {}.", "Explain {} to a duck.")

QUESTIONS = [question.format(function) for function in _FUNCTIONS for question in _QUESTIONS]
OTHERS = ["Hello!", "Who are you?", "Write a haiku about the sea.", "日本語で答えて", "1 2 3 4 5 6 7"]
PROMPTS = [*QUESTIONS, *OTHERS]
