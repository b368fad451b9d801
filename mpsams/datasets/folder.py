"""A folder of one's own: images/ and masks/, in any format the app opens (PNG, JPEG, TIFF, NIfTI, DICOM)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mpsams import imaging
from mpsams.datasets import Dataset, _files, _volumes
from mpsams.datasets._volumes import Patient
from mpsams.imaging import name_matching

SOURCE = "images of one's own, under one's own terms"
MODALITIES = imaging.MODALITIES  # may be stated, see ``datasets.open_dataset``
LAYOUT = (
    "images/NAME.png (or .jpg, .tif, .nii, .nii.gz, .dcm, or a folder NAME with a DICOM series) "
    "and masks/NAME.png (or .nii.gz …; NAME_mask, NAME_seg and so on are found too)"
)
# folders that others keep masks in
OTHER_MASKS = re.compile(r"mask|labels?(tr)?|annotations?|segmentations?|gt|ground_?truth", re.IGNORECASE)


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
    if masks is None:
        others = (path.name for path in sorted(Path(root).iterdir()) if OTHER_MASKS.fullmatch(path.name))
        more = [
            f"{name}/ was passed over, so these images have no masks; they are read from masks/." for name in others
        ]
    matched = match_masks(images, masks or {})
    if masks is not None and (missing := sorted(images.keys() - matched)):
        raise ValueError(
            f"images/{missing[0]} has no mask; expected masks/{missing[0]} (an empty mask where there is no lesion)"
        )
    patients = [Patient(name, (path,), matched.get(name)) for name, path in images.items()]
    found = _volumes.dataset("folder", modality, "" if masks is None else "lesion", patients, None)
    return replace(found, notes=(*notes, *more, *found.notes))


def match_masks(images: dict[str, Path], masks: dict[str, Path]) -> dict[str, Path]:
    """Return the mask of each image, by its name as ``imaging.name_matching`` matches names.

    ValueError: a mask that belongs to no image, or to several; two masks of one image.
    """
    names = name_matching.Names({name: (path.name,) for name, path in images.items()})
    found: dict[str, Path] = {}
    for name, path in masks.items():
        candidates = {name} if name in images else names.of_mask((), path.name)
        if len(candidates) != 1:
            to = f"may belong to {' or '.join(sorted(candidates))}" if candidates else "belongs to no image"
            raise ValueError(f"masks/{name} {to}; expected {LAYOUT}")
        image = candidates.pop()
        if image in found:
            raise ValueError(f"{found[image].name} and {path.name} are masks of one image, {image}; expected one")
        found[image] = path
    return found
