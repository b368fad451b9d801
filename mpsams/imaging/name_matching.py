"""Matching of file names to images: one rule for masks, for COCO's file names and for files in a zip."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

_ENDING = re.compile(r"(\.nii\.gz|\.(png|jpe?g|tiff?|bmp|gif|webp|nii|dcm|dicom|ima|zip|json))$", re.IGNORECASE)
_MARK = re.compile(r"[ ._-](mask|seg|segmentation|gt|labels?|annotation)([ _-]?\d{1,3})?$", re.IGNORECASE)
_MARK_ALONE = re.compile(r"(mask|seg|segmentation|gt|labels?|annotation)([ _-]?\d{1,3})?$", re.IGNORECASE)
# what an image's name has and its mask's has not: nnU-Net, BraTS
_IMAGE = re.compile(r"_(0000|image|img|t1|t1c|t1ce|t1n|t2|t2w|t2f|flair)$")


def stem(name: str) -> str:
    """Return a file's name without its ending; names that end otherwise are left as they are."""
    return _ENDING.sub("", name)


def is_marked(name: str) -> bool:
    """Return True if a file's name, its ending left out, says that it is a mask: a_mask, a_mask_1, a_seg, mask."""
    return bool(_MARK.search(name) or _MARK_ALONE.fullmatch(name))


def clean(name: str) -> str:
    """Return a name in which the same letters are the same characters, for macOS writes some as two."""
    return unicodedata.normalize("NFC", name)


class Names:
    """The names of images.

    A name is matched from the most to the least exact: as a file's whole name, the same in other capitals, without its
    ending, that in other capitals, and without what images have after their name, such as nnU-Net's _0000.
    """

    def __init__(self, known: Mapping[str, Iterable[str]]) -> None:
        """known: key of an image -> the names it has."""
        self._whole: tuple[dict[str, set[str]], ...] = ({}, {})
        self._stems: tuple[dict[str, set[str]], ...] = ({}, {}, {})
        for key, names in known.items():
            for name in map(clean, names):
                if stem(name) != name:
                    for table, form in zip(self._whole, (name, name.casefold()), strict=True):
                        table.setdefault(form, set()).add(key)
                for table, form in zip(self._stems, _forms(name), strict=True):
                    table.setdefault(form, set()).add(key)

    def of_image(self, name: str) -> tuple[set[str], int]:
        """Return the images that a file name means, and how exactly it does, 0 the best; several where unclear."""
        name = clean(name)
        looked = [(table, form) for table, form in zip(self._whole, (name, name.casefold()), strict=True)]
        looked += [(table, form) for table, form in zip(self._stems, _forms(name), strict=True)]
        return next(
            ((table[form], level) for level, (table, form) in enumerate(looked) if form in table), (set(), len(looked))
        )

    def of_mask(self, folders: tuple[str, ...], name: str) -> set[str]:
        """Return the images that a mask's file name may mean: its own stem, that without a mark, or its folder where it
        is called mask.
        """
        own = stem(name)
        found = self.of_image(own)[0] | self.of_image(_MARK.sub("", own))[0]
        return found or (self.of_image(folders[-1])[0] if folders and _MARK_ALONE.fullmatch(own) else set())


def _forms(name: str) -> tuple[str, str, str]:
    return stem(name), stem(name).casefold(), _IMAGE.sub("", stem(name).casefold())
