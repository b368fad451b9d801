"""Learn: a walk through the method on the image on screen, step by step, each step live; then a quiz."""

from __future__ import annotations

import functools
from pathlib import Path

import gradio as gr

from mpsams.app.learn import page as frame
from mpsams.app.learn import quiz, quiz_page, steps, uses
from mpsams.app.learn import walk as walks
from mpsams.app.learn.scene import Scene
from mpsams.app.learn.walk import Walk
from mpsams.app.session import Session, on_event, serialised, user_error
from mpsams.inference.case import Case

TITLE = "Learn"
PLACE = 0

SCRIPT = Path(__file__).parents[1] / "static" / "learn.js"
PAGES = (
    steps.cut, steps.similarity, steps.covariance, steps.two_clusters, steps.order, steps.ratio,
    uses.hide, uses.reconstruct, uses.compare, uses.transfer,
)  # fmt: skip
KEPT = 32  # images of the quiz that are kept


def build(session: Session) -> None:
    """Lay out the tab and register its events, and restore the state of a link when the page is opened."""
    registry = session.registry
    drawn = functools.lru_cache(KEPT)(lambda seed, number: quiz.made(seed, number, registry.clustering))

    def show(case: Case, now: Walk) -> str:
        if now.step > len(PAGES):
            page = quiz_page.guess(now.quiz, drawn(now.quiz.seed, now.quiz.round))
        else:
            page = PAGES[now.step - 1](Scene(case, now, registry))
        return frame.whole(page, now, walks.link(now, case) if session.is_sample(case) else "")

    def begun(now: Walk) -> Walk:
        return walks.replace(now, quiz=quiz.begun(now.quiz)) if now.step > len(PAGES) else now

    def act(case: Case, now: Walk, event: gr.EventData) -> tuple[Walk, str]:
        try:
            now = begun(now.wished(said(event)))
        except ValueError as error:
            raise user_error(error) from None
        return now, show(case, now)

    def guess(case: Case, now: Walk, event: gr.EventData) -> tuple[Walk, str]:
        now, told = begun(now), said(event)
        if told.get("round") != now.quiz.round:
            raise user_error("that round is over")
        try:
            now = walks.replace(now, quiz=quiz.guessed(now.quiz, told.get("picks"), drawn(now.quiz.seed, now.quiz.round)))
        except ValueError as error:
            raise user_error(error) from None
        return now, show(case, now)

    def another(case: Case, now: Walk) -> tuple[Walk, str]:
        now = walks.replace(now, quiz=quiz.another(quiz.begun(now.quiz)))
        return now, show(case, now)

    def opened(request: gr.Request) -> dict:
        """What a link names is put on screen; one that cannot be read leaves the page as it is, with a sentence.

        Without a link the page goes on to its project, if it has one.
        """
        try:
            found = walks.read(dict(request.query_params))
            if found is None:
                return {walk: gr.skip()} if session.project is None else session.in_front("annotate")
            place, now = found
            return session.recalled(place) | {walk: walks.replace(begun(now), turn=1)}
        except ValueError as error:
            told = walks.replace(walks.DEFAULTS, turn=1, told=f"This link cannot be followed: {error}. The walk starts at its beginning.")
            return {walk: told, stage: show(session.first, told)}

    walk = gr.State(walks.DEFAULTS)
    stage = gr.HTML(show(session.first, walks.DEFAULTS), js_on_load=SCRIPT.read_text(encoding="utf-8"), elem_id="learn")
    state, turn = [session.case, walk], serialised(stage)
    on_event(stage.act, act, state, [walk, stage], trigger_mode="multiple", **turn)  # the page sends one at a time
    on_event(stage.guess, guess, state, [walk, stage], **turn)
    on_event(stage.another, another, state, [walk, stage], **turn)
    session.link_controls(stage.reshuffle, stage.read)
    session.on_case(show, [walk], stage, **turn)
    session.on_open(opened, [], [*session.every, session.tabs, session.open_tab, walk, stage])


def said(event: gr.EventData) -> dict:
    """What the page sent with an event."""
    if not isinstance(event._data, dict):
        raise user_error("the page sent nothing that can be understood")
    return event._data
