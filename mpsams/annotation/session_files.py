"""Imports of the page (``annotation.transfer``), the choices of its exports, and the history of one image."""

from __future__ import annotations

import json
from pathlib import Path

from mpsams.annotation import transfer
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.project import Project
from mpsams.annotation.transfer import FORMATS, LABELS, NAMES, WHICH, add, group_files

__all__ = ["FORMATS", "LABELS", "NAMES", "WHICH", "add", "group_files", "history", "take"]


def take(project: Project, path: Path, user: str) -> tuple[int, list[str]]:
    """Save the masks and classes of an upload as ``transfer.take``; return the number of images, and notes."""
    found = transfer.take(project, path, user)
    return len({*found.saved, *found.classified}), found.notes


def history(project: Project | None, work: OpenImage) -> bytes:
    """Return the history of one image as JSON: its lines of the project's log, or the memory of this tab."""
    rows = [row for row in project.log() if row.get("item") == work.item] if project and work.item else work.history
    return (json.dumps(rows, indent=1) + "\n").encode()
