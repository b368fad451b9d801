"""A folder of one's own: images/ and masks/, in any format the app opens (PNG, JPEG, TIFF, NIfTI, DICOM)."""

from __future__ import annotations

from pathlib import Path

from mpsams.datasets import Dataset, _volumes
from mpsams.datasets._volumes import Patient

SOURCE = "images of one's own, under one's own terms"
ENDINGS = ("", "_mask", "_seg")  # of a mask's name after its image's
LAYOUT = (
    "images/NAME.png (or .jpg, .tif, .nii, .nii.gz, .dcm, or a folder NAME with a DICOM series) "
    "and masks/NAME.png (or .nii.gz …; NAME_mask and NAME_seg are found too)"
)


def load(root: str | Path | None) -> Dataset:
    """Open the folder: pictures as they are, volumes as axial slices that stay together in a split.

    Any mask value above 0 is lesion (pictures with soft edges: above half). Without a folder masks/ the data set has
    no target and serves for pretraining only. The modality is what the first file says or looks like.
    Raises ValueError: no images/, an image without mask or the reverse, different sizes, an unreadable file.
    """
    if root is None or not (Path(root) / "images").is_dir():
        raise ValueError(f"{root} has no folder images/; expected {LAYOUT}")
    images = named(Path(root) / "images")
    if not images:
        raise ValueError(f"{Path(root) / 'images'} is empty; expected {LAYOUT}")
    masks = named(Path(root) / "masks") if (Path(root) / "masks").is_dir() else None
    patients = [Patient(name, (path,), None if masks is None else mask_of(name, masks)) for name, path in images.items()]
    strange = set(masks or ()) - {_volumes.stem(patient.mask) for patient in patients if patient.mask}
    if strange:
        raise ValueError(f"masks/{sorted(strange)[0]} belongs to no image; expected {LAYOUT}")
    target = "" if masks is None else "lesion"
    return _volumes.dataset("folder", _volumes.opened(patients[0].images[0]).modality, target, patients, None)


def named(folder: Path) -> dict[str, Path]:
    """Name -> file or series of a folder, hidden ones left out. ValueError when two share a name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        name = _volumes.stem(path)
        if name in found:
            raise ValueError(f"{found[name].name} and {path.name} in {folder} have one name; expected one file per image")
        found[name] = path
    return found


def mask_of(name: str, masks: dict[str, Path]) -> Path:
    """The mask of an image. ValueError when there is none."""
    found = [masks[name + ending] for ending in ENDINGS if name + ending in masks]
    if not found:
        raise ValueError(f"images/{name} has no mask; expected masks/{name} (an empty mask where there is no lesion)")
    return found[0]

