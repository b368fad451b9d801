"""The Annotate tab: a lesion is outlined by hand on a canvas, with the help of a network; the most doubtful image comes
first.

The canvas sends commands to an annotation session and gets replies. Another slice or image is shown in all tabs.

Over 250 lines because the canvas, the list and the sidebar beside it answer each event together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import gradio as gr

from mpsams import transforms
from mpsams.annotation import assist, batch
from mpsams.annotation.session import AnnotationSession
from mpsams.app import prompt_endpoint
from mpsams.app.annotate import canvas, queue
from mpsams.app.annotate.project_sidebar import OFTEN, ProjectSidebar, author, require_image
from mpsams.app.components import html
from mpsams.app.events import on_event, user_error
from mpsams.app.learn.state import SliceLink
from mpsams.app.server.lanes import LONG, NETWORK, PICTURE, SAVE
from mpsams.app.session import Session
from mpsams.app.sidebar import move_to_link
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry

TITLE = "Annotate"
PLACE = 4
QUICK = ("save", "accept", "skip", "reopen", "window", "tidy", "copy")  # commands of the canvas that ask no network

CHOSEN = """(state, structure, ...rest) => [
    state, document.querySelector('.annotate')?.parentElement.snapshot?.()?.structure ?? structure, ...rest]"""

INTRO = """<p class="lead"><strong>What you see.</strong> Your mask in colour; dashes are what a network proposes. Paint
what is wrong, or choose Lesion and Not lesion, scribble a few strokes, and the mask follows. Everything is saved as you
go; press <kbd>?</kbd> for the keys.</p>"""


def describe_assistant(registry: ModelRegistry, modality: str) -> str:
    """Return as HTML what the proposing assistant was trained on and how good it is; "" for another network."""
    name = assist.default_model(registry, modality)
    return (
        html.assistant(registry.metadata(name), registry.evaluation(name))
        if name and name == registry.assistant(modality)
        else ""
    )


def build(session: Session) -> None:
    """Lay out the tab and register its events."""
    state = gr.State(None)  # an AnnotationSession, made when the tab is first opened: each browser tab has its own
    session.hold(state)
    with gr.Row(equal_height=False, elem_id="annotate-row"):
        with gr.Column(scale=1, min_width=320):
            stage = canvas.canvas()
            gr.HTML(INTRO)
            about = gr.HTML("")
        with gr.Column(scale=0, min_width=300, elem_id="annotate-side"):
            sidebar = ProjectSidebar(session, state)
    listeners = Listeners(session, state, stage, sidebar)
    listeners.register()
    session.on_case(
        lambda case: {about: describe_assistant(session.annotation_registry, case.modality)},
        [],
        [about],
        asks_reader=True,
    )
    sidebar.listen()
    if session.project is not None:
        listeners.register_project()
    prompt_endpoint.register(session.registry)


def lane_of(message: object) -> str:
    """Return the lane of a command of the canvas: one that only saves does not wait for those that ask a network."""
    return SAVE if isinstance(message, dict) and message.get("action") in QUICK else NETWORK


class Listeners:
    """Handlers of the tab's events; each returns the components that it changes."""

    def __init__(self, session: Session, state: gr.State, stage: gr.HTML, sidebar: ProjectSidebar) -> None:
        self.session, self.state, self.stage, self.sidebar = session, state, stage, sidebar
        self.outputs = [*session.sidebar.all_outputs, stage, state, *sidebar.outputs]

    def register(self) -> None:
        """Connect the handlers to their events."""
        session, sidebar = self.session, self.sidebar
        inputs, held = [session.case, self.state, sidebar.user], [session.case, self.state]
        # the page sends one at a time
        on_event(
            self.stage.act,
            self.act,
            inputs,
            self.outputs,
            trigger_mode="multiple",
            lane=lane_of,
            saves=True,
            may_lose=held,
        )
        on_event(
            sidebar.truth.click, self.use, [self.state, sidebar.structure], [session.case, session.version], js=CHOSEN
        )
        shown = [self.state, sidebar.user]
        session.on_case(self.show, shown, self.outputs, may_lose=[self.state], lane=NETWORK, asks_reader=True)

    def register_project(self) -> None:
        """Connect the handlers of the project's events; the sidebar must listen already."""
        session, sidebar, held = self.session, self.sidebar, [self.session.case, self.state]
        inputs = [session.case, self.state, sidebar.user]
        on_event(sidebar.list.pick, self.pick, inputs, self.outputs, lane=self.lane_of_pick, may_lose=held)
        on_event(sidebar.readers.agreement.pick, self.pick, inputs, self.outputs, lane=self.lane_of_pick, may_lose=held)
        on_event(
            sidebar.readers.agreement.consensus,
            self.make_consensus,
            inputs,
            [sidebar.notice, *self.outputs],
            concurrency_limit=1,
            lane=LONG,
            may_lose=held,
        )
        on_event(sidebar.added.success, self.begin, inputs, self.outputs, lane=NETWORK, may_lose=held)
        on_event(
            self.stage.ahead,
            self.prefetch,
            [self.state, sidebar.user],
            [],
            concurrency_limit=1,
            lane=LONG,
            may_lose=[self.state],
        )
        on_event(sidebar.proposed.success, self.settle, inputs, self.outputs, lane=NETWORK, may_lose=held)
        on_event(
            sidebar.list.batch,
            self.batch,
            inputs,
            [sidebar.notice, *self.outputs],
            concurrency_limit=1,
            lane=LONG,
            may_lose=held,
        )
        masks = [sidebar.masks, sidebar.user, session.case, self.state]
        on_event(
            sidebar.masks.upload,
            self.take,
            masks,
            [sidebar.notice, sidebar.masks, *self.outputs],
            lane=LONG,
            may_lose=held,
        )

    def lane_of_pick(self, message: object) -> str:
        """Return the lane of a click in the list: the networks are asked about an image that nobody has opened yet."""
        id = message.get("item") if isinstance(message, dict) else None
        return NETWORK if any(item.id == id for item in self.session.require_project().items("new")) else PICTURE

    def act(self, case: Case | None, annotation: AnnotationSession | None, user: str, event: gr.EventData) -> dict:
        """Handle a command of the canvas."""
        annotation = self._ensure(annotation)
        reply = annotation.handle(event._data, case, author(user))
        shown, state = {}, annotation.state
        if annotation.shown_state != state:
            annotation.shown_state, shown = state, self.sidebar.update(annotation)
        return {self.state: annotation, self.stage: reply} | self._show_case(annotation, case) | shown

    def show(self, case: Case, annotation: AnnotationSession | None, user: str, request: gr.Request = None) -> dict:
        """Put the case on screen on the canvas; with a project and nothing chosen yet, the image of the page's address,
        at the plane and slice there, or the first of the queue.

        While the page is opened with a link to something else nothing is shown here: the link has its own image.
        """
        is_first, annotation = annotation is None and case is self.session.first, self._ensure(annotation)
        if is_first and self.session.project is not None and self.session.project.next() is not None:
            query = getattr(request, "query_params", {})
            if query.keys() & {"sample", "step"} or query.get("tab", "annotate") != "annotate":
                return {self.state: annotation}
            link = SliceLink(**{name: query[name] for name in ("image", "plane", "slice") if name in query})
            reply = annotation.open(link.image, author(user))
            opened = annotation.case
            if opened is not None and opened.item == link.image and (link.plane or link.slice):
                with suppress(ValueError):  # a wrong plane or slice, which the page's address reports
                    moved = move_to_link(opened, link, annotation.loader.clustering(opened))
                    reply = annotation.show(moved, author(user)) or reply
            return self._show_reply(annotation, reply, case)
        return self._show_reply(annotation, annotation.show(case, author(user)), case)

    def pick(self, case: Case | None, annotation: AnnotationSession | None, user: str, event: gr.EventData) -> dict:
        """Open the image that was clicked in the list."""
        annotation, item = self._ensure(annotation), event._data.get("item") if isinstance(event._data, dict) else None
        if not isinstance(item, str) or not item:
            raise user_error("there is no such image")
        return self._show_reply(annotation, annotation.open(item, author(user)), case)

    def begin(self, case: Case | None, annotation: AnnotationSession | None, user: str) -> dict:
        """Open the first image of the queue after images were added, if no image of the project is on screen."""
        annotation = self._ensure(annotation)
        stays = bool(case and case.item) or self.session.require_project().next() is None
        reply = None if stays else annotation.open("", author(user))
        annotation.is_untouched = not stays
        return self._show_reply(annotation, reply, case)

    def settle(self, case: Case | None, annotation: AnnotationSession | None, user: str) -> dict:
        """Once masks are proposed, open the queue's first image instead of the one ``begin`` opened, if untouched."""
        annotation, first = self._ensure(annotation), self.session.require_project().next()
        if not annotation.is_untouched or first is None:
            return self._show_reply(annotation, None, case)
        return self._show_reply(annotation, annotation.open(first.id, author(user)), case)

    def batch(
        self, case: Case | None, annotation: AnnotationSession | None, user: str, event: gr.EventData
    ) -> Iterator[dict]:
        """Accept, skip, reopen or delete the selected images of the list; then show the image on screen as it is."""
        project, annotation, done = self.session.require_project(), self._ensure(annotation), 0
        problems: list[str] = []
        try:
            action, ids = batch.parse(event._data)
        except ValueError as error:
            raise user_error(error) from None
        if action == "delete":
            self.sidebar.refuse_other_readers()
        for done, problem in batch.run(project, action, ids, author(user)):
            problems += [problem] * bool(problem)
            if done % OFTEN == 0:
                bar = queue.bar(done / len(ids), f"{batch.DONE[action].capitalize()}: {done} of {len(ids)}", "Progress")
                yield {self.sidebar.notice: bar} | self.sidebar.update_list(annotation)
        notice = html.notes(batch.summary(action, done, problems), bool(problems))
        reply = annotation.reopen_on_screen(author(user)) or annotation.show(self.session.first, author(user))
        yield {self.sidebar.notice: notice} | self._show_reply(annotation, reply, case)

    def make_consensus(
        self, case: Case | None, annotation: AnnotationSession | None, user: str, event: gr.EventData
    ) -> Iterator[dict]:
        """Make the consensus of all images of the readers, with a bar; then show the image on screen as it is now."""
        annotation = self._ensure(annotation)
        for notice in self.sidebar.readers.make(event):
            yield {self.sidebar.notice: notice}
        yield self._show_reply(annotation, annotation.reopen_on_screen(author(user)), case)

    def prefetch(self, annotation: AnnotationSession | None, user: str) -> None:
        """Prepare the next image of the queue while someone works on this one."""
        if annotation is not None:
            annotation.prefetch(author(user))

    def use(self, annotation: AnnotationSession | None, structure: float | None) -> dict:
        """Use the mask on the canvas as the truth in the other tabs; of several structures, the chosen one."""
        case = require_image(annotation).as_truth(int(structure or 1))
        return {self.session.case: case, self.session.version: str(time.monotonic_ns())}

    def take(self, path: str | None, user: str, case: Case | None, annotation: AnnotationSession | None) -> dict:
        """Import masks, and show the one of the image on screen."""
        notice, annotation = self.sidebar.import_masks(path, author(user)), self._ensure(annotation)
        reply = annotation.open(case.item, author(user)) if case and case.item else None
        return {self.sidebar.notice: notice, self.sidebar.masks: None} | self._show_reply(annotation, reply, case)

    def _ensure(self, annotation: AnnotationSession | None) -> AnnotationSession:
        """Return the annotation session of this page, a new one if there is none, or if it is of another reader."""
        session, view = self.session, self.session.view
        # without a project there is no view
        if annotation is not None and (annotation.view is None or view is None or annotation.view.name == view.name):
            return annotation
        return AnnotationSession(session.annotation_registry, session.project, session.reserve, view)

    def _show_reply(self, annotation: AnnotationSession, reply: str | None, before: Case | None) -> dict:
        """Show a reply on the canvas, and what changed beside it. before: as for ``_show_case``."""
        shown = {} if reply is None else {self.stage: reply}
        annotation.shown_state = annotation.state
        return {self.state: annotation} | shown | self._show_case(annotation, before) | self.sidebar.update(annotation)

    def _show_case(self, annotation: AnnotationSession, before: Case | None) -> dict:
        """Show the session's case in the other tabs if it changed. before: the case that they show; None if unknown."""
        case, session = annotation.case, self.session
        if case is None or case is before:
            return {}
        if before is None or case.scan.voxels_xyz is not before.scan.voxels_xyz:
            return session.sidebar.show_case(case)
        level, width = transforms.middle(*case.display_span)
        window = (
            {session.sidebar.level: level, session.sidebar.width: width}
            if case.display_span != before.display_span
            else {}
        )
        return {
            session.case: case,
            session.version: str(time.monotonic_ns()),
            session.sidebar.slice: case.index + 1,
        } | window
