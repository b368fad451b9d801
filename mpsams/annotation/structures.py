"""Structures that the masks of a project may hold, such as liver and tumour: their definition, and where they are used.

A project that defines none has one. The definition is a line of the log and a copy in project.json, whose version says
once there are several, so that earlier versions of the app do not open the project and lose them.

Over 250 lines because all that changes a definition shares the rules for labels, masks and other readers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from dataclasses import replace as _replace
from typing import TYPE_CHECKING

import numpy as np

from mpsams.annotation.index import MAX_LABEL
from mpsams.annotation.project_folder import LABELLED_VERSION, is_project

from . import export_names, label_maps
from .definitions import CLASSES, FREE_LETTERS, LONGEST, STRUCTURES, check_keys, complete, free_keys, give_keys, merge

if TYPE_CHECKING:
    from mpsams.annotation.project import Project

SETTING = STRUCTURES  # of the log, and in project.json
LEARNT = "learnt structures"  # of the log: by the name of a checkpoint the label of what it learnt
MAX_STRUCTURES = MAX_LABEL
# the first is that of a mask without structures; told apart by the colour-blind too
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#7aa6ff", "#c8c8c8")
READERS = "readers"  # folder in a project with those of other readers


@dataclass(frozen=True)
class Structure:
    """A structure of a project.

    label: its value in masks, 1 to ``MAX_STRUCTURES``; 0 asks for a free one. colour: "#rrggbb". key: of the keyboard,
    one letter or digit, "" for none.
    """

    name: str
    colour: str = ""
    key: str = ""
    label: int = 0


def find(given: Iterable[Structure], name: str) -> Structure | None:
    """Return the structure of a name, capitals and spaces around it aside; None if there is none."""
    return next((one for one in given if one.name.casefold() == name.strip().casefold()), None)


def make(
    given: Iterable[str | Structure],
    known: Iterable[Structure] = (),
    keys: str = FREE_LETTERS,
    keyless: Collection[int] = (),
) -> tuple[Structure, ...]:
    """Return structures with a label, a colour and a key where none is given, in the order of their labels.

    known: those of before, and those that were removed earlier, see ``match``; a new structure gets the label of one of
    them only where no other is free. keys: to be given, in order. keyless: labels of those that have no key if none is
    given. ValueError: no structure or too many, a name that is none of a file, two of one name, key or label, no
    colour.
    """
    before = list(known)
    listed = match(given, before)
    if not listed:
        raise ValueError("no structures; allowed are one or more")
    if len(listed) > MAX_STRUCTURES:
        raise ValueError(f"{len(listed)} structures; allowed are up to {MAX_STRUCTURES}")
    used, left_out = {one.label for one in listed}, {one.label for one in before}
    unused = [label for label in range(1, MAX_STRUCTURES + 1) if label not in used]
    free = iter(sorted(unused, key=left_out.__contains__))
    labelled = sorted(
        (one if one.label else _replace(one, label=next(free)) for one in listed), key=lambda one: one.label
    )
    labels = [one.label for one in labelled]
    if len(set(labels)) < len(labels) or not 0 < labels[0] <= labels[-1] <= MAX_STRUCTURES:
        raise ValueError(f"labels {labels}; allowed are different ones from 1 to {MAX_STRUCTURES}")
    coloured = [_replace(one, colour=one.colour or COLOURS[(one.label - 1) % len(COLOURS)]) for one in labelled]
    keyed = give_keys(coloured, keys if len(coloured) > 1 else "", lambda one: one.label in keyless)
    return complete(keyed, ("structure", "structures"), MAX_STRUCTURES)


def match(given: Iterable[str | Structure], known: Iterable[Structure]) -> list[Structure]:
    """Return structures where one without a label that has the name of a known one is that one, with its label, and its
    colour and key where it gives none.
    """
    listed, before = _structures(given), list(known)
    used = {one.label for one in listed}
    for number, one in enumerate(listed):
        found = None if one.label else find(before, one.name)
        if found is not None and found.label not in used:
            listed[number] = _replace(found, colour=one.colour or found.colour, key=one.key or found.key)
            used.add(found.label)
    return listed


def _structures(given: Iterable[str | Structure]) -> list[Structure]:
    return [Structure(one) if isinstance(one, str) else one for one in given]


def _identity(one: Structure) -> object:
    """Return the label of a structure, the name of a new one."""
    return one.label or one.name.strip().casefold()


USUAL = make(["lesion"])  # of a project that defines none


def defined(project: Project) -> tuple[Structure, ...]:
    """Return the structures of a project in the order of their labels: those defined last, else a single one."""
    rows = project.setting(SETTING)
    if rows is None and project.has_labels:  # the log was lost
        rows = project.description.get(SETTING)
    if isinstance(rows, list):
        with suppress(AttributeError, TypeError, ValueError):  # a line that somebody else wrote
            return make((Structure(**row) for row in rows), keys="")
    return USUAL


def _definitions(project: Project) -> list[tuple[Structure, ...]]:
    """Return all definitions that a project has had by its log, oldest first."""
    found = []
    for rows in project.setting_values(SETTING):
        with suppress(AttributeError, TypeError, ValueError):  # a line that somebody else wrote
            found.append(make((Structure(**row) for row in rows), keys=""))
    return found


def labels(project: Project) -> tuple[int, ...]:
    """Return the values that masks of a project may have beside 0."""
    return tuple(one.label for one in defined(project))


def removed(project: Project) -> list[Structure]:
    """Return the structures that were removed from a project and whose label is free; with their keys if those are."""
    last = {one.label: one for made in _definitions(project) for one in made}
    return _not_defined(project, last.values())


def reserved(project: Project) -> list[Structure]:
    """Return the structures that a new one of their name becomes, with their label: those removed from a project, and
    those that other readers have added to theirs.
    """
    own = (one for other in _readers(project) for one in defined(other))
    return _not_defined(project, [*removed(project), *own])


def _not_defined(project: Project, given: Iterable[Structure]) -> list[Structure]:
    """Return the first structure of each label that none of a project has; without a key that is not free."""
    found: list[Structure] = []
    now, free = defined(project), free_structure_keys(project)
    for one in given:
        others = [*now, *found]
        if one.label not in {each.label for each in others}:
            is_free = one.key in free and one.key not in {each.key for each in others}
            found.append(one if is_free else _replace(one, key=""))
    return found


def restore(project: Project, label_map: np.ndarray, user: str = "") -> list[Structure]:
    """Define those structures of a label map again that were removed meanwhile; return them.

    ValueError as ``define``; the map holds the label of a structure that there never was.
    """
    if not label_maps.unknown_labels(label_map, labels(project)):
        return []
    with project.exclusive(with_images=True):
        unknown = label_maps.unknown_labels(label_map, labels(project))
        found = [one for one in removed(project) if one.label in unknown] if unknown else []
        if len(found) < len(unknown):
            names = ", ".join(map(str, labels(project)))
            strange = next(label for label in unknown if label not in {one.label for one in found})
            raise ValueError(f"structure {strange} is not defined here; allowed are {names}")
        there = list(defined(project))
        for one in found:
            there.append(_replace(one, name=_free_name(one.name, there)))
        if found:
            define(project, there, user)
        return there[len(there) - len(found) :]


def _free_name(name: str, there: Iterable[Structure]) -> str:
    """Return the name of a removed structure, with an addition where others that are there have it."""
    additions = ["", " (removed)", *(f" (removed {number})" for number in range(2, MAX_STRUCTURES + 1))]
    names = [f"{name[:50]}{addition}" if addition else name for addition in additions]
    return next(one for one in names if find(there, one) is None)


def is_defined(project: Project) -> bool:
    """Return True if the structures of a project were defined, False while it has the usual one."""
    return project.setting(SETTING) is not None or project.has_labels


def to_name(project: Project) -> tuple[Structure, ...]:
    """Return the structures of a project whose names an export states: several, or one with a name of its own."""
    found = defined(project)
    return () if len(found) == 1 and find(USUAL, found[0].name) else found


def define(
    project: Project,
    given: Iterable[str | Structure],
    user: str = "",
    any_key: bool = False,
    edited_from: Sequence[Structure] | None = None,
) -> tuple[Structure, ...]:
    """Set the structures of a project, and of the projects of other readers in its folder; return them.

    given: a structure with the label of one there is renames or recolours it; a name that is there keeps its label, one
    that was removed gets it back, and the first names of a project that has defined none are its structures from label
    1. Proposals lose the structures that are left out. A new structure without a key gets a free letter, and so does
    the single one there was. any_key: True for structures of another project, which keep their keys or have none.
    edited_from: those there were when the given ones were edited; what was changed since stays. ValueError as
    ``make``; a new key that the canvas or a class uses; a structure is left out that masks hold, here or of other
    readers.
    """
    listed = _structures(given)
    if _plan(project, listed, any_key, edited_from)[1]:
        _read_masks(project)  # before everybody waits
    with project.exclusive(with_images=True):
        before = defined(project)
        made, left_out = _plan(project, listed, any_key, edited_from)
        if made == before:
            return made
        project.refuse_read_only()
        for one in left_out:
            if count := count_masks(project, one.label):
                raise ValueError(f"structure {one.name!r} is in {count} mask{'s' * (count > 1)}; remove it there first")
        if left_out:
            _forget(project, {one.label for one in left_out}, user)
        rows, others = [asdict(one) for one in made], [other for other in _readers(project) if not other.read_only]
        for other in others:
            _check_names(other, before, made)
        if project.has_labels or [one.label for one in made] != [1]:
            project.describe(version=LABELLED_VERSION, **{SETTING: rows})
        project.append_log("configured", user, setting=SETTING, value=rows)
        for other in others:
            with suppress(ValueError, OSError):  # names of their own do not go with these; their disk is full
                try:
                    give(project, other, user)
                except ValueError:
                    define(other, _rename(defined(other), before, made), user, any_key=True)
        return made


def _plan(
    project: Project, given: list[Structure], any_key: bool, edited_from: Sequence[Structure] | None
) -> tuple[tuple[Structure, ...], list[Structure]]:
    """Return the structures that ``define`` sets, and those of before that are left out. ValueError as there."""
    before = defined(project)
    edited = given if edited_from is None else merge(given, edited_from, before, _identity)
    is_first, own = not is_defined(project), reserved(project)
    known = (() if is_first else before) + tuple(own)
    listed = match(edited, known)
    if is_first and all(one.label not in (0, USUAL[0].label) for one in listed):  # one takes the place of the usual one
        known, listed = (), edited
    keys = free_structure_keys(project)
    made = make(listed, known, "" if any_key else keys, [one.label for one in before] if len(before) > 1 else [])
    if made != before and not any_key:
        check_keys(made, before, keys, "structure")
    kept = {one.label for one in (made if is_first else listed)}
    return made, [one for one in before if one.label not in kept]


def _check_names(other: Project, before: Iterable[Structure], made: Iterable[Structure]) -> None:
    """ValueError if a structure is renamed like one that another reader has added and drawn beside it."""
    names = {one.label: one.name for one in before}
    own = [one for one in defined(other) if names.get(one.label, "").casefold() != one.name.casefold()]
    for one in made:
        same = find(own, one.name) if names.get(one.label, one.name) != one.name else None
        if same is not None and same.label != one.label and _holds(other, same.label) and _holds(other, one.label):
            drawn = f"reader {other.folder.name} has drawn both that and another structure of this name"
            raise ValueError(f"name {one.name!r} of structure {names[one.label]!r}; allowed is another one, as {drawn}")


def free_structure_keys(project: Project) -> str:
    """Return the keys that structures of a project may have: those that neither the canvas nor a class has."""
    return free_keys(project, FREE_LETTERS, CLASSES)


def give(project: Project, other: Project, user: str = "") -> None:
    """Define the structures of a project in another one too, where those that only its own masks hold stay.

    ValueError: its masks hold structures that have another name or number here; then it keeps all of its own.
    """
    made, theirs = defined(project), defined(other)
    if made == theirs:
        return
    names = _names(project)
    new = [one for one in theirs if one.name.casefold() not in names.get(one.label, ())]
    own = [one for one in new if _holds(other, one.label)]
    if strange := [one for one in own if one.label in names]:
        raise ValueError(f"masks there hold {_list(strange)}, which is another structure here")
    if strange := [one for one in own if (same := find(made, one.name)) and _holds(other, same.label)]:
        raise ValueError(f"masks there hold {_list(strange)} beside the structure that has this name here")
    keys = {one.key for one in made}
    own = [_replace(one, key="") if one.key in keys else one for one in own]
    define(other, [*(one for one in made if find(own, one.name) is None), *own], user, any_key=True)


def _rename(theirs: Iterable[Structure], before: Iterable[Structure], made: Iterable[Structure]) -> list[Structure]:
    """Return the structures of another reader with the names that were changed here."""
    names = {one.label: one.name for one in made}
    renamed = {one.name.casefold(): names[one.label] for one in before if one.label in names}
    return [_replace(one, name=renamed.get(one.name.casefold(), one.name)) for one in theirs]


def _list(given: Iterable[Structure]) -> str:
    return ", ".join(f"{one.name!r} with number {one.label}" for one in given)


def _names(project: Project) -> dict[int, set[str]]:
    """Return the names of each structure, also those it had since its label was last added, in lower case."""
    names: dict[int, set[str]] = {}
    for made in (USUAL, *_definitions(project), defined(project)):
        names = {one.label: names.get(one.label, set()) | {one.name.casefold()} for one in made}
    return names


def _holds(project: Project, label: int) -> bool:
    """Return True if a mask of a project holds a structure."""
    return any(label in project.labels_in_mask(item) for item in project.items())


def _forget(project: Project, left_out: set[int], user: str) -> None:
    """Take structures out of what checkpoints have learnt; proposals are read without them."""
    value = {name: label for name, label in _read_learnt(project).items() if label not in left_out}
    if value != _read_learnt(project):
        project.append_log("configured", user, setting=LEARNT, value=value)


def safe_name(name: str) -> str:
    """Return a stranger's name for a structure as it may be one here; "" if nothing of it is left."""
    return export_names.make_safe(name.replace("/", "_").replace("\\", "_"))[:LONGEST].strip(" .")


