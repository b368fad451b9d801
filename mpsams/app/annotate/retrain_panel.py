"""Learning from corrections on the page: begin, watch, cancel; its result; take it into use, or go back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import gradio as gr
from gradio.context import LocalContext
from markupsafe import Markup

from mpsams.annotation import adoption, assist, disk, retraining, retraining_run, structures
from mpsams.annotation.project import Project
from mpsams.annotation.retraining_run import EvaluationResult
from mpsams.app.annotate import queue
from mpsams.app.components import html
from mpsams.app.components.templates import render
from mpsams.app.events import on_event, user_error
from mpsams.app.session import Session

LOOKS = 2.0  # seconds between two looks at a run
ABOUT = """<p class="small">The network learns from the masks you accepted, in the background. About a fifth of them is
held back, never learnt from, and shows whether it got better. Afterwards “Propose masks for all” asks the new network
about every image you have not touched.</p>"""
FEW = Markup(
    "<strong>{count} of {least} masks.</strong> From {least} accepted masks on, the network can learn from your"
    " corrections."
)
ONE = "A network learns one; what is marked of the others counts as background. Without a choice it is the first."
READY = Markup("<strong>{count} accepted masks</strong> to learn from.")
USED = Markup("<strong>{name}</strong> is in use: it proposes, and it is in Segment &amp; compare.")


class RetrainPanel:
    """The section's components, and what happens when they are touched."""

    def __init__(self, session: Session, user: gr.Textbox) -> None:
        # of the first reader
        self.session, self.registry, self.user = session, session.registry, user
        self.project = session.require_project()
        with gr.Accordion("Learn from your corrections", open=False, elem_id="teach") as self.panel:
            gr.HTML(ABOUT)
            self.status = gr.HTML("")
            self.structure = gr.Dropdown([], label="Structure to learn", info=ONE, visible=False)
            self.start = gr.Button("Learn from the accepted masks", variant="primary")
            self.cancel = gr.Button("Cancel", visible=False)
            self.use = gr.Button("Use the new network", variant="primary", visible=False)
            self.back = gr.Button("Go back to the network before", visible=False, size="sm")
        self.clock = gr.Timer(LOOKS, active=False)

    @property
    def outputs(self) -> list:
        """The components that ``update`` sets."""
        return [self.panel, self.status, self.structure, self.start, self.cancel, self.use, self.back, self.clock]

    def update(self) -> dict:
        """Update the section to the project's last run; only the first reader sees it, on whose masks it learns."""
        if self.session.require_view().name:
            return {self.panel: gr.Accordion(visible=False), self.clock: gr.Timer(active=False)}
        try:
            return self._update()
        except ValueError as error:  # a file of the runs is damaged
            return {self.status: html.note(str(error), "warning"), self.clock: gr.Timer(active=False)}

    def _update(self) -> dict:
        run, in_use = retraining_run.last(self.project.folder), adoption.promoted(self.project.folder)
        progress = None if run is None else run.progress()
        running = progress is not None and progress.state == "running"
        count = self.project.counts()["accepted"]
        notes, offered, better = [], False, False
        if progress is not None and running:
            notes = [queue.bar(progress.share, progress.words, "Learning")]
        elif run is not None and progress is not None and progress.state == "done":
            used, result = adoption.in_use_of(self.project.folder, run) is not None, run.evaluation()
            offered = not result.worse and not used and result.checkpoint.exists()
            better = offered and result.better
            plan = retraining_run.read(run.folder / retraining_run.PLAN)
            learnt = adoption.learnt_structure(self.project, plan)
            name = learnt.name if learnt else str(plan.get("structure", ""))  # of one that was removed as well
            about = f"Structure {name}: " if name else ""
            notes = [html.note(about + describe_result(result), "info" if result.better else "warning")]
        elif progress is not None:
            notes = [html.note(f"The last time: {progress.words}.", "warning")]
        if in_use:
            notes.append(html.note(USED.format(name=in_use[-1].stem)))
        if not running:
            notes.append(
                html.note(
                    (READY if count >= retraining.MIN_ACCEPTED else FEW).format(
                        count=count, least=retraining.MIN_ACCEPTED
                    )
                )
            )
        choices = [(one.name, one.label) for one in structures.defined(self.project)]
        return {
            self.status: "".join(notes),
            self.structure: gr.Dropdown(choices, visible=len(choices) > 1 and not running),
            self.start: gr.Button(
                visible=not running,
                interactive=count >= retraining.MIN_ACCEPTED,
                variant="secondary" if better else "primary",
            ),
            self.cancel: gr.Button(visible=running),
            self.use: gr.Button(visible=offered, variant="primary" if better else "secondary"),
            self.back: gr.Button(visible=bool(in_use) and not running),
            self.clock: gr.Timer(active=running),
        }

    def listen(self) -> None:
        """Connect the events of the section and of a run that continues."""
        on_event(self.start.click, self._start, [self.structure], self.outputs)
        on_event(self.cancel.click, self._cancel, [], self.outputs)
        on_event(self.use.click, self._use, [self.user], self.outputs)
        on_event(self.back.click, self._back, [self.user], self.outputs)
        on_event(self.clock.tick, self.update, [], self.outputs)
        self.session.on_case(lambda case: self.update(), [], self.outputs, asks_reader=True)

    def _start(self, chosen: int | None = None) -> dict:
        def begin(project: Project) -> None:
            name = self._begins_from()
            retraining.start(
                project.folder, self.registry.path(name), name, structure=choose_structure(project, chosen)
            )

        return self._done(begin)

    def _begins_from(self) -> str:
        """Return the network to begin from, the proposing one of the modality accepted most. ValueError without one."""
        modality = Counter(item.modality for item in self.project.items("accepted")).most_common(1)
        name = assist.default_model(self.registry, modality[0][0]) if modality else None
        if name is None:
            raise ValueError("there is no segmentation network to begin from; --weights names the folder of networks")
        return name

    def _cancel(self) -> dict:
        if (run := retraining_run.last(self.project.folder)) is not None:
            run.cancel()
        return self.update()

    def _use(self, user: str) -> dict:
        run = retraining_run.last(self.project.folder)
        if run is None:
            raise user_error("there is no new network; learn from the accepted masks first")
        return self._done(lambda project: adoption.promote(project, run, author(user)))

    def _back(self, user: str) -> dict:
        return self._done(lambda project: adoption.rollback(project, author(user)))

    def _done(self, action: Callable[[Project], object]) -> dict:
        """Carry out an action on the project and update the section; a refusal becomes a sentence."""
        try:
            action(self.project)
        except (ValueError, OSError) as error:
            raise user_error(error if isinstance(error, ValueError) else disk.sentence(error)) from None
        return self.update()


def choose_structure(project: Project, label: int | None) -> structures.Structure | None:
    """Return the structure to learn by its label, the first without a choice; None where a project has a single one.

    ValueError: it was removed.
    """
    defined = structures.defined(project)
    if len(defined) == 1:
        return None
    found = next((one for one in defined if label in (None, one.label)), None)
    if found is None:
        names = ", ".join(one.name for one in defined)
        raise ValueError(f"the structure that you chose was removed meanwhile; allowed are {names}")
    return found


def author(typed: str) -> str:
    """Return the name of the user for the log: the one signed in with, else the typed one."""
    request = LocalContext.request.get(None)
    return (request.username if request is not None else None) or typed


def describe_result(result: EvaluationResult) -> Markup:
    """Describe the result of a run and its limits."""
    return render("retrained", result=result, least=retraining_run.MIN_SHOWN)
