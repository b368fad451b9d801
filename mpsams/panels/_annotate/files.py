"""Files into a project and out of it: uploads sorted into images, masks found for them, exports as one zip. No gradio here."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mpsams.annotation import exports, images, imports
from mpsams.annotation.exports import Annotated
from mpsams.annotation.project import Project
from mpsams.imaging import UnreadableImage
from mpsams.panels._annotate.work import Work

FORMATS = {
    "folder": "Images and masks, for training", "nifti": "Masks as NIfTI", "coco": "COCO, one JSON file",
    "dicom-seg": "DICOM-SEG, de-identified", "busi": "Folders as in BUSI",
}  # fmt: skip
WHICH = {"accepted": "Accepted ones", "all": "All that have a mask"}
LABELS = ("lesion", *exports.KINDS)
_ENDING = re.compile(r"(\.nii)?\.[A-Za-z]{2,5}$")


def grouped(paths: Sequence[Path]) -> list[list[Path]]:
    """An upload as images: each picture, volume or zip by itself, DICOM files by the series they say they are of."""
    groups: dict[str, list[Path]] = {}
    for number, path in enumerate(paths):
        series = _series(path) if images.ending_of(path) == ".dcm" else ""
        groups.setdefault(series or f"alone {number}", []).append(path)
    return list(groups.values())


def _series(path: Path) -> str:
    """The series of a DICOM file; "" for what is none, or says none."""
    import pydicom

    try:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(found.get("SeriesInstanceUID", ""))
    except Exception:  # an upload may be anything, and pydicom raises what it likes; ``Project.add`` refuses it in words
        return ""


def add(project: Project, paths: Sequence[Path], modality: str | None, who: str) -> tuple[int, list[str]]:
    """Put an upload into a project: how many images are new, and sentences on what was refused, by its place in the upload."""
    before, notes = len(project.items()), []
    for number, group in enumerate(grouped(paths), start=1):
        try:
            project.add(group if len(group) > 1 else group[0], modality, group[0].name, who)
        except UnreadableImage as refusal:
            notes.append(f"Image {number} of the upload was not added: {refusal}")
    return len(project.items()) - before, notes


def packed(project: Project, form: str, which: str, label: str) -> tuple[bytes, list[str]]:
    """An export of a project as the bytes of a zip, and its notes. Images are named by their ids. ValueError: nothing to export, an unknown choice."""
    for name, value, allowed in (("format", form, FORMATS), ("which", which, WHICH), ("label", label, LABELS)):
        if value not in allowed:
            raise ValueError(f"{name} {str(value)[:40]!r}; allowed are {', '.join(allowed)}")
    chosen = [item for item in project.items("accepted" if which == "accepted" else None) if item.mask is not None]
    if not chosen:
        raise ValueError("there is nothing to export yet: " + ("accept an image first" if which == "accepted" else "no image has a saved mask"))
    items = [
        Annotated(project.scan(item.id), project.mask(item.id), label, item.id, item.checkpoint[0] if item.checkpoint else "") for item in chosen
    ]
    with tempfile.TemporaryDirectory() as folder:
        written = exports.write(items, form, Path(folder) / "masks")
        return exports.zipped(written.out).read_bytes(), list(written.notes)


def take(project: Project, path: Path, who: str) -> tuple[int, list[str]]:
    """Save the masks of an upload for the images of their names: how many, and sentences on what did not fit.

    Accepted images are left as they are. UnreadableImage where there is no mask in it.
    """
    items = project.items()
    known: dict[str, str] = {}
    for item in items:
        stem = _ENDING.sub("", project.name(item.id))
        for name in (item.id, stem) if len(items) > 1 else (stem or item.id,):
            known[name] = "" if name in known else item.id
    known = {name: id for name, id in known.items() if name and id}
    found = imports.read(path, {name: project.scan(id) for name, id in known.items()})
    notes, saved, kept = list(found.notes), 0, 0
    for name, mask_xyz in found.masks.items():
        if project.item(known[name]).status == "accepted":
            kept += 1
            continue
        project.save(known[name], mask_xyz, who, imported=True)
        saved += 1
    if kept:
        notes.append(f"{kept} accepted image{'s were' if kept > 1 else ' was'} left alone; reopen what is to get another mask.")
    return saved, notes


def history(project: Project | None, work: Work) -> bytes:
    """What was done to one image, as JSON: its lines of the project's log, or what this tab remembers."""
    rows = [row for row in project.log() if row.get("item") == work.item] if work.item else work.history
    return (json.dumps(rows, indent=1) + "\n").encode()
