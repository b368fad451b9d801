"""The messages between the annotation session and the drawing canvas in the browser.

Masks travel as COCO's run lengths in decimal numbers with spaces between, label maps as the masks of their structures
from 1 on with "|" between; slices as PNG with 16-bit values, the high
byte in red and the low one in green, so that the browser can window them without asking.

Axes: H x W pixels.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from mpsams.annotation import label_maps, run_lengths
from mpsams.annotation.structures import MAX_STRUCTURES

TOP = 65535  # the largest value of 16 bits
STATUSES = ("", "new", "proposed", "in work", "accepted", "skipped")


@dataclass(frozen=True)
class State:
    """The state that the page shows around a slice. status: "" without a project. slice: number of the slice, from 0.

    can_reopen_last: True if undo may take back the last accept or skip. voxels_elsewhere: outlined on the other slices.
    slices_to_undo: changed by the last command on several slices. propagating: True while an object is being followed
    through the volume, and the page may ask for more. structures: of the project, each with its label,
    name, colour, key and the voxels of it on the other slices. can_define: True if they may be changed here.
    free_keys: those that structures may have.
    """

    status: str = ""
    slice: int = 0
    slices: int = 1
    queue_left: int = 0
    proposal: bool = False
    user: str = ""
    prompts: bool = False
    can_reopen_last: bool = False
    voxels_elsewhere: int = 0
    slices_to_undo: int = 0
    propagating: bool = False
    structures: Sequence[Mapping[str, object]] = ()
    can_define: bool = False
    free_keys: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r}; allowed are {', '.join(map(repr, STATUSES))}")
        if not 0 <= self.slice < self.slices:
            raise ValueError(f"slice {self.slice} of {self.slices} does not exist; they are counted from 0")


@dataclass(frozen=True, eq=False)
class Reply:
    """A reply to a request about the slice ``key``.

    saved: "disk", "memory" (for as long as the tab is open) or "". message, error: sentences for the user. mask_hw:
    replaces the mask on the canvas. preview_hw: is only shown, while a box is drawn. slice_view: another slice to show.
    ValueError for another ``saved``.
    """

    request_id: int
    key: str
    state: State
    saved: str = ""
    message: str = ""
    error: str = ""
    mask_hw: np.ndarray | None = None
    preview_hw: np.ndarray | None = None
    slice_view: dict | None = None

    def __post_init__(self) -> None:
        if self.saved not in ("", "memory", "disk"):
            raise ValueError(f"saved {self.saved!r}; allowed are '', 'memory' and 'disk'")

    def encode(self) -> str:
        """Return the reply as JSON, the value of the canvas component."""
        parts = {
            "request_id": self.request_id,
            "key": self.key,
            "state": asdict(self.state),
            "saved": self.saved,
            "message": self.message,
            "error": self.error,
            "mask": _pack_optional(self.mask_hw),
            "preview": _pack_optional(self.preview_hw),
            "slice_view": self.slice_view,
        }
        return json.dumps(parts, allow_nan=False)


def update_reply(reply: str, request_id: int, saved: str) -> str:
    """Return an earlier reply for a later request. saved: replaces what the reply says unless it is ""."""
    earlier = json.loads(reply)
    return json.dumps(earlier | {"request_id": request_id, "saved": saved or earlier["saved"]})


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice to draw on.

    values_hw: finite numbers (H, W). mask_hw, proposal_hw, truth_hw: (H, W), label maps or bool, drawn, proposed by the
    model, and true. window: the values shown black and white; None stands for the least and the largest. aspect: height
    of a pixel over its width. unit: of the values, "HU" or "". pixel_mm2, voxel_mm3: the area of a pixel and the
    volume of a voxel, None in pixel space. readers: name, class and mask (H, W) of each other reader. merges: methods
    that may make one mask of theirs.

    Raises ValueError for masks of another shape, or an aspect that is not positive.
    """

    key: str
    title: str
    values_hw: np.ndarray
    mask_hw: np.ndarray
    proposal_hw: np.ndarray | None = None
    truth_hw: np.ndarray | None = None
    window: tuple[float, float] | None = None
    aspect: float = 1.0
    unit: str = ""
    pixel_mm2: float | None = None
    voxel_mm3: float | None = None
    readers: Sequence[tuple[str, str, np.ndarray]] = ()
    merges: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, other_hw in (
            ("mask", self.mask_hw),
            ("proposal", self.proposal_hw),
            ("truth", self.truth_hw),
            *((f"mask of {name}", reader_hw) for name, _, reader_hw in self.readers),
        ):
            if other_hw is not None and other_hw.shape != self.values_hw.shape:
                raise ValueError(f"the {name} has the shape {other_hw.shape}; the image has {self.values_hw.shape}")
        if not (np.isfinite(self.aspect) and self.aspect > 0):
            raise ValueError(f"aspect {self.aspect}; it must be positive")

    def encode(self) -> dict:
        """Return the slice as the browser reads it. ValueError for values that are not finite."""
        uri, low, high = encode_picture(self.values_hw)
        black, white = (low, high) if self.window is None else self.window
        return {
            "key": self.key,
            "title": self.title,
            "width": int(self.values_hw.shape[1]),
            "height": int(self.values_hw.shape[0]),
            "aspect": float(self.aspect),
            "picture": uri,
            "low": low,
            "high": high,
            "window": [float(black), float(white)],
            "mask": pack_labels(self.mask_hw),
            "proposal": _pack_optional(self.proposal_hw),
            "truth": _pack_optional(self.truth_hw),
            "readers": [
                {"name": name, "image_class": image_class, "mask": pack_labels(reader_hw)}
                for name, image_class, reader_hw in self.readers
            ],
            "merges": list(self.merges),
            "unit": self.unit,
            "pixel_mm2": self.pixel_mm2,
            "voxel_mm3": self.voxel_mm3,
        }


