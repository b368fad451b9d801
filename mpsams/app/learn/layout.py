"""The pages of the Learn tab as values for their templates. No gradio here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from mpsams import schedule
from mpsams.app.components.templates import render
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.state import STEPS, WAYS, LessonState


@dataclass(frozen=True)
class StepPage:
    """A step: the name of its template in ``templates/learn``, and the values that it is filled with."""

    template: str
    values: Mapping[str, object]


def step_page(template: str, context: LessonContext, **values: object) -> StepPage:
    """Return the page of a step: its own values, and those of the image and the state that several steps name."""
    state, study = context.state, context.study
    common = {
        "has_lesion": context.case.has_lesion,
        "columns": context.columns,
        "side": study.patch,
        "length": study.length,
        "lesion_size": study.lesion_size,
        "patch": context.patch,
        "place": context.where(context.patch),
        "epoch": state.epoch,
        "last_epoch": schedule.HORIZON,
        "ratio": context.masked.ratio,
        "swap": state.swap,
        "way": state.way,
        "way_names": {json.dumps(name): label for name, label in WAYS.items()},
    }
    return StepPage(template, common | values)


def lesson(page: StepPage, state: LessonState, query: str, examples: str = "") -> Markup:
    """Return the HTML of the tab. Its parts always have the same places, so that the focus stays where it is.

    query: of the link to this state; "" when there is none. examples: shown under the rest, as HTML.
    """
    own = {"step": state.step, "present": state.present, "steps": STEPS, "data": json.dumps(state.to_page())}
    return render(f"learn/{page.template}", **page.values, **own, query=query, examples=examples)
