"""What the canvas may wish of the desk, and the checks that each wish goes through. No gradio here.

A sheet is named by a key, TOKEN.PLANE.INDEX. Axes: H x W pixels of a slice as shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mpsams.annotation import protocol
from mpsams.annotation.open_image import OpenImage
from mpsams.transforms import Box

COMMANDS = ("save", "scribble", "go", "copy", "propagate", "propagate_all", "proposal", "prompt", "preview", "tidy", "accept", "skip", "reopen", "window", "open")
KEY = re.compile(r"([0-9a-f]{32})\.(axial|coronal|sagittal)\.(\d{1,6})")
LONGEST_KEY = 64  # characters, of an id too
LONGEST_DAY = 86400  # seconds that one wish may tell of
TIDY = ("largest", "holes", "smooth")  # keep the largest part, fill holes, smooth the outline
MOST_POINTS = 200  # clicks of one prompt
MOST_SLICES = 20  # through which a mask is carried at once
GONE = "the app does not know this image any more: it was started again, or many others were opened since. Reload the page (Ctrl+R) and open it again"


@dataclass(frozen=True)
class SliceRef:
    """A slice of an image at the desk."""

    work: OpenImage
    plane: str
    index: int

    @property
    def key(self) -> str:
        return f"{self.work.token}.{self.plane}.{self.index}"

    @property
    def slices(self) -> int:
        return len(self.work.case.scan.shown(self.plane))

    @property
    def mask_hw(self) -> np.ndarray:
        """A view."""
        return self.work.mask(self.plane, self.index)


@dataclass(frozen=True)
class Command:
    """What the canvas wishes, checked. mask_hw: drawn on the place, None where nothing changed. more: what else it says.

    id: the same for every try of one wish; "" from a page that sends none.
    """

    do: str
    place: SliceRef
    turn: int
    mask_hw: np.ndarray | None
    seconds: float
    more: dict
    id: str = ""


def reply_header(said: object) -> tuple[str, int]:
    """Key and turn of a wish that may be anything, to be answered with."""
    key, turn = (said.get("key"), said.get("turn")) if isinstance(said, Mapping) else ("", 0)
    return key if isinstance(key, str) and len(key) < LONGEST_KEY else "", turn if type(turn) is int and 0 <= turn < 2**53 else 0


def parse_command(said: object, works: Mapping[str, OpenImage]) -> Command:
    """A wish of the page as we take it. works: the images at the desk, by token. ValueError says what is not allowed."""
    if not isinstance(said, Mapping):
        raise ValueError("the page sent nothing that can be understood")
    do, key, turn, changed, seconds, id = (said.get(name, "") for name in ("do", "key", "turn", "changed", "seconds", "id"))
    if not isinstance(do, str) or do not in COMMANDS:
        raise ValueError(f"wish {str(do)[:40]!r}; allowed are {', '.join(COMMANDS)}")
    if type(turn) is not int or not 0 <= turn < 2**53 or not isinstance(changed, bool):
        raise ValueError("a wish has a turn, a whole number, and says whether the mask changed")
    if type(seconds) not in (int, float) or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_DAY:
        raise ValueError(f"seconds {str(seconds)[:40]!r}; allowed are 0 to {LONGEST_DAY}")
    if not isinstance(id, str) or len(id) >= LONGEST_KEY:
        raise ValueError(f"id {str(id)[:40]!r}; allowed are texts of up to {LONGEST_KEY - 1} characters")
    place = _place(key, works)
    shape_hw = place.mask_hw.shape
    mask_hw = protocol.unpacked(said.get("mask"), shape_hw)
    more = {name: check(said[name]) for name, check in _more(do, shape_hw).items() if name in said}
    if missing := set(_more(do, shape_hw)) - set(more) - ({"step", "slice"} if do == "go" and more else set()):
        raise ValueError(f"the wish {do!r} lacks {', '.join(sorted(missing))}")
    return Command(do, place, turn, mask_hw if changed else None, float(seconds), more, id)


def _place(key: object, works: Mapping[str, OpenImage]) -> SliceRef:
    """The slice that a key names."""
    found = KEY.fullmatch(key) if isinstance(key, str) else None
    work = works.get(found[1]) if found else None
    if work is None:
        raise ValueError(GONE)
    place = SliceRef(work, found[2], int(found[3]))
    if found[2] not in work.case.scan.planes or place.index >= place.slices or place.key != key:
        raise ValueError("there is no such slice of this image")
    return place


def _more(do: str, shape_hw: tuple[int, int]) -> dict[str, Callable]:
    """What else a wish says, and how each of it is checked."""

    def strokes(value: object) -> np.ndarray:
        return protocol.unpacked(value, shape_hw)

    def step(value: object) -> int:
        return value if value == -1 and type(value) is int else _whole("step", value, 1, 1)

    prompt = {"box": lambda value: _box(value, shape_hw), "positive": lambda value: _points(value, shape_hw), "negative": lambda value: _points(value, shape_hw)}
    return {
        "prompt": prompt | {"base": strokes},
        "preview": prompt,
        "tidy": {"how": _tidy},
        "scribble": {"lesion": strokes, "background": strokes},
        "go": {"step": step, "slice": lambda value: _whole("slice", value, 0, 10**6)},
        "copy": {"step": step},
        "propagate": {"step": step, "count": lambda value: _whole("count", value, 1, MOST_SLICES)},
        "window": {"low": _finite, "high": _finite},
        "open": {"item": _item},
    }.get(do, {})


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} {str(value)[:40]!r}; allowed are {'-1 and 1' if name == 'step' else f'{low} to {high}'}")
    return value


def _finite(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"window {str(value)[:40]!r}; allowed are finite numbers")
    return float(value)


def _item(value: object) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError("an image of the project is named by its id")
    return value


def _box(value: object, shape_hw: tuple[int, int]) -> Box | None:
    """A box of whole pixels [top, left, height, width], cut to the slice; None stays None."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or any(type(each) is not int or abs(each) > 10**6 for each in value) or min(value[2:]) < 1:
        raise ValueError(f"box {str(value)[:60]}; allowed are top, left, height and width in whole pixels")
    top, left = (max(0, min(each, side - 1)) for each, side in zip(value[:2], shape_hw, strict=True))
    bottom, right = (max(1, min(start + length, side)) for start, length, side in zip(value[:2], value[2:], shape_hw, strict=True))
    return Box(top, left, max(1, bottom - top), max(1, right - left))


def _points(value: object, shape_hw: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Clicks [row, column] on the slice."""
    if not isinstance(value, list) or len(value) > MOST_POINTS:
        raise ValueError(f"clicks are a list of at most {MOST_POINTS} points")
    for point in value:
        is_pair = isinstance(point, list) and len(point) == 2 and all(type(each) in (int, float) and math.isfinite(each) for each in point)
        if not is_pair or not all(0 <= each < side for each, side in zip(point, shape_hw, strict=True)):
            raise ValueError(f"click {str(point)[:60]}; allowed are rows and columns in the slice of {shape_hw[0]} x {shape_hw[1]} pixels")
    return tuple((float(row), float(column)) for row, column in value)


def _tidy(value: object) -> str:
    if value not in TIDY:
        raise ValueError(f"how {str(value)[:40]!r}; allowed are {', '.join(TIDY)}")
    return value
