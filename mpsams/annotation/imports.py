"""Masks that exist already, found for the scans of a project: PNG, JPEG, TIFF, NIfTI, DICOM-SEG, COCO; files, folders, zips.

Uploads are untrusted: formats are told by content, names only tell which scan is meant and are never used as paths, and
sentences name nothing but the project's own scans.

Axes: X, Y, Z as the scan stores them.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams.annotation import _coco, _dicom_seg
from mpsams.imaging import Scan, UnreadableImage, archive, nifti, raster

KINDS = ("benign", "malignant", "normal")  # folders of BUSI, which are labels
MAX_EACH = 32  # masks of one image
SAME_GRID = 1e-2  # millimetres by which the grids of a mask and its image may differ

_ENDING = re.compile(r"(\.(png|jpe?g|tiff?|nii|dcm|json)|\.nii\.gz)$", re.IGNORECASE)
_MARK = re.compile(r"(_mask(_\d{1,3})?|_seg)$", re.IGNORECASE)
_OPENS = "masks may be PNG, JPEG, TIFF, NIfTI, DICOM-SEG or COCO JSON, also in a folder or a zip"


@dataclass(frozen=True)
class Found:
    """Masks for scans. masks: name -> bool (X, Y, Z). labels: name -> what is marked, where the files say it.

    notes: sentences on what did not fit. strangers: names in the upload that belong to no scan: to be shown to who
    uploaded them and never to be logged, for they may name a patient.
    """

    masks: dict[str, np.ndarray] = field(repr=False)
    labels: dict[str, str]
    notes: tuple[str, ...]
    strangers: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class _File:
    """A file of an upload: its names from the upload's top down, and where it lies."""

    parts: tuple[str, ...]
    path: Path

    @property
    def stem(self) -> str:
        """Its name without ending."""
        return _ENDING.sub("", self.parts[-1])


def read(path: Path, scans: Mapping[str, Scan]) -> Found:
    """The masks in a file, folder or zip for the scans of these names.

    A picture or NIfTI file belongs to the scan of its name, with or without _mask, _mask_1 or _seg after it; where there is
    one file and one scan, to that. Of a folder with masks/ only that is read; else, if any name ends in _mask or _seg, only
    those. Several masks of a scan are merged. Any value above 0 is lesion; in pictures of more than four grey levels, which
    are soft edges, above half (``raster.read_mask``, as in the data sets). A NIfTI file has to lie on the scan's grid.
    A DICOM-SEG belongs to the scan whose images it refers to. COCO: see ``_coco``.

    Raises UnreadableImage where nothing at all can be read, whatever the bytes.
    """
    path, masks, labels, notes, strangers = Path(path), {}, {}, [], []
    work, allowance, counts = _coco.Work(), _dicom_seg.allowance(), Counter()
    given = {_clean(name): name for name in scans}
    scans = {_clean(name): scan for name, scan in scans.items()}

    def keep(name: str, mask_xyz: np.ndarray, label: str) -> None:
        masks[name] = masks[name] | mask_xyz if name in masks else mask_xyz
        labels.setdefault(name, set()).add(label)

    with tempfile.TemporaryDirectory() as folder:
        files = _wanted(_files(path, Path(folder)))
        alone = next(iter(scans)) if len(scans) == len(files) == 1 else None
        for file in files:
            kind = _kind(file.path)
            try:
                if kind == "coco":
                    found, said, remarks, unknown = _coco.read(_bytes(file.path, _coco.MAX_BYTES), scans, work)
                    notes += remarks
                    strangers += unknown
                    for name, mask_xyz in found.items():
                        keep(name, mask_xyz, said.get(name, ""))
                elif kind == "dicom":
                    keep(*_dicom_seg.read(file.path, scans, allowance))
                elif kind and (name := _name(file.stem, scans) or alone):
                    counts[name] += 1
                    if counts[name] > MAX_EACH:
                        raise UnreadableImage(f"{name}: More than {MAX_EACH} masks are of this image; the others were left out.")
                    keep(name, _mask(name, file.path, kind, scans[name]), _kind_of(file))
                elif kind:
                    strangers.append("/".join(file.parts)[:200])
                else:
                    notes.append(f"A file was left out: by its content it is no mask; {_OPENS}.")
            except UnreadableImage as refusal:
                notes.append(str(refusal))
    if strangers:
        count = len(strangers)
        belong = "s belong" if count > 1 else " belongs"
        notes.append(f"{count} mask{belong} to no image here: a mask has its image's name, maybe with _mask after it.")
    if not masks:
        raise UnreadableImage(notes[0] if notes else f"There are no masks in this upload; {_OPENS}.")
    agreed = {given[name]: label for name, said in labels.items() if len(said) == 1 and (label := next(iter(said)))}
    return Found({given[name]: mask_xyz for name, mask_xyz in masks.items()}, agreed, tuple(dict.fromkeys(notes)), tuple(strangers))