def of_checkpoint(project: Project, name: str) -> int:
    """Return the label of the structure that a checkpoint proposes: the one it learnt here, else the first."""
    label, known = _read_learnt(project).get(name), labels(project)
    return label if label in known else known[0]


def set_learnt(project: Project, name: str, label: int, user: str = "") -> None:
    """Note the label of the structure that a checkpoint has learnt, also for the other readers."""
    project.append_log("configured", user, setting=LEARNT, value=_read_learnt(project) | {name: label})
    for other in _readers(project):
        if not other.read_only:
            with suppress(OSError):  # noted there when that project is brought up to date
                copy_learnt(project, other, user)


def copy_learnt(project: Project, other: Project, user: str = "") -> None:
    """Note in another project which of its structures the checkpoints of this one have learnt, by the names."""
    names, own = {one.label: one.name for one in defined(project)}, defined(other)
    found = {name: find(own, names[label]) for name, label in _read_learnt(project).items() if label in names}
    value = _read_learnt(other) | {name: one.label for name, one in found.items() if one is not None}
    if value != _read_learnt(other):
        other.append_log("configured", user, setting=LEARNT, value=value)


def _read_learnt(project: Project) -> dict[str, int]:
    """Return the label of the structure that each checkpoint has learnt, by the name of the checkpoint."""
    learnt = project.setting(LEARNT)
    return {name: label for name, label in learnt.items() if type(label) is int} if isinstance(learnt, dict) else {}


