"""A folder of one's own: images/ and masks/, in any format the app opens (PNG, JPEG, TIFF, NIfTI, DICOM)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mpsams import imaging
from mpsams.datasets import Dataset, _files, _volumes
from mpsams.datasets._volumes import Patient

SOURCE = "images of one's own, under one's own terms"
MODALITIES = imaging.MODALITIES  # may be stated, see ``datasets.open_dataset``
ENDINGS = ("", "_mask", "_seg")  # of a mask's name after its image's
LAYOUT = (
    "images/NAME.png (or .jpg, .tif, .nii, .nii.gz, .dcm, or a folder NAME with a DICOM series) "
    "and masks/NAME.png (or .nii.gz …; NAME_mask and NAME_seg are found too)"
)


def load(root: str | Path | None, modality: str | None = None) -> Dataset:
    """Open the folder: pictures as they are, volumes as axial slices that stay together in a split.

    What in a mask is lesion: ``imaging.mask_values.lesion``. Without a folder masks/ the data set has
    no target and serves for pretraining only. modality: None is what the first file says or looks like. Files that are
    no images are passed over, with a note; another note names images that say they are of another modality. Raises
    ValueError: no images/, an image without mask or the reverse, different sizes, an unreadable file.
    """
    if root is None:
        raise ValueError(f"a folder of one's own needs --data.root DIR; expected {LAYOUT}")
    if not (Path(root) / "images").is_dir():
        raise ValueError(f"{root} has no folder images/; expected {LAYOUT}")
    images, notes = _files.list_files(Path(root) / "images")
    if not images:
        raise ValueError(f"{Path(root) / 'images'} holds no image; expected {LAYOUT}. {' '.join(notes)}".strip())
    masks, more = _files.list_files(Path(root) / "masks") if (Path(root) / "masks").is_dir() else (None, [])
    patients = [
        Patient(name, (path,), None if masks is None else mask_of(name, masks)) for name, path in images.items()
    ]
    strange = set(masks or ()) - {_files.stem(patient.mask) for patient in patients if patient.mask}
    if strange:
        raise ValueError(f"masks/{sorted(strange)[0]} belongs to no image; expected {LAYOUT}")
    found = _volumes.dataset("folder", modality, "" if masks is None else "lesion", patients, None)
    return replace(found, notes=(*notes, *more, *found.notes))


def mask_of(name: str, masks: dict[str, Path]) -> Path:
    """The mask of an image. ValueError when there is none."""
    found = [masks[name + ending] for ending in ENDINGS if name + ending in masks]
    if not found:
        raise ValueError(f"images/{name} has no mask; expected masks/{name} (an empty mask where there is no lesion)")
    return found[0]
