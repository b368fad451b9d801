"""The frame of the Learn tab: the bar of steps, a step's picture beside its words, the link. No gradio here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mpsams.app.components import html
from mpsams.app.learn.walk import STEPS, Walk

UPLOADED = "A link can restore the samples of this page only: what you open from your own files stays on the computer that runs it."

AT_END = ' aria-disabled="true"'  # not "disabled", which would take the focus away


@dataclass(frozen=True)
class Page:
    """A step as HTML.

    title: its heading. board: the large picture with what explains its colours. says: the paragraphs. tries: what to
    do oneself. question, answer: to ask a class. more: what stands below, over the whole width.
    """

    title: str
    board: str
    says: Sequence[str]
    tries: str
    question: str
    answer: str
    more: str = ""


def bar(step: int) -> str:
    """Back, the steps, next."""

    def button(k: int) -> str:
        now = ' aria-current="step"' if k == step else ""
        kind = ' class="done"' if k < step else ""
        face = "?" if k == len(STEPS) else k
        return f'<li{kind}><button type="button" data-go="{k}"{now}><b>{face}</b><span>{STEPS[k - 1]}</span></button></li>'

    back = f'<button type="button" class="way" data-go="{max(1, step - 1)}"{AT_END * (step == 1)}>‹ Back</button>'
    on = f'<button type="button" class="way next" data-go="{min(len(STEPS), step + 1)}"{AT_END * (step == len(STEPS))}>Next ›</button>'
    steps = "".join(button(k) for k in range(1, len(STEPS) + 1))
    return f'<nav class="steps" aria-label="Steps of the walk">{back}<ol>{steps}</ol>{on}</nav>'


def whole(page: Page, walk: Walk, query: str) -> str:
    """The tab. Its parts always stand in the same places, so that what has the focus keeps it.

    query: of the link to this state; "" when there can be none.
    """
    count = len(STEPS) - 1
    place = f"Step {walk.step} of {count}" if walk.step <= count else "Quiz"
    told = f'<div class="told">{html.note(escape(walk.told), "error")}</div>'
    says = "".join(f"<p>{one}</p>" for one in page.says)
    ask = f'<details class="ask"><summary><b>Ask the class:</b> {page.question}</summary><p>{page.answer}</p></details>'
    text = (
        f'<div class="says"><h3 aria-live="polite"><em>{place}</em>{page.title}</h3><div class="text">{says}</div>'
        f'<section class="try" aria-label="Try it">{page.tries}</section>{ask}</div>'
    )
    copy = '<button type="button" data-copy>Copy link to this step</button>' if query else ""
    hint = "Keys: left and right arrows change the step; inside a picture they choose a patch." if query else UPLOADED
    foot = f'<div class="foot"><div class="copy">{copy}<input type="text" readonly hidden aria-label="Link to this step"><output></output></div><p>{hint}</p></div>'
    state = escape(json.dumps(walk.page()))
    return (
        f'<div class="learn" data-state="{state}" data-link="{escape(query)}">{bar(walk.step)}{told}'
        f'<div class="lesson"><div class="board">{page.board}</div>{text}</div><div class="more">{page.more}</div>{foot}</div>'
    )


def toggle(name: str, choices: dict[str, str], now: object) -> str:
    """Buttons of which one is pressed: JSON value -> words; the page wishes ``name`` to be the value."""
    buttons = "".join(
        f'<button type="button" data-set="{name}" data-value="{escape(value)}" aria-pressed="{str(value == json.dumps(now)).lower()}">{says}</button>'
        for value, says in choices.items()
    )
    return f'<div class="toggle" role="group">{buttons}</div>'


def slider(name: str, says: str, now: int, low: int, high: int, live: str = "") -> str:
    """A slider with its value; the page wishes ``name`` to be where it is let go."""
    shown = f'<b data-say="{name}">{now}</b>'
    return (
        f'<label class="slide"><span>{says} {shown}</span>'
        f'<input type="range" min="{low}" max="{high}" step="1" value="{now}" data-slide="{name}" aria-label="{escape(says)}" {live}></label>'
    )


