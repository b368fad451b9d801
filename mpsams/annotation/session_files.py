"""Imports and exports of the page (``annotation.transfer``), and the history of one image. No gradio here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from mpsams.annotation import transfer
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.project import Project
from mpsams.annotation.transfer import FORMATS, LABELS, NAMES, WHICH, add, group_files

__all__ = ["FORMATS", "LABELS", "NAMES", "WHICH", "add", "group_files", "history", "packed", "take"]


def packed(project: Project, form: str, which: str, label: str, names: str = "keep") -> tuple[bytes, list[str]]:
    """An export of a project as the bytes of a zip, and its notes; see ``transfer.write``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "annotations.zip"
        exported = transfer.write(project, form, which, label, out, names)
        return out.read_bytes(), exported.notes


def take(project: Project, path: Path, user: str) -> tuple[int, list[str]]:
    """Save the masks and classes of an upload: of how many images, and sentences on what did not fit; see
    ``transfer.take``.
    """
    found = transfer.take(project, path, user)
    return len({*found.saved, *found.classified}), found.notes


def history(project: Project | None, work: OpenImage) -> bytes:
    """The history of one image as JSON: its lines of the project's log, or the memory of this tab."""
    rows = [row for row in project.log() if row.get("item") == work.item] if work.item else work.history
    return (json.dumps(rows, indent=1) + "\n").encode()
