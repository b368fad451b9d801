"""Files into a project and out of it: images added, masks found for them and saved, masks exported as a folder or a zip."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpsams.imaging import Scan, UnreadableImage, dicom

from . import disk, exports, images, imports
from .exports import Annotated
from .index import Item
from .project import Project

FORMATS = {
    "folder": "Images and masks, for training", "nifti": "Masks as NIfTI", "coco": "COCO, one JSON file",
    "dicom-seg": "DICOM-SEG, de-identified", "busi": "Folders as in BUSI",
}  # fmt: skip
WHICH = {"accepted": "Accepted ones", "all": "All that have a mask"}
LABELS = ("lesion", *exports.KINDS)


@dataclass
class Imported:
    """Result of an import.

    saved: ids of the images whose mask was saved. refused: names of images, and why a mask was not taken for each. notes:
    sentences on all that did not fit, or was left alone.
    """

    saved: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exported:
    """Result of an export. places: of each image's id the file with its mask in the export, None where it was left out. notes: sentences."""

    places: dict[str, str | None]
    notes: list[str]


def grouped(paths: Sequence[Path]) -> list[list[Path]]:
    """An upload as images: each picture, volume or zip by itself, DICOM files by the series or volume they make together."""
    files = dict.fromkeys(path for path in paths if images.ending_of(path) == ".dcm")
    series = {group[0]: group for group in dicom.grouped(list(files))}
    return [series.get(path, [path]) for path in paths if path in series or path not in files]


def add(project: Project, paths: Sequence[Path], modality: str | None, who: str) -> tuple[int, list[str]]:
    """Put an upload into a project: how many images are new, and sentences on what was refused or noticed, by its place in the upload."""
    before, notes = len(project.items()), []
    for number, group in enumerate(grouped(paths), start=1):
        noticed: list[str] = []
        try:
            project.add(group if len(group) > 1 else group[0], modality, group[0].name, who, noticed)
        except UnreadableImage as refusal:
            notes.append(f"Image {number} of the upload was not added: {refusal}")
        except OSError as error:
            notes.append(f"Image {number} of the upload was not added, nor those after it: {disk.sentence(error)}")
            break
        notes += [f"Image {number} of the upload: {note}" for note in noticed]
    return len(project.items()) - before, notes


class _Scans(Mapping):
    """The images of a project by id, each opened when it is asked for."""

    def __init__(self, project: Project) -> None:
        self.project, self.ids = project, tuple(item.id for item in project.items())

    def __getitem__(self, id: str) -> Scan:
        return self.project.scan(id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def take(project: Project, path: Path, who: str) -> Imported:
    """Save the masks of a file, folder or zip for the images of their names, as drafts that wait to be accepted.

    One image after the other. What is refused changes nothing: accepted images are left as they are, and so are images with
    a saved mask of whose new masks a part could not be read. UnreadableImage where the upload as a whole cannot be read.
    """
    scans, report = _Scans(project), imports.Report()
    names = {id: tuple(filter(None, (project.name(id), id))) for id in scans}
    result, accepted, partly = Imported(), [], []
    try:
        for mask in imports.each(path, scans, names, report):
            item = project.item(mask.key)
            if item.status == "accepted":
                accepted.append(names[item.id][0])
            elif item.mask is not None and not mask.is_whole:
                partly.append(names[item.id][0])
            else:
                project.save(item.id, mask.voxels_xyz, who, imported=True)
                result.saved.append(item.id)
    except OSError as error:
        result.notes.append(f"The import ended early. {disk.sentence(error)}")
    report.refused += [(title, "its saved mask was kept, for not all of the new one could be read.") for title in partly]
    result.notes += report.sentences()
    if count := len(accepted):
        result.notes.append(f"{count} accepted image{'s were' if count > 1 else ' was'} left alone; reopen what is to get another mask.")
    result.refused = [*dict.fromkeys(report.refused), *((title, "it is accepted; reopen it to give it another mask.") for title in accepted)]
    return result


def write(project: Project, form: str, which: str, label: str, out: Path) -> Exported:
    """Export a project's masks into ``out``: a new folder, or a new zip where its name ends in .zip. Images are named by their ids.

    form: one of FORMATS. which: "accepted" or "all" that have a mask. label: one of LABELS, what is marked.
    ValueError: nothing to export, an unknown choice, ``out`` is there already.
    """
    for name, value, allowed in (("format", form, FORMATS), ("which", which, WHICH), ("label", label, LABELS)):
        if value not in allowed:
            raise ValueError(f"{name} {str(value)[:40]!r}; allowed are {', '.join(allowed)}")
    chosen = [item for item in project.items("accepted" if which == "accepted" else None) if item.mask is not None]
    if not chosen:
        raise ValueError("there is nothing to export yet: " + ("accept an image first" if which == "accepted" else "no image has a saved mask"))
    sent: list[str] = []
    if out.suffix.lower() != ".zip":
        written = exports.write(_annotated(project, chosen, label, sent), form, out)
    elif out.exists():
        raise ValueError(f"{out.name} is there already; allowed is a new file")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as folder:
            written = exports.write(_annotated(project, chosen, label, sent), form, Path(folder) / "masks")
            exports.zipped(written.out).replace(out)
    lost = [f"{item.id} was left out: {project.remark(item.id)}" for item in chosen if item.id not in sent]
    return Exported(dict(zip(sent, written.places, strict=True)), [*written.notes, *lost])


def _annotated(project: Project, items: Sequence[Item], label: str, sent: list[str]) -> Iterator[Annotated]:
    """The images and masks to be exported, each opened when it is asked for; sent: gets their ids."""
    for item in items:
        mask_xyz = project.mask(item.id)
        if mask_xyz is not None:  # else its file was damaged meanwhile
            sent.append(item.id)
            yield Annotated(project.scan(item.id), mask_xyz, label, item.id, item.checkpoint[0] if item.checkpoint else "")
