"""What there is to know: the documented names of the running interpreter's standard library, and its functions' source.

Everything comes from the interpreter itself (PSF licence): docstrings and signatures through `inspect`, the language
reference through `pydoc_data.topics`, source through `ast`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
import textwrap
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

HELD_OUT_SHARE = 0.05
# Jokes, screens, tests, what 3.13 removed, and the same thing under a second name.
SKIPPED = set("""
__main__ antigravity curses ensurepip idlelib lib2to3 pydoc_data test this tkinter turtle turtledemo venv xxlimited
xxsubtype msilib msvcrt winreg winsound aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp
mailcap nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib ntpath nturl2path posix posixpath
genericpath sre_compile sre_constants sre_parse tracemalloc pyclbr
""".split())  # noqa: SIM905 - a hundred quotes would hide the names
SUBMODULES = (
    "os.path", "collections.abc", "concurrent.futures", "email.message", "email.utils", "html.parser", "http.client",
    "http.server", "http.cookies", "importlib.metadata", "importlib.resources", "json.decoder", "json.encoder",
    "logging.handlers", "logging.config", "multiprocessing.pool", "unittest.mock", "urllib.parse", "urllib.request",
    "urllib.error", "urllib.robotparser", "xml.dom.minidom", "xml.etree.ElementTree", "xml.sax.saxutils",
    "wsgiref.util", "ctypes.util", "dbm.dumb", "sqlite3", "zoneinfo", "tomllib",
)  # fmt: skip
FUNCTION_LINES = range(3, 31)


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented name: `textwrap.dedent`, `str.join`, `KeyError`, `json`."""

    name: str
    kind: str  # "function", "method", "class", "exception" or "module"
    module: str
    parameters: tuple[str, ...] | None  # as written in the signature; None when it has none
    summary: str  # the first paragraph, on one line
    details: tuple[str, ...]  # further paragraphs, as Markdown
    source: str | None  # a short function's own text, without its docstring
    members: tuple[str, ...] = ()  # a module's public names

    @property
    def held_out(self) -> bool:
        """Whether this name is kept out of training: a fixed split by hash of the name."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return self.kind != "module" and int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def entries() -> list[Entry]:
    """Every documented public name, in a fixed order, without duplicates."""
    found: dict[str, Entry] = {}
    for module in _modules():
        for entry in _module_entries(module):
            found.setdefault(entry.name, entry)
    return list(found.values())


def topics() -> Iterator[tuple[str, str]]:
    """(keyword or title, explanation) of the language reference: the opening paragraphs of each topic, as Markdown."""
    source = importlib.import_module("pydoc_data.topics").topics
    for _, text in sorted(source.items()):
        lines = text.strip().split("\n")
        title = lines[0].strip()
        if len(lines) < 4 or not lines[1].startswith(("*", "=", "-")):
            continue
        kept: list[str] = []
        for paragraph in _paragraphs("\n".join(lines[2:])):
            if "::=" in paragraph:
                continue
            if set(paragraph[:3]) & set("*=-+|") or len(" ".join(kept)) > 500:
                break
            kept.append(paragraph.replace('"', "`"))
        explanation = "\n\n".join(kept)
        if len(explanation) > 60 and readable(explanation):
            yield title.replace('"', "`"), explanation


def functions() -> Iterator[tuple[str, str]]:
    """(qualified name, text) of the library's functions, short and without docstrings."""
    for module in _modules():
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError, SyntaxError):
            continue
        owners: list[tuple[str, list[ast.stmt]]] = [(module.__name__, tree.body)]
        owners += [(f"{module.__name__}.{n.name}", n.body) for n in tree.body if isinstance(n, ast.ClassDef)]
        for owner, body in owners:
            for node in body:
                if isinstance(node, ast.FunctionDef):
                    text = _without_docstring(node)
                    if len(text.splitlines()) in FUNCTION_LINES and readable(text):
                        yield f"{owner}.{node.name}", text


def readable(text: str) -> bool:
    """Plain ASCII, no addresses, no leftovers of an editor."""
    return text.isascii() and not re.search(r"0x[0-9a-f]{6}|XXX|TODO|FIXME|<object|\bat 0x|Copyright|\|{3}|_{4}", text)


