"""Annotated scans as files that others read: BUSI folder, images/ and masks/, NIfTI, DICOM-SEG, COCO; and all of it as
a zip.

Pixels, masks, labels and geometry leave, and what the caller gives: names, classes and the rows of names.csv. No other
name, date or text leaves, but the UIDs that a DICOM-SEG needs. What is burnt into the pixels themselves stays there.

Over 250 lines because all formats go through one path that writes a folder or a zip whole or not at all.

Axes: X, Y, Z as the scan stores them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams.annotation import class_table, coco, export_names, image_export
from mpsams.annotation.structure_tables import DATASET_FILE, SIZES_FILE, dataset, sizes
from mpsams.annotation.structures import Structure
from mpsams.imaging import Scan, export, geometry, nifti, raster
from mpsams.imaging.dicom import annotation_seg

FORMATS = ("busi", "folder", "nifti", "dicom-seg", "coco")
KINDS = ("benign", "malignant", "normal")  # the folders of BUSI
COCO_FILE, TABLE_FILE = "annotations.json", "names.csv"

_LONGEST = 64  # characters of a label, as in DICOM
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first day that a zip can hold
# where in the export a mask lies, None if left out, and a sentence, "" if there is nothing to say
Placed = tuple[str | None, str]


@dataclass(frozen=True, eq=False)
class Annotated:
    """A scan and what was marked on it.

    mask_xyz: bool (X, Y, Z) on the scan's own voxels, True = lesion; with structures a label map, uint8. label: what is
    marked, 1 to 64 printable characters. structures: those of the label map, labelled from 1 on; () for a bool mask.
    name: of its files, "" for a neutral one; it is written as it is given, so a name from a person's file may name a
    patient.
    algorithm: what drew the mask with a person's help, for DICOM-SEG; "" is by hand. image_class: of the whole image,
    "" for none.
    record: its row of names.csv, column -> value; None for no row.
    """

    scan: Scan = field(repr=False)
    mask_xyz: np.ndarray = field(repr=False)
    label: str = "lesion"
    name: str = ""
    algorithm: str = ""
    image_class: str = ""
    record: Mapping[str, object] | None = field(default=None, repr=False)
    structures: tuple[Structure, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is marked, by label."""
        return tuple(one.name for one in self.structures) or (self.label,)


@dataclass(frozen=True)
class Written:
    """The result of an export.

    places: for each item the file with its mask, relative to ``out``; None where it was left out.

    notes: sentences on what was left out or rounded. They know items by the names in the export alone.
    """

    out: Path
    places: tuple[str | None, ...]
    notes: tuple[str, ...]


