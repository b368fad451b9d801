"""The meaning of a mask's values: the one rule by which read values become a lesion mask, wherever a mask is read.

Axes: X, Y, Z as stored, C channels. Values are scaled; those that are missing or not finite count as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import Scan, UnreadableImage
from .mask_levels import TINY, Levels, levels_of, planes

SMALL = 32  # up to which values are labels or shares of 1, never brightness
VOID = 255  # the label of what is not labelled, as in PASCAL VOC

_NO_ZERO = (
    "No pixel of the mask is 0, so all of it is lesion. If its lowest label is background, make it 0 and read it again."
)
_ALLOWED = "allowed are labels with 0 as background, shares from 0 to 1, or brightness with black as background"
_CHANNELS = (
    "allowed is one channel, or one for the background and one for each kind of lesion, exactly one of them set"
    " everywhere"
)
_INVERTED = (
    "The mask marks most of the image and of its border as lesion. If lesion is dark on white, invert it and read it"
    " again."
)
_SHARES = "The mask was taken as shares of 1; above one half is lesion."
_NONE = "None of the mask's values is above one half (the highest is {:.3g}), so nothing is lesion."
_SOFT = "The mask has soft edges; above half of its highest value, {:g}, is lesion."
_ALL_LESION = "every label above 0 is lesion."
JOINED = "The mask holds {} labels; " + _ALL_LESION
_IMAGE = "Most of the mask's values lie between its lowest and its highest, as in an image rather than a mask."


@dataclass(frozen=True)
class LesionMask:
    """A lesion mask, bool (X, Y, Z), or (H, W) of a picture, and sentences on how its values were taken.

    labels: the same as label map, uint8, where its values are labels up to ``SMALL``; else None.
    """

    lesion: np.ndarray = field(repr=False)
    notes: tuple[str, ...] = ()
    labels: np.ndarray | None = field(default=None, repr=False)

    @property
    def notes_on_labels(self) -> tuple[str, ...]:
        """The notes for those who read the labels: without the one that says that all of them are lesion."""
        return tuple(note for note in self.notes if not note.endswith(_ALL_LESION))


@dataclass(frozen=True)
class Codes:
    """The codes in a data set's masks: those that are lesion, and all that are allowed."""

    lesion: tuple[int, ...]
    known: tuple[int, ...]


class UnknownCodes(UnreadableImage):
    """A mask with other numbers than its data set's; the message goes on from the file's name."""


def lesion(channels: Sequence[Scan], codes: Codes | None = None) -> LesionMask:
    """Return the lesion mask, bool (X, Y, Z) in the voxels' memory order, that the channels of a file stand for.

    channels: one Scan each, all of one shape. codes: those of a data set that states its labels; None is the general
    rule:

      labels (up to 4 values, whole numbers up to 32, or more that fill areas)    every label above 0 is lesion
      255 beside labels up to 32, on fewer pixels than these                      not labelled, so not lesion
      shares of 1, and labels that were interpolated (up to 32)                   above one half is lesion
      brightness with soft edges (any higher values)                              above half of the highest is lesion
      several channels                                                            one-hot: all but background is lesion

    Values below 0 are background. What cannot be known is said in the notes; a mask is never inverted.
    Raises UnreadableImage for several channels that are not one-hot and for values that are no mask's, and
    UnknownCodes.
    """
    if len(channels) > 1:
        if codes is not None:
            several = f"The mask holds {len(channels)} volumes or channels"
            raise UnreadableImage(f"{several}; allowed is one, with the codes {sorted(codes.known)}.")
        return _one_hot(channels)
    (channel,) = channels
    levels = levels_of(channel)
    if codes is not None:
        return _from_codes(channel, levels, codes)
    _refuse_negative(levels)
    above, notes = _threshold(channel, levels)
    below = np.inf
    if _has_void(levels):
        below = VOID
        notes = (*notes, f"{VOID} in the mask was taken as not labelled, so not as lesion.")
    mask_xyz, highest = channel.empty_mask(), levels.values[levels.values < below].max(initial=0)
    has_labels = levels.whole and not levels.many and highest <= SMALL
    map_xyz = channel.empty_mask().view(np.uint8) if has_labels else None
    for z, values in planes(channel):
        mask_xyz[:, :, z] = (values > above) & (values < below)
        if map_xyz is not None:
            map_xyz[:, :, z] = np.where(mask_xyz[:, :, z], np.rint(values), 0)
    return LesionMask(mask_xyz, notes + is_inverted(mask_xyz), map_xyz)


def is_inverted(mask_xyz: np.ndarray) -> tuple[str, ...]:
    """Return a note where lesion fills over half of a mask and three quarters of its slices' borders, but not all."""
    return (_INVERTED,) * (_fills(mask_xyz) and not mask_xyz.all())


def _threshold(channel: Scan, levels: Levels) -> tuple[float, tuple[str, ...]]:
    """Return the value above which is lesion, and how the values were taken."""
    high = levels.high
    if high <= TINY:
        return TINY, ("No value in the mask is above 0, so nothing is lesion.",) * (levels.low < 0)
    if high <= SMALL and not (levels.few and high <= 0.5):
        if levels.whole:
            return 0.5, _labels(levels) + (_NO_ZERO,) * (levels.low > 0 and len(levels.values) > 1)
        if high > 1.5:
            return 0.5, ("The mask holds values between its labels, as after interpolation; above 0.5 is lesion.",)
        return 0.5, (_SHARES, *(_NONE.format(high),) * (high <= 0.5))
    if levels.few:
        darkest = levels.low if levels.low > 0 and len(levels.values) > 1 else TINY
        ground = (f"No pixel of the mask is 0; its lowest value, {darkest:g}, was taken as background.",) * (
            darkest > TINY
        )
        return max(darkest, TINY), ground + (_labels(levels) if levels.whole else ())
    areas, is_image = _between(channel, high)
    counted = not levels.many and VOID < high == len(levels.values) - 1  # 0, 1, 2 and so on, as objects are numbered
    if _has_void(levels) or (levels.whole and (areas or counted)):
        return 0.5, _labels(levels)
    return high / 2, (_SOFT.format(high), *(_IMAGE,) * is_image)


