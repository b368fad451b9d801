"""House rules on sizes: functions of at most 60 lines and six parameters, and modules of at most 250 lines.

A longer module says why in a sentence before its imports: in the docstring, or in a comment where the docstring is the
help of a command.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "app.py", *(path for name in ("mpsams", "train", "benchmarks") for path in (ROOT / name).rglob("*.py"))]
LINES, PARAMETERS, MODULE = 60, 6, 250
REASON = "Over 250 lines because "
EXCEPTIONS = {
    "mpsams/app/events.py": "on_event passes gradio's options on beside those of the queue",
    "mpsams/app/tabs/masking.py": "the arguments of /mask and /clusters are those that programs send",
}


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of parameters, without self, cls and those that collect (``*names``, ``**names``)."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def too_large(text: str) -> list[str]:
    """The rules that a file breaks: "module", or the name of a function and its number of lines or parameters."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = [(each.name, each.end_lineno - each.lineno + 1, parameters(each)) for each in functions]
    found = [f"{name}: {lines} lines" for name, lines, _ in sizes if lines > LINES]
    found += [f"{name}: {count} parameters" for name, _, count in sizes if count > PARAMETERS]
    first = next((node.lineno for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)), 0)
    head = " ".join(text.splitlines()[: first - 1]) if first else ""
    return found + ["module"] * ((len(text.splitlines()) > MODULE) != (REASON in head))


def test_functions_and_modules_are_small_or_say_why_not():
    found = {str(path.relative_to(ROOT)): too_large(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: broken for name, broken in found.items() if broken}.keys() == EXCEPTIONS.keys()


LONG = "import os\n" + "x = 1\n" * MODULE


@pytest.mark.parametrize(
    "text, found",
    [
        ("def f(a, b, c, d, e, *, g, **more):\n" + "    a\n" * 59, []),
        ("def f():\n" + "    1\n" * 60, ["f: 61 lines"]),
        ("class A:\n    def f(self, a, b, c, d, e, g):\n        1\n", []),
        ("def f(a, b, c, d, e, g, /, h):\n    1\n", ["f: 7 parameters"]),
        (LONG, ["module"]),
        (f'"""A thing.\n\n{REASON}it is one.\n"""\n\n{LONG}', []),
        (f"# {REASON}it is one.\n{LONG}", []),
        (f"{LONG}# {REASON}it is one.\n", ["module"]),
    ],
)
def test_the_counting_finds_planted_sizes(text, found):
    assert too_large(text) == found
