"""Records as JSON lines, one event a line, appended as it happens."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def append(path: Path, event: str, **values) -> None:
    """Append one event with the time in seconds since 1970; the folder must exist."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n")


def read(path: Path, event: str | None = None) -> list[dict]:
    """Read all records of a file, or those of one event; ValueError names the line that is not JSON.

    A last line without its end was being written when the run was killed, and is left out.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        try:
            rows += [json.loads(line)] if line.endswith("\n") else []
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not a JSON record: {error}") from None
    return [row for row in rows if event in (None, row["event"])]


def keep(path: Path, wanted: Callable[[dict], bool]) -> None:
    """Keep the records for which ``wanted`` is true; drops an unfinished last line too. Does nothing without a file."""
    if not path.exists():
        return
    rows = [json.dumps(row) + "\n" for row in read(path) if wanted(row)]
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text("".join(rows), encoding="utf-8")
    temporary.replace(path)


def nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return the values with None for NaN, which JSON does not have."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}
