"""Shared parts of the generated tables: folders, records, and a table as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


def _round_text(rows: Iterable[dict]) -> list[dict]:
    """Return copies with the cluster's lift as text, empty where there is no cluster."""
    return [each | {"lift": [f"{each['lift'][0]:.2f}" if each["size"][2] else ""]} for each in rows]


def _slashed(values: Iterable[float], form: str = "{:.1f}") -> str:
    """Return numbers separated by slashes."""
    return " / ".join(form.format(value) for value in values)


def _with_quartiles(size: dict) -> str:
    """Return mean and quartiles as text."""
    return f"{size['mean'][0]:.0f} ({size['low'][0]:.0f}–{size['high'][0]:.0f})"


def record(path: Path) -> dict:
    """Return the contents of a JSON record."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