def count_masks(project: Project, label: int) -> int:
    """Return how many images have a structure in their mask, here or of another reader; proposals do not count."""
    return len({id for id, labels in _read_masks(project) if label in labels})


def _read_masks(project: Project) -> list[tuple[str, Collection[int]]]:
    """Return the image and the labels of each mask, here and of other readers; those read before are not read again."""
    projects = (project, *_readers(project))
    return [(item.id, one.labels_in_mask(item)) for one in projects for item in one.items()]


def _readers(project: Project) -> Iterator[Project]:
    """Yield the projects of other readers in the folder of a project, except those that cannot be opened."""
    folder = project.folder / READERS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_project(path):
            with suppress(ValueError):
                yield project.open_inside(f"{READERS}/{path.name}")


def renumber(label_map: np.ndarray, known: Iterable[Structure]) -> tuple[np.ndarray, tuple[Structure, ...]]:
    """Return a label map and its structures with labels from 1 on, without gaps."""
    numbered = {one.label: _replace(one, label=number) for number, one in enumerate(known, start=1)}
    numbers = {old: new.label for old, new in numbered.items()}
    return label_maps.renumber(label_map, numbers), tuple(numbered.values())


def pair_labels(project: Project, other: Project) -> dict[int, int]:
    """Return the label in another project for each structure of a project that is there too: by its name, else by a
    name that it had in one of the two before it was renamed.
    """
    own, wanted = defined(project), defined(other)
    pairs = {one.label: same.label for one in own if (same := find(wanted, one.name)) is not None}
    before, after = _names(project), _names(other)
    for one in own:
        free = [each for each in wanted if one.label not in pairs and each.label not in pairs.values()]
        for same in free:
            if same.name.casefold() in before[one.label] or one.name.casefold() in after[same.label]:
                pairs.setdefault(one.label, same.label)
    return pairs


def translate(label_map: np.ndarray, pairs: Mapping[int, int]) -> np.ndarray:
    """Return a label map with the labels of another project, see ``pair_labels``; what is not there is left out."""
    is_same = all(label == pairs.get(label) for label in label_maps.present(label_map))
    return label_map if is_same else label_maps.renumber(label_map, pairs)
