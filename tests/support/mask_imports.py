"""The masks of an upload for scans that lie in no project, all read at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams.annotation import imports
from mpsams.annotation.project import Project
from mpsams.annotation.structure_matching import StructureMatcher
from mpsams.imaging import Scan, UnreadableImage


@dataclass(frozen=True)
class Found:
    """Masks for scans: name -> bool (X, Y, Z); what is marked, where the files say it; notes; names of strangers."""

    masks: dict[str, np.ndarray]
    labels: dict[str, str]
    notes: tuple[str, ...]
    strangers: tuple[str, ...] = field(repr=False)


def read(path: Path, scans: Mapping[str, Scan]) -> Found:
    """All that ``imports.each`` finds. UnreadableImage where nothing at all can be read, whatever the bytes."""
    report = imports.Report()
    with tempfile.TemporaryDirectory() as folder, Project(folder) as project:
        names, matcher = {name: (name,) for name in scans}, StructureMatcher(project)
        found = list(imports.each(path, scans, names, report, imports.KINDS, matcher))
    notes = tuple(report.sentences())
    if not found:
        raise UnreadableImage(notes[0])
    labels = {mask.key: mask.image_class for mask in found if mask.image_class}
    return Found({mask.key: mask.map_xyz > 0 for mask in found}, labels, notes, tuple(report.strangers))