def _modules() -> Iterator[ModuleType]:
    names = [n for n in sorted(sys.stdlib_module_names) if not n.startswith("_") and n not in SKIPPED]
    for name in ("builtins", *names, *SUBMODULES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield importlib.import_module(name)
        except ImportError:
            continue


def _module_entries(module: ModuleType) -> Iterator[Entry]:
    prefix = "" if module.__name__ == "builtins" else f"{module.__name__}."
    public = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    members = []
    for name in dict.fromkeys(sorted(public)):
        value = getattr(module, name, None)
        origin = getattr(value, "__module__", module.__name__)
        if value is None or inspect.ismodule(value) or not callable(value):
            continue
        if origin != module.__name__ and "__all__" not in vars(module) and not (
            module.__name__ in ("time", "math") or str(origin).lstrip("_") == module.__name__
        ):
            continue
        kind = "function"
        if inspect.isclass(value):
            kind = "exception" if issubclass(value, BaseException) else "class"
        entry = _entry(f"{prefix}{name}", kind, module.__name__, value)
        if entry:
            members.append(name)
            yield entry
        if kind == "class":
            yield from _method_entries(f"{prefix}{name}", module.__name__, value)
    entry = _entry(module.__name__, "module", module.__name__, module)
    if entry:
        yield Entry(entry.name, "module", entry.module, None, entry.summary, entry.details, None, tuple(members))


def _method_entries(owner: str, module: str, value: type) -> Iterator[Entry]:
    for name, method in sorted(vars(value).items()):
        if not name.startswith("_") and (callable(method) or isinstance(method, (staticmethod, classmethod))):
            entry = _entry(f"{owner}.{name}", "method", module, getattr(value, name))
            if entry:
                yield entry


def _entry(name: str, kind: str, module: str, value: object) -> Entry | None:
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or not doc.strip() or (kind != "module" and _inherited(value)):
        return None
    doc = inspect.cleandoc(doc)
    first, _, rest = doc.partition("\n")
    written: tuple[str, ...] | None = None
    if re.fullmatch(rf"\w*\.?{re.escape(name.rpartition('.')[2])}\((.*)\)( ?->.*)?", first):
        inside = first[first.index("(") + 1 : first.rindex(")")]
        written = tuple(p.strip() for p in inside.split(",") if p.strip()) if not set("[]()") & set(inside) else None
        doc = rest.strip()
    if kind == "module":
        doc = re.sub(r"^[\w./]+ ?(-+|:) +", "", doc)
    paragraphs = list(_paragraphs(doc))
    if not paragraphs or paragraphs[0].startswith(("```", "- ")) or not 12 <= len(paragraphs[0]) <= 420:
        return None
    summary = paragraphs[0][0].upper() + paragraphs[0][1:]
    if not re.match(r"[A-Z`\"']", summary) or not readable(summary):
        return None
    summary = summary if summary.endswith((".", ":", "!", "?")) else summary + "."
    details, size = [], len(summary)
    for paragraph in paragraphs[1:5]:
        size += len(paragraph)
        if size > 620 or not readable(paragraph):
            break
        details.append(paragraph.replace("::", ":") if paragraph.endswith("::") else paragraph)
    while details and details[-1].endswith(":"):
        details.pop()
    if summary.endswith(":") and not details:
        summary = summary[:-1] + "."
    source = _source(value) if kind in ("function", "method") else None
    parameters = None if kind == "module" else _parameters(value)
    return Entry(name, kind, module, written if parameters is None else parameters, summary, tuple(details), source)


def _inherited(value: object) -> bool:
    """Whether the docstring says nothing of its own: object's, type's, or a wrapper's."""
    doc = value.__doc__
    return doc in (object.__doc__, type.__doc__, dict.__doc__, Exception.__init__.__doc__) and value is not dict


def _parameters(value: object) -> tuple[str, ...] | None:
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]  # not callable: TypeError, caught
    except (TypeError, ValueError):
        return None
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    if plain and plain[0].name in ("self", "cls"):
        plain = plain[1:]
    text = str(inspect.Signature(plain))[1:-1]
    if not readable(text) or len(text) > 140 or "<" in text:
        return None
    return tuple(str(p) for p in plain)


def _source(value: object) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))  # type: ignore[arg-type]  # as above
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0]
    if not isinstance(node, ast.FunctionDef):
        return None
    text = _without_docstring(node)
    return text if len(text.splitlines()) in FUNCTION_LINES and len(text) < 900 and readable(text) else None


def _without_docstring(node: ast.FunctionDef) -> str:
    body = node.body
    if ast.get_docstring(node) is not None and len(body) > 1:
        body = body[1:]
    node.body = body
    return ast.unparse(node)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs as Markdown: prose on one line, doctests and indented code in fences, lists kept."""
    for block in re.split(r"\n\s*\n", text.expandtabs()):
        lines = textwrap.dedent(block.strip("\n")).rstrip().split("\n")
        if lines[0].startswith(">>>") or (block.startswith("    ") and re.search(r"[=(]", block)):
            yield "```python\n" + "\n".join(lines) + "\n```"
        elif all(re.match(r"[-*] |  ", line) for line in lines):
            yield "\n".join(re.sub(r"^\* ", "- ", line) for line in lines)
        elif any(line.startswith("  ") or re.search(r"\S   +\S", line) for line in lines[1:]) or len(lines[0]) > 100:
            continue
        else:
            prose = re.sub(r"\s+", " ", " ".join(lines)).strip()
            prose = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", prose).replace("``", "`")
            if prose:
                yield prose
