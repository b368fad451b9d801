"""Colours of a mask's picture to one channel that is 0 on the background, for ``mask_values``.

Axes: H x W pixels, C colours red, green and blue.
"""

from __future__ import annotations

import numpy as np

from . import UnreadableImage
from .mask_values import SMALL, VOID

_GREY = 24  # by which the colours of a grey pixel may differ, as JPEG makes them
_DARK = 16  # up to which a colour is black
_NEAR = 32  # up to which two colours are one, as JPEG makes them
_VOC_VOID = (224, 224, 192)  # of the palette of PASCAL VOC
_ALLOWED = "allowed are black as background, or one colour that fills most of the picture's border"
_NO_LABEL = "The colour of index 255 was taken as not labelled, so not as lesion."


def channel(rgb_hwc: np.ndarray, index_hw: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the distance of each pixel of a colour picture from the background: uint8 (H, W), and sentences on how it
    was found.

    rgb_hwc: uint8. index_hw: the numbers of the colours in a palette, else None. Grey pictures give their brightness,
    those with black the largest of the three colours, and those without black, as RGB of one-hot channels, the distance
    to the colour of the border. Raises UnreadableImage where there is neither black nor one colour on the border.
    """
    low_hw, high_hw = rgb_hwc.min(2), rgb_hwc.max(2)
    if (
        np.count_nonzero(high_hw - low_hw > _GREY) <= 0.001 * high_hw.size
        and (high_hw - low_hw).max(initial=0) <= 4 * _GREY
    ):
        return rgb_hwc.mean(2).round().astype(np.uint8), ()
    found_hw, notes = _unlabelled_pixels(rgb_hwc, index_hw)
    dark = np.count_nonzero(high_hw <= _DARK)
    if dark >= 0.01 * high_hw.size or (dark and len(np.unique(rgb_hwc.reshape(-1, 3), axis=0)) <= SMALL):
        return np.where(found_hw, 0, high_hw).astype(np.uint8), notes
    border_nc = np.concatenate([rgb_hwc[0], rgb_hwc[-1], rgb_hwc[:, 0], rgb_hwc[:, -1]])
    ground_c = np.median(border_nc, axis=0).round().astype(int)
    if (np.abs(border_nc - ground_c).max(1) <= _NEAR).mean() < 0.75:
        raise UnreadableImage(f"It cannot be told which colour of this mask is its background; {_ALLOWED}.")
    far_hw = np.abs(rgb_hwc.astype(int) - ground_c).max(2)
    far_hw[found_hw | (far_hw <= _NEAR)] = 0
    red, green, blue = ground_c
    ground = (
        f"The mask has no black; the colour of its border (red {red}, green {green}, blue {blue}) was taken as"
        " background."
    )
    return far_hw.astype(np.uint8), (*notes, ground)


def are_labels(rgb_hwc: np.ndarray, index_hw: np.ndarray) -> bool:
    """Return True if the numbers of a palette's colours are labels: 0 is black, and the others, up to ``SMALL``, have
    colours and fill areas. 255 may be beside them on fewer pixels, for what is not labelled.

    rgb_hwc: uint8. index_hw: the numbers.
    """
    used, counts = np.unique(index_hw, return_counts=True)
    labels = used[(used > 0) & (used != VOID)]
    if used[0] > 0 or not len(labels) or labels[-1] > SMALL:
        return False
    first_nc = rgb_hwc.reshape(-1, 3)[np.unique(index_hw, return_index=True)[1]].astype(int)
    colours_nc = first_nc[np.isin(used, labels)]
    is_coloured = bool((np.ptp(colours_nc, axis=1) > _GREY).any() and (colours_nc.max(1) > _DARK).all())
    unlabelled = int(counts[used == VOID].sum())
    labelled = index_hw.size - int(counts[0]) - unlabelled
    if not is_coloured or first_nc[0].max() > _DARK or unlabelled >= labelled:
        return False
    inner_hw = index_hw[1:-1, 1:-1]
    neighbours = (index_hw[:-2, 1:-1], index_hw[2:, 1:-1], index_hw[1:-1, :-2], index_hw[1:-1, 2:])
    filling = np.unique(inner_hw[np.logical_and.reduce([inner_hw == each for each in neighbours])])
    return bool(2 * np.isin(labels, filling).sum() > len(labels))


def _unlabelled_pixels(rgb_hwc: np.ndarray, index_hw: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the pixels that a palette marks as "not labelled": in VOC's colour for it, or as index 255 beside fewer
    small ones: bool (H, W).
    """
    none_hw = np.zeros(rgb_hwc.shape[:2], bool)
    if index_hw is None:
        found_hw = (rgb_hwc == _VOC_VOID).all(2)
        return (
            (found_hw, (_NO_LABEL.replace("index 255", "PASCAL VOC's borders"),)) if found_hw.any() else (none_hw, ())
        )
    found_hw, used = index_hw == VOID, np.unique(index_hw)
    others = used[used != VOID]
    labelled = np.count_nonzero((index_hw > 0) & ~found_hw)
    voc = found_hw.any() and bool((rgb_hwc[found_hw] == _VOC_VOID).all())
    beside = bool((others <= SMALL).all()) and labelled > np.count_nonzero(found_hw) > 0
    return (found_hw, (_NO_LABEL,)) if voc or beside else (none_hw, ())