def write(items: Iterable[Annotated], format: str, out: Path) -> Written:
    """Write all items into a new folder ``out`` in one of FORMATS: whole or not at all, and the same bytes each time.

    Items are taken one after the other and let go of, so they may be opened when they are asked for. Items without a
    name are image-0001 and so on, by their place in the sequence.
      busi       CLASS/NAME.png and NAME_mask.png, of flat pictures with a class or a label that is one of KINDS;
                 without a name CLASS (1)
      folder     images/NAME and masks/NAME, .png for flat pictures and .nii.gz for volumes
      nifti      NAME.nii.gz, each mask on its scan's own grid
      dicom-seg  NAME.dcm, where ``imaging.export`` allows it
      coco       annotations.json, see ``coco``
    Beside them lies names.csv with the items' records, where there are any, and where their masks lie in the export;
    and of label maps dataset.json and structures.csv, see ``structure_tables``.

    ValueError: an unknown format, ``out`` is there already, a name or label or mask that is not allowed, nothing to
    write.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}; allowed are {', '.join(FORMATS)}")
    writer = {"busi": _busi, "folder": _folder, "nifti": _nifti, "dicom-seg": _dicom, "coco": _as_coco}[format]
    listed = _Listed()
    with _new(Path(out)) as folder:
        placed = writer(_check_items(items, listed), folder)
        places, notes = tuple(place for place, _ in placed), [note for _, note in placed if note]
        if not any(places):
            raise ValueError(f"nothing to export as {format}: {notes[0] if notes else 'there are no images'}")
        if rows := [
            {**record, "mask": place or ""}
            for record, place in zip(listed.records, places, strict=True)
            if record is not None
        ]:
            (folder / TABLE_FILE).write_bytes(class_table.document(rows))
        if listed.structures:
            ending = Path(next(filter(None, places))).suffix
            data = dataset(listed.structures, sum(map(bool, places)), ".nii.gz" if ending == ".gz" else ending)
            (folder / DATASET_FILE).write_bytes(data)
            (folder / SIZES_FILE).write_bytes(class_table.document(listed.sizes))
    if format == "busi":
        notes += _missing(places)
    return Written(Path(out), places, tuple(notes))


def _unique_name(number: int, item: Annotated, names: set[str]) -> str:
    """Return the unique name of the item at a place, counted from 1. names: in use, lower case; this one is added."""
    name = item.name or f"image-{number:04d}"
    if not export_names.is_safe(name):
        raise ValueError(
            f"the name of image {number}; allowed are 1 to 100 letters, digits, spaces and . ( ) + - _, as a file's"
            " name"
        )
    if name.casefold() in names:
        raise ValueError("two images have one name; allowed are different ones")
    names.add(name.casefold())
    return name


@dataclass
class _Listed:
    """The rows of the tables beside an export, collected while its items are written."""

    records: list[Mapping[str, object] | None] = field(default_factory=list)
    structures: tuple[Structure, ...] = ()
    sizes: list[dict[str, object]] = field(default_factory=list)


def _check_items(items: Iterable[Annotated], listed: _Listed) -> Iterator[tuple[str, Annotated]]:
    """Yield the items with their names. listed: gets their rows. ValueError for wrong names, labels, classes, masks."""
    names: set[str] = set()
    for number, item in enumerate(items, start=1):
        name = _unique_name(number, item, names)
        _check(name, item)
        listed.records.append(item.record)
        if item.structures:
            listed.structures = item.structures
            head = {"id": (item.record or {}).get("id", ""), "name": (item.record or {}).get("name", name)}
            listed.sizes += sizes(item.scan, item.mask_xyz, item.structures, head)
        yield name, item
        del item  # before the next one is opened


def zipped(out: Path) -> Path:
    """Write a zip of an export beside it, OUT.zip; equal files make equal bytes. ValueError if it is there already."""
    out = Path(out)
    target = out.with_name(f"{out.name}.zip")
    if target.exists():
        raise ValueError(f"{target.name} is there already; allowed is a new file")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as folder:
        made = Path(folder) / "export.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
            for path in sorted(inner for inner in out.rglob("*") if inner.is_file()):
                entry = zipfile.ZipInfo(path.relative_to(out).as_posix(), _LONG_AGO)
                entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
                with (
                    path.open("rb") as source,
                    file.open(entry, "w", force_zip64=path.stat().st_size > 2**31 - 2**20) as packed,
                ):
                    shutil.copyfileobj(source, packed, 2**20)
        os.replace(made, target)
    return target


@contextmanager
def _new(out: Path) -> Iterator[Path]:
    """Yield a folder to write into that becomes ``out`` when all is written."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out.name} is there already; allowed is a new folder, or an empty one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as temporary:
        folder = Path(temporary) / "export"
        folder.mkdir()
        yield folder
        os.rename(folder, out)


def _check(name: str, item: Annotated) -> None:
    kind = np.uint8 if item.structures else bool
    if item.mask_xyz.dtype != kind or item.mask_xyz.shape != item.scan.voxels_xyz.shape:
        given = f"{item.mask_xyz.dtype} {item.mask_xyz.shape}"
        raise ValueError(f"{name}: the mask is {given}; allowed is {kind.__name__} {item.scan.voxels_xyz.shape}")
    if [one.label for one in item.structures] != list(range(1, len(item.structures) + 1)):
        raise ValueError(f"{name}: the labels of its structures; allowed are 1, 2 and so on")
    if not 0 < len(item.label.strip()) <= _LONGEST or "\\" in item.label or not item.label.isprintable():
        raise ValueError(
            f"{name}: label {item.label!r}; allowed are 1 to {_LONGEST} printable characters without backslash"
        )
    if item.image_class and not export_names.is_safe(item.image_class):
        raise ValueError(
            f"{name}: class {item.image_class!r}; allowed are letters, digits, spaces and . ( ) + - _, as in a file's"
            " name"
        )


