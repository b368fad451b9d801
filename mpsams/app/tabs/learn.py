"""Learn: a lesson on the method with the image on screen, step by step, each step live; then a quiz."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import gradio as gr

from mpsams.app.components.templates import read_scripts
from mpsams.app.events import event_values, on_event, user_error
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.learn import examples, handout, layout, quiz, quiz_page, steps, transfer, uses
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.state import DEFAULTS, STATE_KEYS, LessonState, make_link
from mpsams.app.server.lanes import NETWORK
from mpsams.app.session import Session
from mpsams.inference.case import Case

TITLE = "Learn"
PLACE = 0

SCRIPTS = ("learn", "present")  # parts of one script, in this order
STEP_PAGES = (
    steps.cut, steps.similarity, steps.covariance, steps.two_clusters, steps.order, steps.ratio,
    uses.hide, uses.reconstruct, uses.compare, transfer.transfer,
)  # fmt: skip
EXAMPLE_STEPS = (4, 9)  # clusters, and how well they find the lesion
PRESS = "() => setTimeout(() => document.querySelector('#handout-file').click(), 200)"
CACHED_ROUNDS = 32  # images of the quiz that are kept


def start_quiz(state: LessonState) -> LessonState:
    """Return the state, with a round of the quiz if it is at the quiz."""
    return replace(state, quiz=quiz.start(state.quiz)) if state.step > len(STEP_PAGES) else state


def draw_handout(context: LessonContext, event: gr.EventData, is_sample: bool) -> bytes:
    """Draw the handout as a PDF, with a link to the page that sent the event; an error for the user if that is none."""
    page = event_values(event).get("page")
    if not handout.is_page(page):
        raise user_error(f"page {str(page)[:80]!r} is not the address of this page")
    return handout.draw(context, page, is_sample)


def build(session: Session) -> None:
    """Lay out the tab, register its events."""
    registry = session.registry
    round_of = functools.lru_cache(CACHED_ROUNDS)(
        lambda seed, number: quiz.make_round(seed, number, registry.clustering)
    )

    found_examples = functools.cache(lambda: examples.find_examples(session.first, session.cases, registry))

    def show(case: Case, state: LessonState) -> str:
        if state.step > len(STEP_PAGES):
            page = quiz_page.guess(state.quiz, round_of(state.quiz.seed, state.quiz.round))
        else:
            page = STEP_PAGES[state.step - 1](LessonContext(case, state, registry))
        shown = examples.links(found_examples(), state.step, case) if state.step in EXAMPLE_STEPS else ""
        return layout.lesson(page, state, make_link(state, case) if session.is_sample(case) else "", shown)

    def act(case: Case, state: LessonState, event: gr.EventData) -> tuple[LessonState, str]:
        try:
            state = start_quiz(state.update(event_values(event)))
        except ValueError as error:
            raise user_error(error) from None
        return state, show(case, state)

    def guess(case: Case, state: LessonState, event: gr.EventData) -> tuple[LessonState, str]:
        state, values = start_quiz(state), event_values(event)
        if values.get("round") != state.quiz.round:
            raise user_error("that round is over")
        try:
            answered = quiz.submit_guess(state.quiz, values.get("picks"), round_of(state.quiz.seed, state.quiz.round))
        except ValueError as error:
            raise user_error(error) from None
        state = replace(state, quiz=answered)
        return state, show(case, state)

    def next_round(case: Case, state: LessonState) -> tuple[LessonState, str]:
        state = replace(state, quiz=quiz.next_round(quiz.start(state.quiz)))
        return state, show(case, state)

    def make_handout(case: Case, state: LessonState, event: gr.EventData) -> str:
        drawn = draw_handout(LessonContext(case, state, registry), event, session.is_sample(case))
        return save_to_cache(drawn, "ten-steps.pdf", file)

    def read_settings(values: Mapping[str, str], case: Case) -> dict:
        return {lesson_state: start_quiz(DEFAULTS.update(values))}

    lesson_state = gr.State(DEFAULTS)
    stage = gr.HTML(show(session.first, DEFAULTS), js_on_load=read_scripts(*SCRIPTS), elem_id="learn")
    file = gr.DownloadButton("File", elem_id="handout-file")  # never seen: pressed when the file is written
    inputs = [session.case, lesson_state]
    on_event(stage.act, act, inputs, [lesson_state, stage], trigger_mode="multiple")  # the page sends one at a time
    on_event(stage.guess, guess, inputs, [lesson_state, stage])
    on_event(stage.next_round, next_round, inputs, [lesson_state, stage])
    on_event(stage.handout, make_handout, inputs, file, lane=NETWORK).then(None, js=PRESS)
    session.sidebar.link_controls(stage.reshuffle, stage.set_selector)
    session.on_case(show, [lesson_state], stage)
    session.keep_in_address(dict.fromkeys(STATE_KEYS, lesson_state), read_settings)
