"""The words of the docstrings as a test: none begins with a question word."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("mpsams", "train", "benchmarks", "tests")
OTHERS = ("mpsams/app/", "mpsams/annotation/")  # still to be read through
QUESTIONS = ("What", "Which", "How", "Whether", "Where", "Who", "Whose", "Why", "When")


def questions(tree: ast.Module) -> list[str]:
    """First lines of the docstrings that begin with a question word."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text.splitlines()[0] for text in texts if text and text.split()[0].rstrip(",:;'") in QUESTIONS]


def test_no_docstring_begins_with_a_question_word():
    found = {}
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(OTHERS) and (lines := questions(ast.parse(path.read_text(encoding="utf-8")))):
            found[name] = lines
    assert found == {}


@pytest.mark.parametrize("source, lines", [
    ('"""What a thing is."""\n', ["What a thing is."]),
    ('class A:\n    """A thing."""\n    def b(self):\n        """Whether it is."""\n', ["Whether it is."]),
    ('def fill():\n    """Fill what is empty; returns how much."""\n', []),
])  # fmt: skip
def test_the_counting_finds_planted_words(source, lines):
    assert questions(ast.parse(source)) == lines
