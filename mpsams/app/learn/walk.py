"""Where someone stands in the walk of the Learn tab, as one value; checked when it comes from a page or a link. No gradio here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from urllib.parse import urlencode

from torch import Tensor

from mpsams import clusters, schedule
from mpsams.app.learn import lesson
from mpsams.app.learn.quiz import Quiz
from mpsams.inference.case import SIDE, Case
from mpsams.inference.registry import CLUSTERING

STEPS = ("Cut", "Similarity", "Covariance", "Clusters", "Order", "Ratio", "Hide", "Reconstruct", "Compare", "Transfer", "Quiz")
WAYS = {"first": "Lesion first", "random": "At random", "own": "Your own"}
PATCHES = (SIDE // CLUSTERING["patch"]) ** 2
LONGEST = 400  # letters of a link that are looked at


@dataclass(frozen=True)
class Walk:
    """One state of the walk; never changed, only replaced.

    step: 1 to 11, the last is the quiz. epoch: of the paper's axis. patch: the one that is asked about; None is the
    most lesion-like. swap: whether the other cluster is called lesion. rounds: of 2-means that are shown; None is
    all. way: how patches are hidden. own: the drawn mask as ``lesson.packed``. turn: the page's last wish that is
    answered. told: a sentence about the link. quiz: its rounds and score.
    """

    step: int = 1
    epoch: int = 100
    patch: int | None = None
    swap: bool = False
    rounds: int | None = None
    way: str = "first"
    own: str = ""
    turn: int = 0
    told: str = ""
    quiz: Quiz = field(default_factory=Quiz)

    @cached_property
    def own_1l(self) -> Tensor:
        """The drawn mask."""
        return lesson.unpacked(self.own, PATCHES)

    def wished(self, wish: Mapping) -> Walk:
        """The walk as the page or a link wishes it; what is not named stays. ValueError names what is not allowed."""
        last = PATCHES - 1
        checks = {
            "step": lambda value: number("step", value, 1, len(STEPS)),
            "epoch": lambda value: number("epoch", value, 1, schedule.HORIZON),
            "patch": lambda value: None if value is None else number("patch", value, 0, last),
            "swap": lambda value: bool(number("swap", int(value) if isinstance(value, bool) else value, 0, 1)),
            "rounds": lambda value: None if value is None else number("rounds", value, 0, clusters.ITERATIONS),
            "way": way,
            "own": own,
            "turn": lambda value: number("turn", value, 0, 10**9),
        }
        return replace(self, told="", **{name: check(wish[name]) for name, check in checks.items() if name in wish})

    def page(self) -> dict:
        """What the page is told, and sends back with its next wish."""
        return {name: getattr(self, name) for name in ("step", "epoch", "patch", "swap", "rounds", "way", "own", "turn")}


def number(name: str, value: object, low: int, high: int) -> int:
    """A whole number from a page (an int) or a link (digits)."""
    digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value)
    if not (digits or type(value) is int) or not low <= int(value) <= high:
        raise ValueError(f"{name} {str(value)[:80]!r}; allowed are {low} to {high}")
    return int(value)


def way(value: object) -> str:
    """A way to hide patches."""
    if not isinstance(value, str) or value not in WAYS:
        raise ValueError(f"way {str(value)[:80]!r}; allowed are {', '.join(WAYS)}")
    return value


def own(value: object) -> str:
    """A drawn mask, as it is written when it is read again."""
    return lesson.packed(lesson.unpacked(str(value), PATCHES)[0])


@dataclass(frozen=True)
class Place:
    """The slice a link names, in words of the page; each is checked where it is looked up.

    sample: a title as ``slug``. plane, slice: of a volume. selector, seed: how its patches are clustered.
    """

    sample: str = ""
    plane: str = ""
    slice: str = ""
    selector: str = ""
    seed: str = "0"


DEFAULTS = Walk()
OF_WALK = ("step", "epoch", "patch", "swap", "rounds", "way", "own")
OF_PLACE = tuple(one.name for one in fields(Place))


def slug(title: str) -> str:
    """A title as it stands in a link: small letters and digits with hyphens between."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def link(walk: Walk, case: Case) -> str:
    """The query of a link to this state: ``case`` must be a sample; what is as it always begins is left out."""
    told = {"sample": slug(case.title), "step": walk.step}
    told |= {"plane": case.plane, "slice": case.index + 1} if case.is_volume else {}
    told |= {"selector": case.selector, "seed": case.seed}
    for name in OF_WALK:
        value = getattr(walk, name)
        if name != "step" and value != getattr(DEFAULTS, name):
            told[name] = int(value) if isinstance(value, bool) else value
    return urlencode(told)


def read(query: Mapping[str, str]) -> tuple[Place, Walk] | None:
    """What the query of a link says; None when it says nothing of ours. ValueError for a value that is not allowed."""
    query = {{"reading": "selector"}.get(name, name): value for name, value in query.items()}  # links of earlier versions
    ours = {name: str(value)[:LONGEST] for name, value in query.items() if name in OF_WALK or name in OF_PLACE}
    if not ours:
        return None
    return Place(**{name: ours[name] for name in OF_PLACE if name in ours}), DEFAULTS.wished({name: ours[name] for name in OF_WALK if name in ours})