def _each(items: Iterable[tuple[str, Annotated]], put: Callable[[str, Annotated], Placed]) -> list[Placed]:
    return [put(name, item) for name, item in items]


def _busi(items: Iterable[tuple[str, Annotated]], folder: Path) -> list[Placed]:
    numbers: Counter[str] = Counter()

    def put(name: str, item: Annotated) -> Placed:
        kind = item.image_class or item.label
        if not item.image_class and kind not in KINDS:
            return None, f"{name} was left out: it has no class, and here each image lies in the folder of its class."
        if not image_export.is_picture(item.scan):
            return None, f"{name} was left out: it is no flat picture, and a BUSI folder has nothing else."
        if kind.casefold() == "normal" and item.mask_xyz.any():
            return None, f"{name} was left out: it is labelled normal but something is marked on it."
        numbers[kind] += 1
        stem = item.name or f"{kind} ({numbers[kind]})"
        (folder / kind).mkdir(exist_ok=True)
        note = _put_picture(name, item, folder / kind / f"{stem}.png", folder / kind / f"{stem}_mask.png")
        return f"{kind}/{stem}_mask.png", note

    placed = _each(items, put)
    for kind in KINDS if set(numbers) & set(KINDS) else ():
        (folder / kind).mkdir(exist_ok=True)
    return placed


def _missing(places: Sequence[str | None]) -> list[str]:
    """Return a sentence if a kind has no image, for then readers do not take the folder for a BUSI folder."""
    found = {place.split("/")[0] for place in places if place}
    absent = [kind for kind in KINDS if kind not in found] if found & set(KINDS) else []
    return [
        f"There is no image labelled {' or '.join(absent)}; to be opened as BUSI a folder needs one of each kind."
    ] * bool(absent)


def _folder(items: Iterable[tuple[str, Annotated]], folder: Path) -> list[Placed]:
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()

    def put(name: str, item: Annotated) -> Placed:
        if image_export.is_picture(item.scan):
            file = f"{name}.png"
            note = _put_picture(name, item, images / file, masks / file)
        else:
            file, note = f"{name}.nii.gz", ""
            (images / file).write_bytes(image_export.volume(item.scan))
            (masks / file).write_bytes(nifti.write_mask(item.scan, item.mask_xyz))
        return f"masks/{file}", note

    return _each(items, put)


def _put_picture(name: str, item: Annotated, image: Path, mask: Path) -> str:
    data, exact = image_export.png(item.scan)
    image.write_bytes(data)
    mask.write_bytes(raster.write_mask(geometry.radiological_view(item.mask_xyz, None)[0]))
    return "" if exact else f"{name}: no PNG holds the image's values exactly, so they were rounded."


def _nifti(items: Iterable[tuple[str, Annotated]], folder: Path) -> list[Placed]:
    def put(name: str, item: Annotated) -> Placed:
        (folder / f"{name}.nii.gz").write_bytes(nifti.write_mask(item.scan, item.mask_xyz))
        return f"{name}.nii.gz", ""

    return _each(items, put)


def _dicom(items: Iterable[tuple[str, Annotated]], folder: Path) -> list[Placed]:
    def put(name: str, item: Annotated) -> Placed:
        if "dicom-seg" not in export.formats(item.scan):
            return (
                None,
                (
                    f"{name} was left out: a DICOM-SEG refers to DICOM images with geometry and UIDs, and this image"
                    " has none."
                ),
            )
        try:
            map_xyz = item.mask_xyz if len(item.names) > 1 else item.mask_xyz != 0
            data = annotation_seg.write(item.scan, map_xyz, item.names, item.algorithm)
        except ValueError:
            return None, f"{name} was left out: its series makes no valid DICOM-SEG."
        (folder / f"{name}.dcm").write_bytes(data)
        return f"{name}.dcm", ""

    return _each(items, put)


def _as_coco(items: Iterable[tuple[str, Annotated]], folder: Path) -> list[Placed]:
    count = 0

    def marked() -> Iterator[coco.Marked]:
        nonlocal count
        for name, item in items:
            count += 1
            is_named = bool(item.structures)
            yield coco.Marked(name, item.mask_xyz, item.scan.affine, item.names, item.image_class, is_named)

    data = coco.document(marked())
    (folder / COCO_FILE).write_bytes(data)
    return [(COCO_FILE, "")] * count
