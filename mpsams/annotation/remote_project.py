"""A project that another process of the app has open: the methods of ``Project``, called there.

A project is opened by one process (``lock``). An app of several processes opens it in one, and the others get it from
here. Images are read from the project's folder by the process that asks for them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import cast

from mpsams.annotation import caches
from mpsams.annotation.project import Project
from mpsams.imaging import Scan
from mpsams.remote import Caller

TARGET = "project"
_CHANGING = ("has_labels", "description", "has_default_classes")  # attributes that are asked for each time


def find(project: Project, target: tuple[str, ...]) -> Project:
    """Return the project of a target: TARGET, followed by the folders of projects, each in the one before."""
    for folder in target[1:]:
        project = project.open_inside(folder)
    return project


def connect(caller: Caller) -> Project:
    """Return the project of another process; it has the public methods and attributes of ``Project``."""
    return cast(Project, _RemoteProject(caller, (TARGET,)))


class _RemoteProject:
    def __init__(self, caller: Caller, target: tuple[str, ...]) -> None:
        self._caller, self._target = caller, target
        self.folder: Path = caller.get(target, "folder")
        self.accepted: Path = caller.get(target, "accepted")
        self.read_only: bool = caller.get(target, "read_only")
        self._scans = caches.Scans()
        self._inside: dict[str, Project] = {}

    def __getattr__(self, name: str):
        if name in _CHANGING:
            return self._caller.get(self._target, name)
        if name.startswith("_") or not hasattr(Project, name):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return partial(self._caller.call, self._target, name)

    def exclusive(self, with_images: bool = False) -> AbstractContextManager[None]:
        """Keep everybody else from using the project while inside, as ``Project.exclusive``."""
        return self._caller.enter(self._target, "exclusive", with_images)

    def open_inside(self, path: str) -> Project:
        """Return the project of a folder in this one, as ``Project.open_inside``."""
        if path not in self._inside:
            self._inside[path] = cast(Project, _RemoteProject(self._caller, (*self._target, path)))
        return self._inside[path]

    def scan(self, id: str) -> Scan:
        """Open an image and return its scan, as ``Project.scan``."""
        return self._scans.open(
            self._caller.call(self._target, "item", id), self._caller.call(self._target, "image", id)
        )

    def remove(self, id: str, user: str = "") -> None:
        """Delete an image with its masks, as ``Project.remove``."""
        self._caller.call(self._target, "remove", id, user)
        self._scans.forget(id)

    def close(self) -> None:
        """Do nothing: the process that opened the project closes it."""
