"""Separation of an upload into images and masks: by folders, by names, and else by pixels.

Axes: H x W pixels.
"""

from __future__ import annotations

import re

import numpy as np

from mpsams.imaging import name_matching

_MASKS = set(
    "mask masks gt gts label labels annotation annotations truth groundtruth seg segs segmentation segmentations target"
    " targets manual".split()
)
_IMAGES = set(
    "image images img imgs original originals photo photos picture pictures input inputs scan scans volume volumes"
    " source".split()
)
_INSTANCES = {"object", "objects", "instance", "instances"}
_OTHERS = set(  # words that may stand beside these in the name of a folder
    """train training val valid validation test testing tr ts va class classes raw png jpg jpeg tif nii nifti binary
    ground lesion lesions tumor tumour all final full cropped resized gray grey st nd us ct mr mri set""".split()
)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_MANY = 24  # grey levels that make up most of a photograph, and of no mask
_ALIKE = 0.98  # correlation of a picture with the image it shows, saved once more


def role(parts: tuple[str, ...]) -> str:
    """Return "mask" or "image" by a file's names from the upload's top down, "" where they do not say.

    Its own name comes first (a_mask.png), then the folder nearest to it whose name says something, as in images/ and
    labels/, original/ and GT/, JPEGImages/ and SegmentationClass/, imagesTr/ and labelsTr/.
    """
    if name_matching.is_marked(name_matching.stem(parts[-1])):
        return "mask"
    for folder in reversed(parts[:-1]):
        words = _words(folder)
        if words and words <= _MASKS | _IMAGES | _INSTANCES | _OTHERS:
            if words & _MASKS:
                return "mask"
            if words & _IMAGES:
                return "image"
    return ""


def shows_instances(parts: tuple[str, ...]) -> bool:
    """Return True if a file lies in a folder of numbered objects, as SegmentationObject, beside one of classes."""
    return any(_words(folder) & _INSTANCES and _words(folder) & _MASKS for folder in parts[:-1])


def _words(folder: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(folder)}


def is_photograph(values_hw: np.ndarray) -> bool:
    """Return True if a picture's greys, float in [0, 1], are continuous as a photograph's, not as a mask's soft edges.

    Of what is not its commonest grey, a photograph needs many greys for four fifths, and few of them are near the
    brightest.
    """
    levels, counts = np.unique(np.rint(values_hw * 255).astype(np.int64), return_counts=True)
    levels, counts = np.delete(levels, counts.argmax()), np.sort(np.delete(counts, counts.argmax()))[::-1]
    if not len(counts) or counts.sum() < values_hw.size / 50:
        return False
    needed = 1 + int(np.searchsorted(counts.cumsum(), 0.8 * counts.sum()))
    share = values_hw / max(float(values_hw.max()), 1e-9)
    between, bright = np.count_nonzero((share > 1 / 8) & (share < 7 / 8)), np.count_nonzero(share >= 7 / 8)
    return needed > _MANY and between > bright  # type: ignore[return-value]


def is_same(values: np.ndarray, image: np.ndarray) -> bool:
    """Return True if a picture is the image itself, maybe saved again: with its values, or many that match them."""
    if values.shape != image.shape:
        return False
    if np.array_equal(values, image):
        return bool((values != values.flat[0]).any())
    if len(np.unique(values)) <= 4 or not values.std() or not image.std():
        return False
    return bool(np.corrcoef(values.ravel(), image.ravel())[0, 1] > _ALIKE)
