"""The structures of imported label maps: those of a project with their name or number; new ones are added to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mpsams.annotation import label_maps, structures
from mpsams.annotation.project import Project
from mpsams.annotation.structures import MAX_STRUCTURES, Structure, find
from mpsams.imaging import UnreadableImage


class StructureMatcher:
    """Gives the labels of imported masks in a project, known ones and those that ``define`` then adds.

    described: structures that the import describes (dataset.json), whose numbers are those of its label maps.
    is_guessed: True if a mask with a single value that is no label of the project was taken as structure 1.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        # while nothing is defined and drawn, the names of an import take the place of the usual one
        self._is_free = not structures.is_defined(project) and all(item.mask is None for item in project.items())
        self._known = list(structures.defined(project))
        self._count_before = len(self._known)
        self._new: list[Structure] = []
        self.is_guessed = False
        self.described: tuple[Structure, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the names of the project's structures where it has several."""
        return [one.name for one in self._known] if len(self._known) > 1 else []

    @property
    def is_guess_wrong(self) -> bool:
        """Return True if the import has made structures, so that a single value may be the number of one of them."""
        return self.is_guessed and len(self._known) > self._count_before

    def table(self, present: Iterable[int], names: Mapping[int, str], is_named: bool) -> dict[int, int]:
        """Return the label in the project for each label that is present in a map.

        names: of them, where they have any. is_named: True if the names are those of structures; else only those count
        that the project has. UnreadableImage for more structures than a project may have.
        """
        listed = list(present)
        names = {label: names.get(label, "") for label in listed}
        if self.described and not any(names.values()):
            by_number = {one.label: one.name for one in self.described}
            names, is_named = {label: by_number.get(label, "") for label in listed}, True
        elif any(names.values()) and not is_named:
            return {label: found.label if (found := find(self._several(), names[label])) else 1 for label in listed}
        elif not any(names.values()) and len(listed) == 1 and listed[0] not in structures.labels(self.project):
            self.is_guessed = True
            return {listed[0]: 1}  # a binary mask with another value than 1
        return {label: self._label(names[label], label) for label in listed}

    def define(self, map_xyz: np.ndarray, user: str) -> None:
        """Add the new structures that a map holds to the project, and those that the import describes."""
        for one in self.described:
            self._label(one.name, one.label)
        used = [one for one in self._new if find(self.described, one.name) or (map_xyz == one.label).any()]
        if not used:
            return
        taken = {one.label for one in used}
        self._new = [one for one in self._new if one.label not in taken]
        self._known = list(
            structures.define(self.project, [*(one for one in self._known if one.label not in taken), *used], user)
        )
        self._is_free = False

    def _several(self) -> list[Structure]:
        return self._known if len(self._known) > 1 else []

    def _label(self, name: str, number: int) -> int:
        """The label of a structure, by its name, else by its number; planned if there is none."""
        known, name = [*self._new, *self._known], structures.safe_name(name)
        found = find(known, name) if name else next((one for one in known if one.label == number), None)
        if found is not None:
            return found.label
        likeness = find(self.described, name) or Structure(name or f"structure {number}")
        used = {one.label for one in (self._new if self._is_free and name else known)}
        free = [label for label in (likeness.label or number, *range(1, MAX_STRUCTURES + 1)) if label not in used]
        free = [label for label in free if 0 < label <= MAX_STRUCTURES]
        if not free:
            raise UnreadableImage(f"its mask holds more structures than the {MAX_STRUCTURES} that a project may have.")
        keys = {one.key for one in known}
        key = "" if likeness.key in keys else likeness.key
        self._new.append(replace(likeness, label=free[0], key=key))
        return free[0]


def apply(map_xyz: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Return a map with the labels of a table."""
    return map_xyz if all(old == new for old, new in table.items()) else label_maps.renumber(map_xyz, table)
