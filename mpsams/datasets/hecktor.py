"""HECKTOR: head and neck tumours on CT (Andrearczyk et al., MICCAI challenges 2020 and 2022), the official folders."""

from __future__ import annotations

import csv
from pathlib import Path

from mpsams.datasets import Dataset, _volumes
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
    pairs = next((found for folder in folders if (found := of_2020(folder) or of_2022(folder))), None)
    if not pairs:
        raise ValueError(f"{root} is not a HECKTOR folder; expected {LAYOUT}")
    corners = boxes(Path(root))
    patients = [Patient(name, (ct,), mask, corners.get(name)) for name, (ct, mask) in sorted(pairs.items())]
    return _volumes.dataset("hecktor", "ct", "primary head and neck tumour (GTVt)", patients, CODES)


def of_2020(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Case -> its CT and mask, in the layout of 2020; empty when it is another."""
    names = [_volumes.stem(path).removesuffix("_ct") for path in folder.glob("*_ct.nii*")]
    return {name: pair(folder, f"{name}_ct", folder, f"{name}_gtvt") for name in names}


def of_2022(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Case -> its CT and mask, in the layout of 2022; empty when it is another."""
    names = [_volumes.stem(path).removesuffix("__CT") for path in (folder / "imagesTr").glob("*__CT.nii*")]
    return {name: pair(folder / "imagesTr", f"{name}__CT", folder / "labelsTr", name) for name in names}


def pair(images: Path, image: str, masks: Path, mask: str) -> tuple[Path, Path]:
    """Both files of a case. ValueError when there is no mask."""
    found = _volumes.one_of(masks, mask)
    if found is None:
        raise ValueError(f"{images / image} has no mask: expected {masks / mask}.nii.gz; layout: {LAYOUT}")
    return _volumes.one_of(images, image), found


def boxes(root: Path) -> dict[str, tuple]:
    """Case -> two corners in millimetres, RAS, from the challenge's tables of bounding boxes; empty without one."""
    tables = sorted({path for pattern in ("*bbox*.csv", "*bounding_box*.csv") for path in root.rglob(pattern)})
    return {name: box for table in tables for name, box in boxes_of(table).items()}


def boxes_of(table: Path) -> dict[str, tuple]:
    """The boxes of one table; that of the challenge's test part may lie beside that of the training."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["PatientID"]: corners({key: float(row[key]) for key in ("x1", "x2", "y1", "y2", "z1", "z2")}) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} is no table of bounding boxes ({error}); expected PatientID, x1, x2, y1, y2, z1, z2") from None


def corners(row: dict[str, float]) -> tuple:
    """The challenge's box counts in DICOM's millimetres (LPS); ours in RAS."""
    return tuple((-row[f"x{i}"], -row[f"y{i}"], row[f"z{i}"]) for i in "12")
