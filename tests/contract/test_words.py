"""The words of the code as a test: docstrings say what is returned, functions have verbs or nouns as names, classes one
name each.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("mpsams", "train", "benchmarks")
QUESTIONS = ("What", "Which", "How", "Whether", "Where", "Who", "Whose", "Why", "When")
# Participles that were names of functions. An adjective that a noun follows, such as "jittered_box", is no bare
# participle.
PARTICIPLES = frozenset(
    "agreed asked begun broken brought carried changed checked chosen claimed compared completed corrected counted"
    " covered crossed decoded described divided drawn enclosed expanded filled flipped folded found gathered given"
    " grouped hidden inherited inverted kept known learnt limited listed looked_at mapped measured mended mixed named"
    " needed nested opened outlined parsed prompted ranked reconstructed recorded rescaled resampled resized resolved"
    " rounded said scaled seen settled shared sheared shortened shown signed spoken stated swapped taken titled told"
    " trained verified windowed written begun_from grown_on_cpu grown_on_gpu made_up passed_over".split()
)
ALLOWED = {  # where another word would be worse
    # properties of a scan in all but the plane and the voxels they are asked for
    "mpsams/imaging/__init__.py": {"shown", "scaled"}
}
SAME_NAME = {"Config"}  # of every pretraining method


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Path below the root and syntax tree of each Python file of the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def questions(tree: ast.Module) -> list[str]:
    """First lines of the docstrings that begin with a question word."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text.splitlines()[0] for text in texts if text and text.split()[0].rstrip(",:;'") in QUESTIONS]


def participles(tree: ast.Module) -> set[str]:
    """Names of module-level functions and of methods that are bare participles; properties are data, and may be."""
    found = set()
    for body in (tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
        for node in body:
            if isinstance(node, ast.FunctionDef) and not any(
                "property" in ast.unparse(each) for each in node.decorator_list
            ):
                found |= {node.name} if node.name.strip("_") in PARTICIPLES else set()
    return found


def test_no_docstring_begins_with_a_question_word():
    found = {path: lines for path, tree in sources(*FOLDERS, "tests") if (lines := questions(tree))}
    assert found == {}


def test_no_function_is_named_by_a_bare_participle():
    found = {path: names for path, tree in sources(*FOLDERS) if (names := participles(tree) - ALLOWED.get(path, set()))}
    assert found == {}


def test_no_two_public_classes_have_one_name():
    names = Counter(
        node.name
        for path, tree in sources("mpsams", "train")
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} <= SAME_NAME


@pytest.mark.parametrize("source, lines, names", [
    ('"""What a thing is."""\n', ["What a thing is."], set()),
    ('"""A thing."""\ndef told():\n    """Whether it is."""\n', ["Whether it is."], {"told"}),
    ('class A:\n    """Where it lies."""\n    def _filled(self):\n        return 1\n', ["Where it lies."], {"_filled"}),
    ('class A:\n    @cached_property\n    def shown(self):\n        """Howitzers."""\n', [], set()),
    ('def fill():\n    """Fill what is empty; returns how much."""\n', [], set()),
])  # fmt: skip
def test_the_counting_finds_planted_words(source, lines, names):
    tree = ast.parse(source)
    assert questions(tree) == lines and participles(tree) == names


# Names of this project's early versions, and the words that took their place.
RETIRED = {"film": "figure", "films": "figures", "desk": "workspace", "patience": "answer_timeout"}


def test_no_page_or_module_uses_a_retired_name():
    found = {
        (path.relative_to(ROOT).as_posix(), word)
        for pattern in ("*.py", "*.js", "*.css", "*.html")
        for path in (ROOT / "mpsams").rglob(pattern)
        for word in re.findall(rf"\b({'|'.join(RETIRED)})\b", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert found == set()
