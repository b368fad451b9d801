"""The readers of a project: each has a project of their own in its folder ``readers``, and sees the masks of others or
does not.

The first reader works in the project itself. A second reader who is blind sees nothing of the first: their project
holds the images and the classes to choose from, nothing else. The consensus is one more such project, which sees the
masks of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from mpsams.annotation import disk
from mpsams.annotation.project import Project
from mpsams.annotation.project_folder import is_project

from . import classes, export_names, readers, structures
from .consensus import MERGES
from .readers import ReaderAgreement

FOLDER, SETTING = "readers", "reader"
FIRST, CONSENSUS = "first reader", "consensus"
RESERVED = {FIRST, CONSENSUS, *MERGES}  # names that no second reader may have
LONGEST = 40  # characters of a name


@dataclass(frozen=True)
class ReaderMask:
    """The saved mask of a reader, a label map (X, Y, Z) in the viewer's structures, and the class they gave or ""."""

    name: str
    image_class: str
    map_xyz: np.ndarray


@dataclass(frozen=True)
class ReaderView:
    """The project that one reader works in, and the others whose masks they see.

    project: with their masks. name: "" for the first reader. is_blind: True if they see no other's masks. visible: the
    readers whose masks they see beside their own, by name. notes: sentences on readers whose project cannot be opened.
    """

    project: Project
    name: str = ""
    is_blind: bool = False
    visible: tuple[tuple[str, Project], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_consensus(self) -> bool:
        """True if this is the consensus of all readers."""
        return self.name == CONSENSUS

    def masks(self, id: str) -> list[ReaderMask]:
        """Return the saved masks of an image that this reader sees beside their own."""
        found = []
        for name, project in self.visible:
            with suppress(ValueError):  # the image is not in the project of that reader, or not any more
                item, map_xyz = project.item(id), project.labels(id)
                if map_xyz is not None:
                    map_xyz = structures.translate(map_xyz, structures.pair_labels(project, self.project))
                    found.append(ReaderMask(name, item.image_class, map_xyz))
        return found


class ReaderViews:
    """The readers of a project. May be used from several threads."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._compared: dict[tuple, dict[str, object]] = {}  # see ``readers.measure``

    def names(self) -> list[str]:
        """Return the names of the second readers, sorted."""
        folder = self.project.folder / FOLDER
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted((path.name for path in found if path.name != CONSENSUS and is_project(path)), key=str.casefold)

    def view(self, name: str) -> ReaderView:
        """Return the view of a reader: "" is the first, "consensus" that of all.

        ValueError if there is no such reader, or their project cannot be opened; the sentence names no folder.
        """
        if not name:
            return ReaderView(self.project)
        first = ((FIRST, self.project),)
        if name == CONSENSUS and self.names():
            others, notes = self.open_all()
            visible = first + tuple((one.name, one.project) for one in others)
            return ReaderView(self._open(CONSENSUS), CONSENSUS, visible=visible, notes=tuple(notes))
        if name not in self.names():
            raise ValueError(
                f"reader {name[:LONGEST]!r}; allowed are"
                f" {', '.join(self.names()) or 'none, as nobody has joined as second reader'}"
            )
        project = self._open(name)
        setting = project.setting(SETTING)
        is_blind = not (isinstance(setting, dict) and setting.get("blind") is False)
        return ReaderView(project, name, is_blind, () if is_blind else first)

    def open_all(self) -> tuple[list[ReaderView], list[str]]:
        """Return the views of the second readers, and a sentence on each whose project cannot be opened."""
        views, notes = [], []
        for name in self.names():
            try:
                views.append(self.view(name))
            except (ValueError, OSError) as error:
                notes.append(
                    disk.as_sentence(error) if isinstance(error, ValueError) else f"{name}: {disk.sentence(error)}"
                )
        return views, notes

    def join(self, name: str, is_blind: bool, user: str = "") -> ReaderView:
        """Return the view of a second reader, who begins now if they are new; images that cannot be read are left out.

        ValueError: the name is not allowed, or begun otherwise.
        """
        name = " ".join(name.split())
        known = classes.match(self.names(), name)
        if known:
            view = self.view(known)
            if view.is_blind != is_blind:
                raise ValueError(
                    f"{known} began {'blind' if view.is_blind else 'with the masks of the first reader in view'}, which"
                    " cannot be changed; choose another name"
                )
            self.update(known, user)
            return view
        if len(name) > LONGEST or not export_names.is_safe(name) or name.casefold() in RESERVED:
            raise ValueError(
                f"name {name[:LONGEST]!r}; allowed are 1 to {LONGEST} letters, digits, spaces and . ( ) + - _, but not"
                f" {', '.join(sorted(RESERVED))}"
            )
        self.project.refuse_read_only()
        self._open(name).append_log("configured", user, setting=SETTING, value={"name": name, "blind": bool(is_blind)})
        self.update(name, user)
        return self.view(name)

    def update(self, name: str, user: str = "", notes: list[str] | None = None) -> int:
        """Add the images that a reader's project lacks, and the classes and structures; return how many images are new.

        notes: gets a sentence on each image that cannot be read, which is left out.
        """
        other, defined = self._open(name), classes.defined(self.project)
        if other.read_only:
            return 0
        count = len(readers.copy_images(self.project, other, user, notes))
        if defined != classes.defined(other):
            classes.define(other, defined, user, any_key=True)
        readers.copy_structures(self.project, other, user, notes)
        return count

    def measure(self, first: Project, second: Project) -> ReaderAgreement:
        """Return the agreement of two readers' projects; what was compared before is not compared again."""
        return readers.measure(first, second, self._compared)

    def make_consensus(self, method: str, user: str = "", notes: list[str] | None = None) -> Iterator[tuple[int, int]]:
        """Save the consensus of all readers, as ``readers.fill_consensus``, which says what it yields and raises."""
        view = self.view(CONSENSUS)
        self.update(CONSENSUS, user, notes)
        yield from readers.fill_consensus([project for _, project in view.visible], view.project, method, "", notes)

    def _open(self, name: str) -> Project:
        """Return the project of a reader. ValueError where it cannot be opened; the sentence names no folder."""
        if self.project.read_only and not is_project(self.project.folder / FOLDER / name):
            raise ValueError(f"there is no {name} yet, and none can be made: this project is read-only")
        try:
            return self.project.open_inside(f"{FOLDER}/{name}")
        except ValueError:
            raise ValueError(
                f"the project of reader {name!r} cannot be opened: it is damaged, of a later version, or in use by"
                " another app"
            ) from None
