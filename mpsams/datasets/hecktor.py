"""HECKTOR: head and neck tumours on CT (Andrearczyk et al., MICCAI challenges 2020 and 2022), the official folders."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from mpsams.datasets import Dataset, _files, _volumes
from mpsams.datasets._volumes import Codes, Patient

SOURCE = (
    "HECKTOR: V. Andrearczyk, V. Oreiller et al., Overview of the HECKTOR challenge at MICCAI 2020, "
    "https://doi.org/10.1007/978-3-030-67194-5_1; to be had from its organisers after registration"
)
LAYOUT = (
    "hecktor_nii/CASE_ct.nii.gz beside CASE_gtvt.nii.gz (2020), "
    "or imagesTr/CASE__CT.nii.gz and labelsTr/CASE.nii.gz (2022)"
)
CODES = Codes(lesion=(1,), known=(0, 1, 2))  # 2 is the lymph nodes of 2022


def load(root: str | Path | None) -> Dataset:
    """Open the folder: axial CT slices, the primary tumour (GTVt of 2020, GTVp of 2022) as lesion, by patient.

    root: as in LAYOUT. A slice is looked at in a square around the body, or, where a table of the challenge's
    bounding boxes lies there (*bbox*.csv or *bounding_box*.csv with PatientID, x1, x2, y1, y2, z1, z2), in that.
    Raises ValueError naming what was expected: no such folder, a CT without its mask, a file that is no volume.
    """
    if root is None:
        raise ValueError(f"HECKTOR needs --data.root DIR; expected {LAYOUT}")
    folders = (Path(root), *sorted(path for path in Path(root).glob("*") if path.is_dir()))
    found = {folder: pairs for folder in folders if (pairs := of_2020(folder) or of_2022(folder))}
    if not found:
        raise ValueError(f"{root} is not a HECKTOR folder; expected {LAYOUT}")
    folder, pairs = next(iter(found.items()))
    notes = [
        f"{other.name}/ was not read, for {folder.name}/ holds CTs too; name one of them as data.root."
        for other in found
        if other != folder
    ]
    notes += alone(folder, pairs)
    corners = boxes(Path(root))
    patients = [Patient(name, (ct,), mask, corners.get(name)) for name, (ct, mask) in sorted(pairs.items())]
    dataset = _volumes.dataset("hecktor", "ct", "primary head and neck tumour (GTVt)", patients, CODES)
    return replace(dataset, notes=(*notes, *dataset.notes))


def of_2020(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return each case's CT and mask, in the layout of 2020; empty when it is another."""
    files = _files.volumes(folder)
    return {name: pair(files, f"{name}_ct", files, f"{name}_gtvt", folder) for name in files_by_name(files, "_ct")}


def of_2022(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return each case's CT and mask, in the layout of 2022; empty when it is another."""
    images, masks = _files.volumes(folder / "imagesTr"), _files.volumes(folder / "labelsTr")
    return {
        name: pair(images, f"{name}__CT", masks, name, folder / "labelsTr") for name in files_by_name(images, "__CT")
    }


def files_by_name(files: dict[str, Path], ending: str) -> list[str]:
    """Return the cases of the files whose names have an ending."""
    return [name.removesuffix(ending) for name in files if name.endswith(ending)]


def pair(images: dict[str, Path], image: str, masks: dict[str, Path], mask: str, folder: Path) -> tuple[Path, Path]:
    """Return the paths of a case's image and mask. ValueError when there is no mask."""
    if mask not in masks:
        raise ValueError(
            f"{images[image].parent / image} has no mask: expected {folder / mask}.nii.gz; layout: {LAYOUT}"
        )
    return images[image], masks[mask]


def alone(folder: Path, pairs: dict[str, tuple[Path, Path]]) -> list[str]:
    """Return a sentence that names masks without CT; none without any."""
    masks = files_by_name(_files.volumes(folder), "_gtvt") + list(_files.volumes(folder / "labelsTr"))
    left = sorted(set(masks) - set(pairs))
    return (
        [f"Left out, for they have a mask but no CT: {', '.join(left[:5])}{' and more' if len(left) > 5 else ''}."]
        if left
        else []
    )


def boxes(root: Path) -> dict[str, tuple]:
    """Return two corners of each case in mm, RAS, from the challenge's tables of bounding boxes; empty without one."""
    tables = sorted({path for pattern in ("*bbox*.csv", "*bounding_box*.csv") for path in root.rglob(pattern)})
    return {name: box for table in tables for name, box in boxes_of(table).items()}


def boxes_of(table: Path) -> dict[str, tuple]:
    """Return the boxes of one table; that of the challenge's test part may lie beside that of the training."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    try:
        return {
            row["PatientID"]: corners({key: float(row[key]) for key in ("x1", "x2", "y1", "y2", "z1", "z2")})
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{table} is no table of bounding boxes ({error}); expected PatientID, x1, x2, y1, y2, z1, z2"
        ) from None


def corners(row: dict[str, float]) -> tuple:
    """Return the corners of a box in RAS; the challenge's boxes are in DICOM's millimetres (LPS)."""
    return tuple((-row[f"x{i}"], -row[f"y{i}"], row[f"z{i}"]) for i in "12")
