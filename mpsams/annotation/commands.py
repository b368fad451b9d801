"""The commands that the canvas sends to an annotation session, and their validation.

A slice is named by a key, TOKEN.PLANE.INDEX. Axes: H x W pixels of a slice as shown.

Over 250 lines because each parameter of a command has a short function here that reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mpsams.annotation import protocol
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.structures import MAX_STRUCTURES, Structure
from mpsams.transforms import Box

COMMANDS = (
    "save",
    "scribble",
    "go",
    "copy",
    "propagate",
    "propagate_all",
    "interpolate",
    "undo_slices",
    "proposal",
    "prompt",
    "preview",
    "tidy",
    "accept",
    "skip",
    "reopen",
    "reopen_last",
    "window",
    "open",
    "previous",
    "take",
    "define",
)
# those that change or use the chosen structure
WITH_STRUCTURE = (
    "scribble",
    "copy",
    "propagate",
    "propagate_all",
    "interpolate",
    "proposal",
    "prompt",
    "preview",
    "tidy",
)
KEY = re.compile(r"([0-9a-f]{32})\.(axial|coronal|sagittal)\.(\d{1,6})")
LONGEST_KEY = 64  # characters, of an id too
LONGEST_DAY = 86400  # seconds of work that one command may report
TIDY = ("largest", "holes", "smooth")  # keep the largest part, fill holes, smooth the outline
MOST_POINTS = 200  # clicks of one prompt
MOST_SLICES = 20  # through which a mask is propagated at once
GONE = (
    "the app does not know this image any more: it was started again, or many others were opened since. Reload the page"
    " (Ctrl+R) and open it again"
)


@dataclass(frozen=True)
class SliceRef:
    """A reference to a slice of an open image."""

    image: OpenImage
    plane: str
    index: int

    @property
    def key(self) -> str:
        """Name of the slice on the page."""
        return f"{self.image.token}.{self.plane}.{self.index}"

    @property
    def slices(self) -> int:
        """Number of slices in this plane."""
        return len(self.image.case.scan.shown(self.plane))

    @property
    def mask_hw(self) -> np.ndarray:
        """The label map of the slice, a view into that of the image."""
        return self.image.mask(self.plane, self.index)


@dataclass(frozen=True)
class Command:
    """A validated command of the canvas.

    mask_hw: label map, drawn on the slice, None if it did not change. structure: label of the one that is chosen, which
    the action changes. seconds: worked since the last command. params: of the
    action.
    request_id: another for each attempt to send the command. id: the same for each attempt; "" from a page that sends
    none.
    """

    action: str
    slice_ref: SliceRef
    request_id: int
    mask_hw: np.ndarray | None
    seconds: float
    params: dict
    id: str = ""
    structure: int = 1


def reply_header(message: object) -> tuple[str, int]:
    """Return the key and request id of a message, which may be anything, for the reply."""
    key, request_id = (message.get("key"), message.get("request_id")) if isinstance(message, Mapping) else ("", 0)
    is_key = isinstance(key, str) and len(key) < LONGEST_KEY
    return key if is_key else "", request_id if _is_request_id(request_id) else 0  # type: ignore[return-value]


def parse_command(message: object, images: Mapping[str, OpenImage]) -> Command:
    """Return the command in a page's message. images: those in memory, by token. ValueError says what is allowed."""
    if not isinstance(message, Mapping):
        raise ValueError("the page sent nothing that can be understood")
    names = ("action", "key", "request_id", "changed", "seconds", "id")
    action, key, request_id, changed, seconds, id = (message.get(name, "") for name in names)
    if not isinstance(action, str) or action not in COMMANDS:
        raise ValueError(f"action {str(action)[:40]!r}; allowed are {', '.join(COMMANDS)}")
    if not _is_request_id(request_id) or not isinstance(changed, bool):
        raise ValueError("a command has a request_id, a whole number, and says with changed whether the mask changed")
    if type(seconds) not in (int, float) or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_DAY:
        raise ValueError(f"seconds {str(seconds)[:40]!r}; allowed are 0 to {LONGEST_DAY}")
    if not isinstance(id, str) or len(id) >= LONGEST_KEY:
        raise ValueError(f"id {str(id)[:40]!r}; allowed are texts of up to {LONGEST_KEY - 1} characters")
    slice_ref = _find_slice(key, images)
    shape_hw = slice_ref.mask_hw.shape
    mask_hw = protocol.unpack_labels(message.get("mask"), shape_hw)
    structure = _whole("structure", message.get("structure", 1), 1, MAX_STRUCTURES)
    parsers = _parameter_parsers(action, shape_hw)
    params = {name: parse(message[name]) for name, parse in parsers.items() if name in message}
    optional = {
        "go": {"step", "slice"} if params else set(),
        "accept": {"empty"},
        "propagate_all": {"resume"},
        "define": {"edited_from"},
    }.get(action, set())
    if missing := set(parsers) - set(params) - optional:
        raise ValueError(f"the command {action!r} lacks {', '.join(sorted(missing))}")
    return Command(action, slice_ref, request_id, mask_hw if changed else None, float(seconds), params, id, structure)