def encode_picture(values_hw: np.ndarray) -> tuple[str, float, float]:
    """Return finite numbers (H, W) as the data URI of a PNG of 16 bits, and the values that 0 and 65535 stand for.

    Whole numbers that span at most 65535 come back exactly when rounded. ValueError for no pixel or what is not finite.
    """
    if values_hw.ndim != 2 or not values_hw.size:
        raise ValueError(f"an image has rows and columns; this has the shape {values_hw.shape}")
    low, high = float(values_hw.min()), float(values_hw.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"the values reach from {low} to {high}; allowed are finite ones")
    codes_hw = np.zeros(values_hw.shape, np.uint16)
    if high > low:
        codes_hw = np.rint((values_hw.astype(np.float64) - low) * (TOP / (high - low))).astype(np.uint16)
    rgb_hwc = np.zeros((*values_hw.shape, 3), np.uint8)
    rgb_hwc[..., 0], rgb_hwc[..., 1] = codes_hw >> 8, codes_hw & 0xFF
    written = io.BytesIO()
    Image.fromarray(rgb_hwc).save(written, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii"), low, high


def pack(mask_hw: np.ndarray) -> str:
    """Return a bool (H, W) mask as COCO's run lengths: decimal numbers, background first, down the columns."""
    return " ".join(map(str, run_lengths.encode(np.asarray(mask_hw, bool)).tolist()))


def pack_labels(map_hw: np.ndarray) -> str:
    """Return a label map (H, W), or a bool mask, as the run lengths of its structures, from 1 to the largest label."""
    largest = max(1, label_maps.largest_label(map_hw.view(np.uint8)))
    return "|".join(pack(map_hw == label) for label in range(1, largest + 1))


def unpack_labels(text: object, shape_hw: tuple[int, int]) -> np.ndarray:
    """Return the label map, uint8 (H, W), of a text that ``pack_labels`` made. ValueError for anything else."""
    parts = text.split("|", MAX_STRUCTURES) if isinstance(text, str) else [text]
    map_hw = np.zeros(shape_hw, np.uint8)
    for label, part in enumerate(parts, start=1):
        mask_hw = unpack(part, shape_hw)
        if map_hw[mask_hw].any():
            raise ValueError("a pixel has two structures; allowed is one")
        map_hw[mask_hw] = label
    if len(parts) > max(1, label_maps.largest_label(map_hw)):
        raise ValueError("the last structure is empty; allowed are texts up to the largest label")
    return map_hw


def _pack_optional(mask_hw: np.ndarray | None) -> str | None:
    return None if mask_hw is None else pack_labels(mask_hw)


def unpack(text: object, shape_hw: tuple[int, int]) -> np.ndarray:
    """Return the bool (H, W) mask of a text that ``pack`` made. ValueError for anything else.

    Only the first run may be 0, so that a mask has one text.
    """
    size = shape_hw[0] * shape_hw[1]
    digits = len(str(size))
    wrong = (
        f"these are no run lengths of a mask of {shape_hw[0]} x {shape_hw[1]} pixels; allowed are whole numbers that"
        " fill it"
    )
    if not isinstance(text, str) or not 0 < len(text) <= (digits + 1) * (size + 1) or not text.isascii():
        raise ValueError(wrong)
    words = text.split(" ")
    if not all(word.isdigit() and len(word) <= digits for word in words):
        raise ValueError(wrong)
    counts = np.array(words, np.int64)
    if len(counts) > size + 1 or (counts[1:] == 0).any() or counts.sum() != size:
        raise ValueError(wrong)
    return run_lengths.decode(counts, shape_hw)
