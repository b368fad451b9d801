"""The state of the Learn tab as one value, checked when it comes from a page or a link; links to it. No gradio here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from torch import Tensor

from mpsams import clusters, schedule
from mpsams.app.learn import lesson
from mpsams.app.learn.quiz import Quiz
from mpsams.inference.case import SIDE, Case
from mpsams.inference.registry import PATCH

STEPS = (
    "Cut",
    "Similarity",
    "Covariance",
    "Clusters",
    "Order",
    "Ratio",
    "Hide",
    "Reconstruct",
    "Compare",
    "Transfer",
    "Quiz",
)
WAYS = {"first": "Lesion first", "random": "At random", "own": "Your own"}
PATCHES = (SIDE // PATCH) ** 2
MAX_LENGTH = 400  # characters of a value in a link; the rest is cut off


@dataclass(frozen=True)
class LessonState:
    """The state of the Learn tab; never changed, only replaced.

    step: 1 to 11, the last is the quiz. epoch: on the paper's axis. patch: the selected one; None is the most
    lesion-like.
    swap: True if the other cluster is called lesion. rounds: of 2-means that are shown; None is all. way: of hiding
    patches, a key of ``WAYS``. own: the drawn mask as ``lesson.pack_mask``. present: True to fill the screen, for a
    projector. request: number of the page's last request that is answered.
    quiz: its rounds and score.
    """

    step: int = 1
    epoch: int = 100
    patch: int | None = None
    swap: bool = False
    rounds: int | None = None
    way: str = "first"
    own: str = ""
    present: bool = False
    request: int = 0
    quiz: Quiz = field(default_factory=Quiz)

    @cached_property
    def own_1l(self) -> Tensor:
        """The drawn mask, bool (1, L)."""
        return lesson.unpack_mask(self.own, PATCHES)

    def update(self, values: Mapping) -> LessonState:
        """Return the state with values from a page or a link; others stay.

        ValueError names the value and what is allowed.
        """
        last = PATCHES - 1
        checks: dict[str, Callable[[Any], Any]] = {
            "step": lambda value: parse_number("step", value, 1, len(STEPS)),
            "epoch": lambda value: parse_number("epoch", value, 1, schedule.HORIZON),
            "patch": lambda value: None if value is None else parse_number("patch", value, 0, last),
            "swap": lambda value: parse_flag("swap", value),
            "rounds": lambda value: None if value is None else parse_number("rounds", value, 0, clusters.ITERATIONS),
            "way": parse_way,
            "own": parse_mask,
            "present": lambda value: parse_flag("present", value),
            "request": lambda value: parse_number("request", value, 0, 10**9),
        }
        return replace(self, **{name: check(values[name]) for name, check in checks.items() if name in values})

    def to_page(self) -> dict:
        """Return the values that the page gets, and sends back with its next request."""
        return {name: getattr(self, name) for name in (*STATE_KEYS, "request")}


def parse_number(name: str, value: object, low: int, high: int) -> int:
    """Return a whole number from a page (an int) or a link (digits). ValueError where it is not in [low, high]."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} {str(value)[:80]!r}; allowed are {low} to {high}")
    return value


def parse_flag(name: str, value: object) -> bool:
    """Return True or False from a page (a bool) or a link (0 or 1). ValueError for any other value."""
    return bool(parse_number(name, int(value) if isinstance(value, bool) else value, 0, 1))


def parse_way(value: object) -> str:
    """Return a key of ``WAYS``. ValueError for any other value."""
    if not isinstance(value, str) or value not in WAYS:
        raise ValueError(f"way {str(value)[:80]!r}; allowed are {', '.join(WAYS)}")
    return value


def parse_mask(value: object) -> str:
    """Return a drawn mask in the one form that ``lesson.pack_mask`` writes. ValueError as ``lesson.unpack_mask``."""
    return lesson.pack_mask(lesson.unpack_mask(str(value), PATCHES)[0])


@dataclass(frozen=True)
class SliceLink:
    """The slice that a link names, as text; each value is checked where it is used.

    sample: a title as ``slug``. image: the id of an image of the project, instead of a sample. plane, slice: of a
    volume.
    selector, seed: of its clusters and its orders.
    """

    sample: str = ""
    plane: str = ""
    slice: str = ""
    selector: str = ""
    seed: str = "0"
    image: str = ""


DEFAULTS = LessonState()
STATE_KEYS = ("step", "epoch", "patch", "swap", "rounds", "way", "own", "present")
SLICE_KEYS = tuple(one.name for one in fields(SliceLink))
OLD_KEYS = {"reading": "selector"}  # names in links of version 1.0


def slug(title: str) -> str:
    """Return a title as it is written in a link: small letters and digits with hyphens between."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def make_link(state: LessonState, case: Case) -> str:
    """Return the query of a link to this state; ``case`` must be a sample.

    Values equal to the defaults are left out.
    """
    query = {"sample": slug(case.title), "step": state.step}
    query |= {"plane": case.plane, "slice": case.index + 1} if case.is_volume else {}
    query |= {"selector": case.selector, "seed": case.seed}
    for name in STATE_KEYS:
        value = getattr(state, name)
        if name != "step" and value != getattr(DEFAULTS, name):
            query[name] = int(value) if isinstance(value, bool) else value
    return urlencode(query)
