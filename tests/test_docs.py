"""README.md and docs/information.md keep their promises: their tables are what the records say, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import docs

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
ALL = "\n".join(path.read_text(encoding="utf-8") for path in docs.PAGES)


def test_the_tables_are_what_the_records_say():
    assert docs.filled(ALL) == ALL, "run python -m benchmarks.docs"


def test_every_table_is_there_and_has_numbers():
    found = dict(re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", ALL, re.DOTALL))
    assert found.keys() == docs.TABLES.keys() and all(len(re.findall(r"\d\.\d", table)) > 5 for table in found.values())


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--config (train/configs/\S+\.toml)", TEXT))))
def test_every_config_it_names_is_there(name):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m ((?:train|benchmarks)\.\w+)", ALL))))
def test_every_command_it_names_is_there(name):
    assert (ROOT / f"{name.replace('.', '/')}.py").is_file()


def test_the_tree_names_what_is_there():
    tree = TEXT.split("## The code\n\n```\n")[1].split("```")[0]
    inside = re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE)
    there = {path.name + ("/" if path.is_dir() else "") for path in (ROOT / "mpsams").iterdir() if path.name[0] not in "_."}
    assert set(inside) == there - {"__init__.py"}
