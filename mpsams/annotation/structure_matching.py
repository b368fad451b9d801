"""The structures of imported label maps: those of a project with their name or number; new ones are added to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from mpsams.annotation import label_maps, structures
from mpsams.annotation.project import Project
from mpsams.annotation.structures import MAX_STRUCTURES, Structure, find
from mpsams.imaging import UnreadableImage

(_USUAL,) = structures.USUAL  # of a project that defines none


class Undecided(Exception):
    """A mask has a single value that may be the number of a structure which another mask of the import adds."""


class StructureMatcher:
    """Gives the labels of imported masks in a project, known ones and those that ``define`` then adds.

    described: structures that the import describes (dataset.json), whose numbers are those of its label maps.
    is_complete: True once all other masks were taken, so that a value that is no label of the project is none.
    added: the names of the structures that were added.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._was_defined = structures.is_defined(project)
        self._is_empty = True  # nothing is defined and drawn, so that the names of an import replace the usual one
        self._adds_to_usual = False  # the first structures beside it are from this import
        self._first = structures.defined(project)[0]
        self._reserved = structures.reserved(project)
        self.is_complete = False
        self.added: list[str] = []
        self.described: tuple[Structure, ...] = ()
        self.drop_plans()

    @property
    def names(self) -> list[str]:
        """Return the names of the project's structures where it has several."""
        return [one.name for one in self._known] if len(self._known) > 1 else []

    def name_of(self, label: int) -> str:
        """Return the name of a structure of the project, or of one that is planned."""
        return next(one.name for one in [*self._known, *self._new] if one.label == label)

    @property
    def keeps_numbers(self) -> bool:
        """Return True if the values of a map without names are those of structures."""
        return self._was_defined or bool(self.described)

    def drop_plans(self) -> None:
        """Forget the new structures that ``define`` has not added; read those of the project again."""
        if self._is_empty:
            is_drawn = any(item.mask is not None for item in self.project.items())
            self._is_empty = not (is_drawn or structures.is_defined(self.project))
        self._known = [] if self._is_empty else list(structures.defined(self.project))
        self._new: list[Structure] = []

    def table(self, present: Sequence[int], names: Mapping[int, str], is_named: bool) -> dict[int, int]:
        """Return the label in the project for each label that is present in a map.

        names: of them, where they have any. is_named: True if the names are those of structures; else only those count
        that the project has. UnreadableImage for more structures than a project may have. Undecided where another mask
        may still add the structure of a single value.
        """
        planned = list(self._new)
        try:
            return self._make_table(present, names, is_named)
        except UnreadableImage:
            self._new = planned  # a mask that is refused adds none
            raise

    def _make_table(self, present: Sequence[int], names: Mapping[int, str], is_named: bool) -> dict[int, int]:
        names = {label: names.get(label, "") for label in present}
        if any(names.values()):  # what has none is no structure of the project by its number
            known = {name.casefold() for name in self.names}
            return {
                label: self._label(name, label) if name and (is_named or name.casefold() in known) else self._nameless()
                for label, name in names.items()
            }
        if self.described:
            by_number = {one.label: one.name for one in self.described}
            return {label: self._label(by_number.get(label, f"structure {label}"), label) for label in present}
        if not self._was_defined:
            return {label: self._usual() for label in present}
        if self.is_unknown_value(present):
            if not self.is_complete:
                raise Undecided
            return {present[0]: self._usual()}  # a binary mask with another value than 1
        return {label: self._label("", label) for label in present}

    def is_unknown_value(self, present: Sequence[int]) -> bool:
        """Return True if a map without names has a single label, which is no structure's, so that it is the first."""
        has_numbers = self._was_defined and not self.described
        return has_numbers and len(present) == 1 and present[0] not in {one.label for one in self._known}

    def define(self, map_xyz: np.ndarray, user: str) -> np.ndarray:
        """Add the new structures of the masks since ``drop_plans`` to the project, and those that the import describes;
        return a map of these masks with the labels that the structures got.

        They are other ones than planned where somebody else defined structures meanwhile. ValueError where there are
        too many by now.
        """
        for one in self.described:
            self._label(one.name, one.label)
        if not (planned := self._new):
            return map_xyz
        table = {one.label: one.label for one in self._known}
        with self.project.exclusive(with_images=True):
            self.drop_plans()
            self._reserved = structures.reserved(self.project)
            table |= {one.label: self._label(one.name, one.label) for one in planned}
            was_defined, before = structures.is_defined(self.project), structures.defined(self.project)
            taken = {one.label for one in self._new}
            made = structures.define(
                self.project, [*(one for one in before if one.label not in taken), *self._new], user
            )
            self._adds_to_usual |= not was_defined and made != before
            self.added += [one.name for one in made if find(before, one.name) is None]
        self.drop_plans()
        return apply(map_xyz, table)

    def remove_usual(self, user: str) -> None:
        """Remove the usual structure if those beside it were added here and nothing holds or describes it any more."""
        if not self._adds_to_usual or find(self.described, _USUAL.name):
            return
        with self.project.exclusive(with_images=True):
            known = structures.defined(self.project)
            kept = [one for one in known if (one.name, one.label) != (_USUAL.name, _USUAL.label)]
            has_proposals = any(item.proposal for item in self.project.items())
            has_readers = (self.project.folder / structures.READERS).is_dir()
            if len(kept) > 1 and not (has_proposals or has_readers or self.project.setting(structures.LEARNT)):
                with suppress(ValueError):  # a mask holds it
                    structures.define(self.project, kept, user)

    def _nameless(self) -> int:
        """The label of what has a name that is no structure's: the only one that is described, else the usual one."""
        return self._label(self.described[0].name, 1) if len(self.described) == 1 else self._usual()

    def _usual(self) -> int:
        """The label of what has neither name nor number of a structure."""
        same = (one for one in self._known if one.label == self._first.label and one.name not in self.added)
        first = next(same, self._first)  # renamed meanwhile, or this import took its label
        return self._label(first.name, first.label)

    def _label(self, name: str, number: int) -> int:
        """The label of a structure, by its name, else by its number; planned if there is none."""
        name, known = structures.safe_name(name), [*self._known, *self._new]
        found = find(known, name) if name else next((one for one in known if one.label == number), None)
        if found is not None:
            return found.label
        like = [*(structures.USUAL if self._is_empty else ()), *self._reserved, *self.described]
        likeness, used = find(like, name) or Structure(name or f"structure {number}"), {one.label for one in known}
        allowed, keys = range(1, MAX_STRUCTURES + 1), structures.free_structure_keys(self.project)
        free = [one for one in (likeness.label or number, *allowed) if one in allowed and one not in used]
        free.sort(key={one.label for one in self._reserved if one is not likeness}.__contains__)
        if not free:
            raise UnreadableImage(f"its mask holds more structures than the {MAX_STRUCTURES} that a project may have.")
        is_free = likeness.key in keys and likeness.key not in {one.key for one in known}
        key = likeness.key if is_free else ""
        self._new.append(replace(likeness, label=free[0], key=key))
        return free[0]


def apply(map_xyz: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Return a map with the labels of a table."""
    return map_xyz if all(old == new for old, new in table.items()) else label_maps.renumber(map_xyz, table)
