"""The layout of the Learn tab: the bar of steps, a step's picture beside its text, the link; its buttons and sliders.

No gradio here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpsams.app.components.templates import render
from mpsams.app.learn.state import STEPS, LessonState


@dataclass(frozen=True)
class StepPage:
    """A step as HTML.

    title: its heading. board: the large picture with its legend. text: the paragraphs. exercise: what to try. question,
    answer: to ask a class. below: shown under the rest, over the whole width.
    """

    title: str
    board: str
    text: Sequence[str]
    exercise: str
    question: str
    answer: str
    below: str = ""


def lesson(page: StepPage, state: LessonState, query: str) -> str:
    """Return the HTML of the tab. Its parts always have the same places, so that the focus stays where it is.

    query: of the link to this state; "" when there is none.
    """
    return render(
        "lesson",
        page=page,
        step=state.step,
        present=state.present,
        steps=STEPS,
        data=json.dumps(state.to_page()),
        query=query,
    )


def toggle(name: str, choices: Mapping[str, str], selected: object) -> str:
    """Return buttons of which one is pressed: JSON value -> label; a press sets ``name`` to the value."""
    entries = [(value, label, value == json.dumps(selected)) for value, label in choices.items()]
    return render("toggle", name=name, entries=entries)


def slider(name: str, label: str, value: int, low: int, high: int) -> str:
    """Return a slider with its value, which sets ``name`` when it is released."""
    return render("slider", name=name, label=label, value=value, low=low, high=high)