def _files(path: Path, folder: Path) -> list[_File]:
    """The files of an upload in the order of their names; a zip is unpacked into ``folder`` first."""
    if path.is_dir():
        return _walked(path)
    with path.open("rb") as file:
        if file.read(4) not in archive.SIGNATURES:
            return [_File((_clean(path.name),), path)]
    unpacked = archive.unpack(path, folder)  # which refuses all that is no honest zip
    with zipfile.ZipFile(path) as file:
        members = sorted(filter(archive._wanted, file.infolist()), key=lambda member: member.filename)
    parts = [tuple(_clean(part) for part in re.split(r"[/\\]", member.filename)) for member in members]
    return [_File(*both) for both in zip(parts, unpacked, strict=True)]


def _walked(root: Path) -> list[_File]:
    """The plain files of a folder, links and hidden ones left out."""
    files, left = [], archive.MAX_BYTES
    for at, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            left -= path.stat().st_size
            files.append(_File(tuple(map(_clean, path.relative_to(root).parts)), path))
            if len(files) > archive.MAX_FILES or left < 0:
                raise UnreadableImage(f"This folder is too large; allowed are {archive.MAX_FILES} files and {archive.MAX_BYTES >> 30} GiB.")
    return files


def _clean(name: str) -> str:
    """A name by which the same letters are the same, for macOS writes some as two."""
    return unicodedata.normalize("NFC", name)


def _wanted(files: list[_File]) -> list[_File]:
    """Those that are masks by where they lie or by their names; all of them if none is."""
    in_masks = [file for file in files if "masks" in (part.lower() for part in file.parts[:-1])]
    marked = [file for file in files if _MARK.search(file.stem)]
    chosen = {file.path for file in in_masks or marked}
    return [file for file in files if file.path in chosen or file.parts[-1].lower().endswith(".json")] if chosen else files


def _kind(path: Path) -> str:
    """ "picture", "nifti", "dicom" or "coco" by the first bytes; "" for anything else."""
    with path.open("rb") as file:
        head = file.read(1024)
    if raster.kind(head):
        return "picture"
    if head[:4] in nifti.SIGNATURES or head[:2] == nifti.GZIP:
        return "nifti"
    if head[128:132] == b"DICM":
        return "dicom"
    return "coco" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) else ""


def _name(stem: str, scans: Mapping[str, Scan]) -> str | None:
    """The scan that a file's name means."""
    return next((name for name in (stem, _MARK.sub("", stem)) if name in scans), None)


def _kind_of(file: _File) -> str:
    """The label that a BUSI folder is."""
    return next((part for part in file.parts[-2:-1] if part in KINDS), "")


def _mask(name: str, path: Path, kind: str, scan: Scan) -> np.ndarray:
    """A scan's mask, bool (X, Y, Z), from a picture or NIfTI file; UnreadableImage names the scan."""
    try:
        return _picture(path, scan) if kind == "picture" else _volume(path, scan)
    except UnreadableImage as refusal:
        raise UnreadableImage(f"{name}: {refusal}") from None


def _picture(path: Path, scan: Scan) -> np.ndarray:
    if not _coco.is_flat(scan.voxels_xyz.shape, scan.affine):
        raise UnreadableImage("A picture cannot be the mask of a volume; allowed are NIfTI, DICOM-SEG and COCO.")
    shape_hw = scan.shown().shape[1:]
    return raster.read_mask(_bytes(path, raster.MAX_BYTES), shape_hw).T[:, :, None].copy()


def _volume(path: Path, scan: Scan) -> np.ndarray:
    mask = nifti.read(path, "mri")  # of no concern here, but stated it is not searched for
    if mask.choices:
        raise UnreadableImage(f"This NIfTI mask holds {len(mask.choices)} volumes; allowed is one.")
    if mask.voxels_xyz.shape != scan.voxels_xyz.shape:
        sizes = (" × ".join(map(str, voxels.shape)) for voxels in (mask.voxels_xyz, scan.voxels_xyz))
        raise UnreadableImage("The mask is {} voxels but its image is {}; allowed is the image's own grid.".format(*sizes))
    if scan.affine is not None and (mask.affine is None or np.abs(mask.affine - scan.affine).max() > SAME_GRID):
        raise UnreadableImage("The mask lies on another grid than its image; allowed is the image's own, so resample it first.")
    return mask.positive()


def _bytes(path: Path, most: int) -> bytes:
    """A file's bytes, one more than allowed at most, by which its reader knows."""
    with path.open("rb") as file:
        return file.read(most + 1)
