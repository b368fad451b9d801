"""Names of segmentation networks: data set, method, share of labels, title, and which take part in a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mpsams import tables

NAME = re.compile(r"(?P<data>.+)-(?P<method>[^-]+)-seg-(?P<percent>\d+)")
ASSISTANT = re.compile(r"(?P<data>.+)-assist")
# the method that an assistant has: the network to work with, which stands beside those that are compared
ASSIST = "assist"
DEFAULT = "10"  # percent of the labels of the networks that take part unless others are chosen
TITLES = tables.TITLES | {"scratch": "From scratch", ASSIST: "Assistant"}


def parse_name(name: str) -> tuple[str, str, str]:
    """Return the data set, method and percent of labels of a network's name; a name of another form is all method. An
    assistant's method is ``ASSIST``.

    An assistant's method is ``ASSIST``.
    """
    if found := ASSISTANT.fullmatch(name):
        return found["data"], ASSIST, ""
    found = NAME.fullmatch(name)
    return (found["data"], found["method"], found["percent"]) if found else ("", name, "")


def is_assistant(name: str) -> bool:
    """Return True if a network is an assistant, which learnt from all labels."""
    return parse_name(name)[1] == ASSIST


def titles_of(names: Iterable[str]) -> dict[str, str]:
    """Return networks with titles for people, assistants first, then in the paper's order; percent and data set are
    said only where they differ.
    """
    parts = {name: parse_name(name) for name in names}
    several = [len({part[k] for part in parts.values() if k == 0 or part[1] != ASSIST}) > 1 for k in range(3)]

    def title(name: str) -> str:
        data, method, percent = parts[name]
        more = [f"{percent}%"] * (several[2] and bool(percent)) + [data] * (several[0] and bool(data))
        return " ".join([TITLES.get(method, method), *more])

    def place(name: str) -> tuple:
        data, method, percent = parts[name]
        known = tables.METHODS.index(method) if method in tables.METHODS else len(tables.METHODS)
        return method != ASSIST, data, int(percent or 0), known, method

    return {name: title(name) for name in sorted(parts, key=place)}


def choose_networks(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the networks that are there and wanted; when none of them is wanted, the assistant and those with 10% of
    the labels, or else all.
    """
    usual = [name for name in there if parse_name(name)[2] == DEFAULT or is_assistant(name)]
    return [name for name in there if name in wanted] or usual or list(there)
