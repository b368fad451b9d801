"""Names with a colour and a key that a project defines: of classes of images and of structures in masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from . import export_names

if TYPE_CHECKING:
    from mpsams.annotation.project import Project

CLASSES, STRUCTURES = "classes", "structures"  # settings of the log that hold them
FREE_LETTERS, FREE_DIGITS = "qcjkluyz", "56789"  # keys that the canvas leaves free
LONGEST = 64  # characters of a name, as of a label in DICOM
# told apart by the colour-blind too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
_COLOUR = re.compile("#[0-9a-f]{6}")
Named = TypeVar("Named", bound=Any)  # a dataclass with name, colour and key


def give_keys(given: Sequence[Named], keys: str, is_without: Callable[[Named], bool]) -> list[Named]:
    """Return definitions in which those without a key have the next free one of ``keys``, as far as these go.

    is_without: True for one that is to have no key if none is given.
    """
    free = iter([key for key in keys if key not in {one.key.lower() for one in given}])
    return [one if one.key or is_without(one) else replace(one, key=next(free, "")) for one in given]


def complete(
    given: Sequence[Named], kind: tuple[str, str], most: int, colours: Sequence[str] = COLOURS
) -> tuple[Named, ...]:
    """Return definitions with a colour where none is given.

    kind: of them for the errors, one and several ("class", "classes"). most: allowed. ValueError: a name
    that is none of a file (names are those of folders and files of exports), two of one name or one key, no colour, too
    many.
    """
    if len(given) > most:
        raise ValueError(f"{len(given)} {kind[1]}; allowed are up to {most}")
    made: list[Named] = []
    for number, one in enumerate(given):
        colour = (one.colour or colours[number % len(colours)]).lower()
        made.append(_check(replace(one, name=one.name.strip(), colour=colour, key=one.key.lower()), kind[0]))
    for field, values in (
        ("name", [one.name.casefold() for one in made]),
        ("key", [one.key for one in made if one.key]),
    ):
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ValueError(f"two {kind[1]} have the {field} {twice!r}; allowed are different ones")
    return tuple(made)


def merge(
    given: Iterable[Named], edited_from: Iterable[Named], now: Iterable[Named], identify: Callable[[Named], object]
) -> list[Named]:
    """Return definitions that were edited, with what was changed meanwhile: what was not edited is as it is now, or
    left out if it is not there any more, and what was added is kept.

    edited_from: those that were edited. identify: returns a value that is the same for a definition before and after.
    """
    old, new = ({identify(one): one for one in rows} for rows in (edited_from, now))
    listed = [new.get(identify(one)) if one == old.get(identify(one)) else one for one in given]
    kept = [one for one in listed if one is not None]
    names = {one.name.strip().casefold() for one in kept if identify(one) not in old}
    return kept + [one for key, one in new.items() if key not in old and one.name.casefold() not in names]


def free_keys(project: Project, keys: str, others: str) -> str:
    """Return those of some keys that a project's definitions of another kind do not have.

    others: setting of the log with these, ``CLASSES`` or ``STRUCTURES``.
    """
    rows = project.setting(others)
    taken = {row.get("key") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    return "".join(key for key in keys if key not in taken)


def check_keys(made: Iterable[Named], before: Iterable[Named], allowed: str, kind: str) -> None:
    """ValueError for a key that is neither allowed nor one of those before."""
    known = {"", *allowed, *(one.key for one in before)}
    for one in made:
        if one.key not in known:
            free = ", ".join((*allowed, "none"))
            raise ValueError(f"key {one.key!r} of {kind} {one.name!r} is not free; allowed are {free}")


def _check(one: Named, kind: str) -> Named:
    if len(one.name) > LONGEST or not export_names.is_safe(one.name):
        raise ValueError(
            f"{kind} {one.name[:LONGEST]!r}; allowed are 1 to {LONGEST} letters, digits, spaces and . ( ) + - _, as in"
            " a file's name"
        )
    if not _COLOUR.fullmatch(one.colour):
        raise ValueError(f"colour {one.colour[:20]!r} of {kind} {one.name!r}; allowed is #rrggbb")
    if one.key and (len(one.key) > 1 or not one.key.isalnum()):
        raise ValueError(f"key {one.key[:20]!r} of {kind} {one.name!r}; allowed is one letter or digit, or none")
    return one