def _is_request_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _find_slice(key: object, images: Mapping[str, OpenImage]) -> SliceRef:
    """Return the slice that a key names. ValueError if its image is not open, or has no such slice."""
    match = KEY.fullmatch(key) if isinstance(key, str) else None
    image = images.get(match[1]) if match else None
    if match is None or image is None:
        raise ValueError(GONE)
    slice_ref = SliceRef(image, match[2], int(match[3]))
    if match[2] not in image.case.scan.planes or slice_ref.index >= slice_ref.slices or slice_ref.key != key:
        raise ValueError("there is no such slice of this image")
    return slice_ref


def _parameter_parsers(action: str, shape_hw: tuple[int, int]) -> dict[str, Callable]:
    """Return a function for each parameter of an action that returns its valid value, or raises ValueError."""

    def strokes(value: object) -> np.ndarray:
        return protocol.unpack(value, shape_hw)

    def step(value: object) -> int:
        return value if value == -1 and type(value) is int else _whole("step", value, 1, 1)

    prompt = {
        "box": lambda value: _box(value, shape_hw),
        "positive": lambda value: _points(value, shape_hw),
        "negative": lambda value: _points(value, shape_hw),
    }
    return {  # type: ignore[return-value]
        "prompt": prompt | {"base": lambda value: protocol.unpack_labels(value, shape_hw)},
        "preview": prompt,
        "tidy": {"how": _tidy},
        "scribble": {"lesion": strokes, "background": strokes},
        "go": {"step": step, "slice": lambda value: _whole("slice", value, 0, 10**6)},
        "copy": {"step": step},
        "propagate_all": {"resume": lambda value: _bool("resume", value)},
        "propagate": {"step": step, "count": lambda value: _whole("count", value, 1, MOST_SLICES)},
        "window": {"low": _finite, "high": _finite},
        "open": {"item": _item},
        "take": {"source": _source},
        "define": {"structures": _structures, "edited_from": _structures},
        "accept": {"empty": lambda value: _bool("empty", value)},
    }.get(action, {})


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(
            f"{name} {str(value)[:40]!r}; allowed are {'-1 and 1' if name == 'step' else f'{low} to {high}'}"
        )
    return value


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"window {str(value)[:40]!r}; allowed are finite numbers")
    return float(value)


def _bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} {str(value)[:40]!r}; allowed are true and false")
    return value


def _item(value: object) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError("an image of the project is named by its id")
    return value


def _source(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_KEY:
        raise ValueError("a mask is taken from a reader by name, or made of the readers' masks by a method")
    return value


def _structures(value: object) -> list[Structure]:
    if not isinstance(value, list) or len(value) > MAX_STRUCTURES or not all(isinstance(row, dict) for row in value):
        raise ValueError(f"structures are a list of 1 to {MAX_STRUCTURES} with label, name, colour and key")
    texts = [[row.get(name, "") for name in ("name", "colour", "key")] for row in value]
    if not all(isinstance(text, str) for row in texts for text in row):
        raise ValueError("name, colour and key of a structure are texts")
    labels = [_whole("label", row.get("label", 0), 0, MAX_STRUCTURES) for row in value]
    return [Structure(name, colour, key, label) for (name, colour, key), label in zip(texts, labels, strict=True)]


def _box(value: object, shape_hw: tuple[int, int]) -> Box | None:
    """Return a box of whole pixels [top, left, height, width], cut to the slice; None stays None."""
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 4
        or any(type(each) is not int or abs(each) > 10**6 for each in value)
        or min(value[2:]) < 1
    ):
        raise ValueError(f"box {str(value)[:60]}; allowed are top, left, height and width in whole pixels")
    top, left = (max(0, min(each, side - 1)) for each, side in zip(value[:2], shape_hw, strict=True))
    bottom, right = (
        max(1, min(start + length, side)) for start, length, side in zip(value[:2], value[2:], shape_hw, strict=True)
    )
    return Box(top, left, max(1, bottom - top), max(1, right - left))


def _points(value: object, shape_hw: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Return clicks [row, column] on the slice."""
    if not isinstance(value, list) or len(value) > MOST_POINTS:
        raise ValueError(f"clicks are a list of at most {MOST_POINTS} points")
    for point in value:
        is_pair = (
            isinstance(point, list)
            and len(point) == 2
            and all(type(each) in (int, float) and math.isfinite(each) for each in point)
        )
        if not is_pair or not all(0 <= each < side for each, side in zip(point, shape_hw, strict=True)):
            raise ValueError(
                f"click {str(point)[:60]}; allowed are rows and columns in the slice of {shape_hw[0]} x {shape_hw[1]}"
                " pixels"
            )
    return tuple((float(row), float(column)) for row, column in value)


def _tidy(value: object) -> str:
    if value not in TIDY:
        raise ValueError(f"how {str(value)[:40]!r}; allowed are {', '.join(TIDY)}")
    return value
