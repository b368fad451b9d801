"""Annotate: the lesion outlined by hand on a canvas, with a network's help; of many images the one in doubt first.

The canvas sends wishes and is told what came of them; ``_annotate.desk`` obeys. Another slice or image is put on screen in all tabs.
"""

from __future__ import annotations

import time

import gradio as gr

from mpsams import transforms
from mpsams.annotation import assist
from mpsams.annotation.session import AnnotationSession
from mpsams.app import prompt_endpoint
from mpsams.app.annotate import canvas
from mpsams.app.annotate.project_sidebar import ProjectSidebar, at_desk, author
from mpsams.app.components import html
from mpsams.app.session import SAVES, Session, on_event, user_error
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry

TITLE = "Annotate"
PLACE = 4

INTRO = """<p class="lead"><strong>What you see.</strong> Your mask in orange; dashes are what a network proposes. Paint what is wrong, or choose
Lesion and Not lesion, scribble a few strokes, and the mask follows. Everything is saved as you go; press <kbd>?</kbd> for the keys.</p>"""


def proposing(registry: ModelRegistry, modality: str) -> str:
    """What the network that proposes was trained on and how good it is, where it is an assistant."""
    name = assist.default_model(registry, modality)
    return html.assistant(registry.about(name), registry.measured(name)) if name and name == registry.assistant(modality) else ""


def build(session: Session) -> None:
    """Lay out the tab and register its events."""
    desk = gr.State(None)  # a AnnotationSession, made when the tab is first opened: each browser tab has its own
    session.hold(desk)
    with gr.Row(equal_height=False, elem_id="annotate-row"):
        with gr.Column(scale=1, min_width=320):
            stage = canvas.canvas()
            gr.HTML(INTRO)
            good = gr.HTML("")
        with gr.Column(scale=0, min_width=300, elem_id="annotate-side"):
            side = ProjectSidebar(session, desk)
    which = side.filter if session.project else gr.State("open")
    outputs = [*session.every, stage, desk, *side.outputs]

    def seated(now: AnnotationSession | None) -> AnnotationSession:
        return AnnotationSession(session.registry, session.project, session.room) if now is None else now

    def told(now: AnnotationSession, said: str | None, before: Case | None, filter: str) -> dict:
        """What an answer of the desk sets: the canvas, and whatever of the page changed with it."""
        return {desk: now} | ({} if said is None else {stage: said}) | moved(now, before) | side.filled(now, filter)

    def moved(now: AnnotationSession, before: Case | None) -> dict:
        """The case of the other tabs, where the desk put another on screen. before: None where that is not known any more."""
        case = now.case
        if case is None or case is before:
            return {}
        if before is None or case.scan.voxels_xyz is not before.scan.voxels_xyz:
            return session.shown_anew(case)
        level, width = transforms.middle(*case.seen)
        seen = {session.level: level, session.width: width} if case.seen != before.seen else {}
        return {session.case: case, session.version: str(time.monotonic_ns()), session.slice: case.index + 1} | seen

    def act(case: Case | None, now: AnnotationSession | None, who: str, filter: str, event: gr.EventData) -> dict:
        now = seated(now)
        listed = now.state
        said = now.handle(event._data, case, author(who))
        shown = side.filled(now, filter) if now.state != listed else {}
        return {desk: now, stage: said} | moved(now, case) | shown

    def show(case: Case, now: AnnotationSession | None, who: str, filter: str) -> dict:
        """The case on screen on the canvas; with a project and nothing chosen yet, the image to be corrected first."""
        first, now = now is None and case is session.first, seated(now)
        if first and session.project is not None and session.project.next() is not None:
            return told(now, now.open("", author(who)), case, filter)
        return told(now, now.show(case, author(who)), case, filter)

    def pick(case: Case | None, now: AnnotationSession | None, who: str, filter: str, event: gr.EventData) -> dict:
        now, item = seated(now), event._data.get("item") if isinstance(event._data, dict) else None
        if not isinstance(item, str) or not item:
            raise user_error("there is no such image")
        return told(now, now.open(item, author(who)), case, filter)

    def begin(case: Case | None, now: AnnotationSession | None, who: str, filter: str) -> dict:
        """After images were added: the first of them, where none of the project is on screen."""
        now = seated(now)
        return told(now, None if case and case.item or session.project.next() is None else now.open("", author(who)), case, filter)

    def use(now: AnnotationSession | None) -> dict:
        case = at_desk(now).as_truth()
        return {session.case: case, session.version: str(time.monotonic_ns())}

    def take(path: str | None, who: str, case: Case | None, now: AnnotationSession | None, filter: str) -> dict:
        """Import masks, and show what came for the image on screen."""
        said, now = side.imported(path, author(who)), seated(now)
        answer = now.open(case.item, author(who)) if case and case.item else None
        return {side.notice: said, side.masks: None} | told(now, answer, case, filter)

    state = [session.case, desk, side.who, which]
    lost = {"may_lose": [session.case, desk]}
    on_event(stage.act, act, state, outputs, trigger_mode="multiple", **SAVES, **lost)  # the page sends one at a time
    on_event(side.truth.click, use, [desk], [session.case, session.version])
    session.on_case(show, [desk, side.who, which], outputs, may_lose=[desk])
    session.on_case(lambda case: {good: proposing(session.registry, case.modality)}, [], [good])
    side.listen()
    prompt_endpoint.register(session.registry)
    if session.project is not None:
        on_event(side.list.pick, pick, state, outputs, **lost)
        on_event(side.added.success, begin, state, outputs, **lost)
        on_event(side.masks.upload, take, [side.masks, side.who, session.case, desk, which], [side.notice, side.masks, *outputs], **lost)
