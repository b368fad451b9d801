"""Files into a project and out of it: images added, masks found for them and saved, masks exported as a folder or a
zip.

Over 250 lines because imports and exports share the names, classes and structures of a project.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams.annotation.index import Item
from mpsams.annotation.project import Project
from mpsams.annotation.structure_matching import StructureMatcher
from mpsams.imaging import Scan, UnreadableImage, dicom

from . import classes, disk, export_names, exports, images, imports, structures
from .exports import Annotated

FORMATS = {
    "folder": "Images and masks, for training", "nifti": "Masks as NIfTI", "coco": "COCO, one JSON file",
    "dicom-seg": "DICOM-SEG, de-identified", "busi": "Folders as in BUSI",
}  # fmt: skip
WHICH = {"accepted": "Accepted ones", "all": "All that have a mask"}
LABELS = ("lesion", *exports.KINDS)
NAMES = {"keep": "My file names", "hashed": "Hashed names"}


@dataclass
class Imported:
    """Result of an import.

    saved: ids of the images whose mask was saved. classified: of those that got a class. refused: names of images, and
    why a mask was not taken for each. notes: sentences on all that did not fit, or was left alone.
    """

    saved: list[str] = field(default_factory=list)
    classified: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    places: of each image's id the file with its mask in the export, None where it was left out. notes: sentences.

    classes: the number of images of each class, "" for those without one.
    """

    places: dict[str, str | None]
    notes: list[str]
    classes: dict[str, int] = field(default_factory=dict)


def group_files(paths: Sequence[Path]) -> list[list[Path]]:
    """An upload as images: each picture, volume or zip by itself, DICOM files by the series or volume they make."""
    files = dict.fromkeys(path for path in paths if images.ending_of(path) == ".dcm")
    series = {group[0]: group for group in dicom.group_series(list(files))}
    return [series.get(path, [path]) for path in paths if path in series or path not in files]


def add(
    project: Project, paths: Sequence[Path], modality: str | None, user: str, are_named: bool = False
) -> tuple[int, list[str]]:
    """Put an upload into a project: how many images are new, and sentences on what was refused or noticed, by its place
    in the upload, or are_named: by its path.
    """
    before, notes = len(project.items()), []
    for number, group in enumerate(group_files(paths), start=1):
        title = str(group[0]) if are_named else f"Image {number} of the upload"
        try:
            files = group if len(group) > 1 else group[0]
            noticed = project.add_with_notes(files, modality, group[0].name, user)[1]
        except UnreadableImage as refusal:
            notes.append(f"{title} was not added: {refusal}")
        except OSError as error:
            notes.append(f"{title} was not added, nor those after it: {disk.sentence(error)}")
            break
        else:
            notes += [f"{title}: {note}" for note in noticed]
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


def take(project: Project, path: Path, user: str) -> Imported:
    """Save the masks of a file, folder or zip for the images of their names, as drafts to be accepted, and classes.

    A mask is named like its image's file, like its image in an export, or by the image's id. Structures of label maps
    are those of the project with their name, or their number where they have none; new ones are added to it. Label maps
    without names are one structure while the project defines none. Classes come with the masks, or from a table (CSV,
    see ``class_table``), and count where the project defines them. One image after the other. What is refused changes
    nothing: accepted images are left as they are, and so are images with a saved mask of whose new masks a part could
    not be read. UnreadableImage where the upload as a whole cannot be read.
    """
    scans, report, matcher = _Scans(project), imports.Report(), StructureMatcher(project)
    known = _export_names(project)
    names = {id: tuple(dict.fromkeys(filter(None, (project.item(id).name, known[id], id)))) for id in scans}
    result, accepted, partly, names_of_classes = Imported(), [], [], {}
    allowed = [one.name for one in classes.defined(project)]
    try:
        for mask in imports.each(path, scans, names, report, allowed, matcher):
            item = project.item(mask.key)
            if item.status == "accepted":
                accepted.append(names[item.id][0])
            elif item.mask is not None and not mask.is_whole:
                partly.append(names[item.id][0])
            else:
                try:
                    project.save(item.id, matcher.define(mask.map_xyz, user), user, imported=True)
                except ValueError as error:  # somebody else changed the structures meanwhile
                    report.refused.append((names[item.id][0], f"its mask was not saved: {str(error).rstrip('.')}."))
                    continue
                result.saved.append(item.id)
                names_of_classes[item.id] = (
                    mask.image_class if mask.image_class != LABELS[0] or LABELS[0] in allowed else ""
                )
        if all(item.mask is None or item.id in names_of_classes for item in project.items()):
            matcher.remove_usual(user)
        _take_classes(project, names_of_classes | report.classes, user, result)
    except OSError as error:
        result.notes.append(f"The import ended early. {disk.sentence(error)}")
    report.refused += [
        (title, "its saved mask was kept, for not all of the new one could be read.") for title in partly
    ]
    result.notes += report.sentences()
    if matcher.added:
        result.notes.append(f"Structures added to the project: {', '.join(matcher.added)}.")
    if count := len(accepted):
        result.notes.append(
            f"{count} accepted image{'s were' if count > 1 else ' was'} left alone; reopen what is to get another mask."
        )
    result.refused = [
        *dict.fromkeys(report.refused),
        *((title, "it is accepted; reopen it to give it another mask.") for title in accepted),
    ]
    return result


