"""The samples with which Learn makes its point: where the clusters find the lesion, where they do not, and a selector
that does better.

No gradio here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpsams import clusters
from mpsams.app.components import html
from mpsams.app.components.templates import render
from mpsams.app.learn.state import DEFAULTS, make_link
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry

CHANCE = 1.0  # the lift of patches drawn at random


@dataclass(frozen=True)
class Example:
    """A sample clustered with a selector. role: what it is shown for, in words."""

    case: Case
    role: str

    @property
    def lift(self) -> float:
        """Lift: share of lesion patches in the lesion cluster over their share in the image."""
        return lift_of(self.case)


def lift_of(case: Case) -> float:
    """Return the lift of a case with a truth."""
    assert case.agreement is not None
    return case.agreement.lift


def finds_lesion(case: Case) -> bool:
    """Return True if the patches of the lesion cluster are lesion more often than random ones."""
    return case.has_lesion and lift_of(case) > CHANCE


def find_examples(first: Case, cases: Sequence[Case], registry: ModelRegistry) -> list[Example]:
    """Return up to three examples: the first case, the ultrasound image with the lowest lift, and that image with the
    best selector.
    """
    with_lesion = [case for case in cases if case.has_lesion]
    weakest = min(with_lesion, key=lift_of)
    tried = [
        _case.recluster(weakest, open_case.clustering_options(registry.clustering(weakest.modality, selector)))
        for selector in clusters.SELECTORS
    ]
    best = max(tried, key=lift_of)
    found = [Example(first, "the example"), Example(weakest, "the counter-example"), Example(best, "another selector")]
    return list({(one.case.title, one.case.selector): one for one in reversed(found)}.values())[::-1]


def links(examples: Sequence[Example], step: int, shown: Case) -> str:
    """Return the examples as links to a step, with how well the clusters find the lesion in each, as HTML."""
    state = replace(DEFAULTS, step=step)
    entries = [
        {
            "query": make_link(state, one.case),
            "title": one.case.title,
            "role": one.role,
            "selector": one.case.selector,
            "lift": html.number(one.lift),
            "finds": one.lift > CHANCE,
            "is_shown": (one.case.title, one.case.selector) == (shown.title, shown.selector),
        }
        for one in examples
    ]
    return render("examples", entries=entries)
