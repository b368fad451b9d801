"""Masks as COCO's run lengths and polygons, and back, in plain numpy.

COCO counts pixels down the columns, first a run of background, then one of lesion, and so on. Compressed, each run from
the fourth on is a difference to the last but one, written in groups of five bits from the lowest, as characters from
"0" on.
Source: T.-Y. Lin et al., Microsoft COCO, ECCV 2014, and the COCO API's format.

Axes: H x W pixels.
"""

from __future__ import annotations

import numpy as np

from mpsams.imaging import UnreadableImage

_DIGITS = 9  # groups of five bits of a run: more than any image needs, and no overflow
_FIRST, _MORE = 48, 0x20
_MOST = 2**20  # rows that the edges of a polygon may cross in all
_WRONG = "The runs of a mask do not fill its image; allowed are COCO run lengths whose sum is height × width."


def encode(mask_hw: np.ndarray) -> np.ndarray:
    """Return the run lengths of a bool (H, W) mask: int64, background first, maybe 0 of it."""
    flat = mask_hw.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return np.concatenate([[0], counts]) if flat.size and flat[0] else counts


def decode(counts: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Return the bool (H, W) mask of run lengths. UnreadableImage unless they are not negative and fill it."""
    size = shape_hw[0] * shape_hw[1]
    if len(counts) > size + 1 or (len(counts) and (counts.min() < 0 or counts.max() > size)) or counts.sum() != size:
        raise UnreadableImage(_WRONG)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape_hw, order="F")


def compress(counts: np.ndarray) -> str:
    """Return run lengths as COCO's compressed string."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    digits, written, going = [], [], np.ones(len(rest), bool)
    while going.any():
        low = rest & 0x1F
        rest = rest >> 5
        written.append(going)
        going = going & (rest != np.where(low & 0x10, -1, 0))
        digits.append(low + _MORE * going + _FIRST)
    characters = np.stack(digits, 1)[np.stack(written, 1)]
    return characters.astype(np.uint8).tobytes().decode("ascii")


def decompress(text: str) -> np.ndarray:
    """Return the run lengths, int64, of COCO's compressed string. UnreadableImage for what is none."""
    try:
        groups = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        raise UnreadableImage(_WRONG) from None
    if not len(groups):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(groups & _MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (
        groups.min() < 0
        or groups.max() >= 64
        or not len(ends)
        or ends[-1] != len(groups) - 1
        or (ends - starts).max() >= _DIGITS
    ):
        raise UnreadableImage(_WRONG)
    places = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    counts = np.add.reduceat((groups & 0x1F) << (5 * places), starts)
    counts -= np.where(groups[ends] & 0x10, 1 << (5 * (ends - starts + 1)), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def box(mask_hw: np.ndarray) -> list[int]:
    """Return left, top, width and height of the True pixels; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def polygon_cost(corners_n2: np.ndarray, shape_hw: tuple[int, int]) -> int:
    """Return about how much work ``polygon`` has: 1 for a filled pixel, far more for a row that an edge crosses."""
    low, high = _rows_of(corners_n2[:, 1], shape_hw[0])
    left, right = _columns_of(corners_n2[:, 0], shape_hw[1])
    return shape_hw[0] * shape_hw[1] + 8 * int(high.max() - low.min()) * (right - left) + 512 * int((high - low).sum())


def polygon(corners_n2: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Return the bool (H, W) mask of the pixels whose centres lie in a polygon of (x, y) corners, by the even-odd rule.

    A pixel's centre is half a pixel from its edges: the polygon (0, 0), (2, 0), (2, 1), (0, 1) holds two pixels.
    UnreadableImage where edges go up and down far more than an outline does.
    """
    low, high = _rows_of(corners_n2[:, 1], shape_hw[0])
    left, right = _columns_of(corners_n2[:, 0], shape_hw[1])
    top, bottom = int(low.min()), int(high.max())
    if (high - low).sum() > _MOST:
        raise UnreadableImage("A polygon has far more edges than an outline needs; allowed is one around a lesion.")
    edge = np.repeat(np.arange(len(low)), high - low)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
    (x0, y0), (x1, y1) = corners_n2[edge].T, np.roll(corners_n2, -1, axis=0)[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
    height, width = bottom - top, right - left
    crossed = np.bincount((row - top) * (width + 1) + column - left, minlength=height * (width + 1))
    odd = (crossed & 1).astype(np.uint8).reshape(height, width + 1)
    mask_hw = np.zeros(shape_hw, bool)
    mask_hw[top:bottom, left:right] = np.bitwise_xor.accumulate(odd, axis=1)[:, :-1]
    return mask_hw


def _columns_of(x_n: np.ndarray, width: int) -> tuple[int, int]:
    """Return the first column that a polygon can fill, and one beyond the last."""
    left, right = np.clip([np.floor(x_n.min()), np.ceil(x_n.max())], 0, width)
    return int(left), int(right)


def _rows_of(y_n: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each corner's edge to the next the first row whose centre it crosses, and one beyond the last."""
    after = np.roll(y_n, -1)
    ends = (
        np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (np.minimum(y_n, after), np.maximum(y_n, after))
    )
    low, high = ends
    return low, high