def _take_classes(project: Project, image_classes: Mapping[str, str], user: str, result: Imported) -> None:
    """Give images the classes that an import says; accepted ones that have one keep it. result: gets ids and notes."""
    allowed, unknown, kept = [one.name for one in classes.defined(project)], 0, 0
    for id, name in image_classes.items():
        item, found = project.item(id), classes.match(allowed, name)
        if item.status == "accepted" and item.image_class and found != item.image_class:
            kept += 1
        elif found and found != item.image_class:
            classes.classify(project, id, found, user)
            result.classified.append(id)
        unknown += bool(name and not found)
    if unknown:
        expected = f"expected {', '.join(allowed)}" if allowed else "define classes first"
        result.notes.append(
            f"{unknown} image{'s have' if unknown > 1 else ' has'} a class that this project does not define;"
            f" {expected}."
        )
    if kept:
        result.notes.append(
            f"{kept} accepted image{'s' * (kept > 1)} kept the class {'they have' if kept > 1 else 'it has'}."
        )


def _export_names(project: Project) -> dict[str, str]:
    """The name in an export of each image of a project, by its id; the same whichever of them are exported."""
    return export_names.of_images({item.id: item.name for item in project.items()})


def write(project: Project, form: str, which: str, label: str, out: Path, names: str = "keep") -> Exported:
    """Export a project's masks into ``out``: a new folder, or a new zip where its name ends in .zip.

    form: one of FORMATS. which: "accepted" or "all" that have a mask. label: one of LABELS, what is marked on images
    that have no class. names: "keep" names images as their files, see ``export_names``; "hashed" by their ids.
    names.csv in the export has both.
    ValueError: nothing to export, an unknown choice, ``out`` is there already.
    """
    for name, value, allowed in (
        ("format", form, FORMATS),
        ("which", which, WHICH),
        ("label", label, LABELS),
        ("names", names, NAMES),
    ):
        if value not in allowed:
            raise ValueError(f"{name} {str(value)[:40]!r}; allowed are {', '.join(allowed)}")
    chosen = [item for item in project.items("accepted" if which == "accepted" else None) if item.mask is not None]
    if not chosen:
        raise ValueError(
            "there is nothing to export yet: "
            + ("accept an image first" if which == "accepted" else "no image has a saved mask")
        )
    refusals: dict[str, str] = {}
    titles = _export_names(project) if names == "keep" else {item.id: item.id for item in chosen}
    annotated = _annotated(project, chosen, label, titles, refusals)
    if out.suffix.lower() != ".zip":
        written = exports.write(annotated, form, out)
    elif out.exists():
        raise ValueError(f"{out.name} is there already; allowed is a new file")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as folder:
            written = exports.write(annotated, form, Path(folder) / "masks")
            exports.zipped(written.out).replace(out)
    sent = [item.id for item in chosen if item.id not in refusals]
    places = dict.fromkeys(item.id for item in chosen) | dict(zip(sent, written.places, strict=True))
    lost = [f"{titles[id]} was left out: {refusal}" for id, refusal in refusals.items()]
    return Exported(places, [*written.notes, *lost], Counter(item.image_class for item in chosen if places[item.id]))


def _annotated(
    project: Project, items: Sequence[Item], label: str, titles: Mapping[str, str], refusals: dict[str, str]
) -> Iterator[Annotated]:
    """The images and masks to be exported, each opened when it is asked for.

    titles: their names. refusals: gets a sentence by the id of each that is left out as a file of it was damaged.
    """
    defined = structures.to_name(project)
    exported: tuple[structures.Structure, ...] = ()
    for item in items:
        try:
            map_xyz, scan = project.labels(item.id), project.scan(item.id)
        except UnreadableImage as refusal:
            refusals[item.id] = str(refusal)
            continue
        if map_xyz is None:
            refusals[item.id] = project.remark(item.id)
            continue
        checkpoint, kind = item.checkpoint[0] if item.checkpoint else "", item.image_class
        record = _record(item, int(np.count_nonzero(map_xyz)))
        mask_xyz = map_xyz != 0
        if defined:
            mask_xyz, exported = structures.renumber(map_xyz, defined)
        yield Annotated(scan, mask_xyz, kind or label, titles[item.id], checkpoint, kind, record, exported)
        del scan, map_xyz, mask_xyz  # before the next one is opened


def _record(item: Item, voxels: int) -> dict[str, object]:
    """The row of names.csv for an image. voxels: marked on it."""
    return {
        "id": item.id,
        "name": item.name,
        "class": item.image_class,
        "state": item.status,
        "reader": item.reader,
        "modality": item.modality,
        "lesion_voxels": voxels,
        "seconds": round(item.seconds, 1),
        "changed": item.changed,
    }