def _labels(levels: Levels) -> tuple[str, ...]:
    """Return a note where there are several labels, for it might be that not all of them are lesions."""
    several = int((levels.values > 0).sum())
    count = "many" if levels.many else several
    return (JOINED.format(count),) * (several > 1)


def _refuse_negative(levels: Levels) -> None:
    """Refuse negative values except of few labels, of small whole numbers, and of soft edges that overshoot."""
    labels = levels.few or (levels.whole and max(-levels.low, levels.high) <= SMALL)
    if not labels and levels.high > TINY and levels.low < -0.25 * levels.high:
        values = f"values from {levels.low:.4g} to {levels.high:.4g}"
        raise UnreadableImage(f"The mask holds {values}, which are no mask's; {_ALLOWED}.")


def _has_void(levels: Levels) -> bool:
    """Return True if 255 stands for "not labelled": on fewer pixels than small labels; a lesion of 255 is larger than
    stray pixels.
    """
    if levels.many or not levels.whole or levels.high != VOID:
        return False
    others, counts = levels.values[:-1], levels.counts[:-1]
    labelled = int(counts[others > 0].sum())
    return bool((others <= SMALL).all()) and labelled > levels.counts[-1]


def _between(channel: Scan, high: float) -> tuple[bool, bool]:
    """Return two bools: values between 10% and 90% of the highest fill areas; they are most of the values above 10%.

    Labels fill areas, soft edges change from pixel to pixel; an image has more between than a mask's edges have.
    """
    inner = between = above = 0
    for _, values in planes(channel):
        middle = (values > 0.1 * high) & (values < 0.9 * high)
        above += int(np.count_nonzero(values > 0.1 * high))
        if middle.any():
            across, down = values[1:] == values[:-1], values[:, 1:] == values[:, :-1]
            alike = across[1:, 1:-1] & across[:-1, 1:-1] & down[1:-1, 1:] & down[1:-1, :-1]
            inner += int(np.count_nonzero(alike & middle[1:-1, 1:-1]))
            between += int(np.count_nonzero(middle))
    return bool(inner > 0.1 * between), bool(2 * between > above)


def _from_codes(channel: Scan, levels: Levels, codes: Codes) -> LesionMask:
    """Return the lesion by a data set's own codes; shares of 1 are cut at one half where 1 is a lesion."""
    soft = not levels.whole and levels.low >= -0.5 and levels.high <= 1.5 and 1 in codes.lesion
    found = np.rint(levels.values) if levels.whole else levels.values
    strange = sorted({float(value) for value in found} - set(codes.known))
    if strange and not soft:
        raise UnknownCodes(
            f"holds the codes {[round(value, 4) for value in strange[:5]]}; expected only {sorted(codes.known)}"
        )
    mask_xyz = channel.empty_mask()
    for z, values in planes(channel):
        mask_xyz[:, :, z] = values > 0.5 if soft else np.isin(np.rint(values), codes.lesion)
    return LesionMask(mask_xyz, (_SHARES,) * soft)


def _one_hot(channels: Sequence[Scan]) -> LesionMask:
    """Return all but the background, which is the one channel that fills most of the image and of its border."""
    levels = [levels_of(channel) for channel in channels]
    high, low = max(level.high for level in levels), min(level.low for level in levels)
    refusal = UnreadableImage(
        f"The mask holds {len(channels)} volumes or channels, and it cannot be told what is lesion; {_CHANNELS}."
    )
    full = 1.0 if high <= 1.5 else high
    if low < -0.01 * full or high <= TINY:
        raise refusal
    inside, on_edges, edges = np.zeros(len(channels), np.int64), np.zeros(len(channels), np.int64), 0
    for each in zip(*map(planes, channels), strict=True):
        values_cxy = np.stack([values for _, values in each])
        if np.abs(values_cxy.sum(0) - full).max() > 0.02 * full:
            raise refusal
        set_cxy = values_cxy > full / 2
        inside += set_cxy.sum((1, 2))
        on_edges += set_cxy[:, [0, -1], :].sum((1, 2)) + set_cxy[:, :, [0, -1]].sum((1, 2))
        edges += 2 * sum(values_cxy.shape[1:])
    grounds = np.flatnonzero((2 * inside > channels[0].voxels_xyz.size) & (4 * on_edges > 3 * edges))
    if len(grounds) != 1:
        raise refusal
    ground, mask_xyz = int(grounds[0]), channels[0].empty_mask()
    for z, values in planes(channels[ground]):
        mask_xyz[:, :, z] = values <= full / 2
    words = (
        f"The mask is one-hot: channel {ground + 1} of {len(channels)} was taken as background and all others as"
        " lesion."
    )
    return LesionMask(mask_xyz, (words,))


def _fills(mask_xyz: np.ndarray) -> bool:
    """Return True if a mask is set in over half of the voxels and on over three quarters of the slices' edges."""
    if 2 * np.count_nonzero(mask_xyz) <= mask_xyz.size:
        return False
    edges = [mask_xyz[[0, -1], :, :], mask_xyz[:, [0, -1], :]]
    return bool(4 * sum(map(np.count_nonzero, edges)) > 3 * sum(edge.size for edge in edges))
