"""The column beside the canvas: the queue of a project, what goes into it and out of it, and this image's own files.

Over 250 lines because the components of one column update each other, and every event returns them together.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from mpsams.annotation import disk, export_names, proposals, session_files, structures, transfer
from mpsams.annotation.project import Project
from mpsams.annotation.session import AnnotationSession
from mpsams.app import gradio_compat
from mpsams.app.annotate import class_bar, queue
from mpsams.app.annotate.readers_panel import ReadersPanel
from mpsams.app.annotate.retrain_panel import RetrainPanel, author
from mpsams.app.components import html
from mpsams.app.components.templates import read_scripts
from mpsams.app.events import on_event, user_error
from mpsams.app.server.lanes import LONG
from mpsams.app.session import Session
from mpsams.imaging import UnreadableImage, export
from mpsams.imaging.name_matching import stem
from mpsams.inference.case import MODALITIES, NAMES
from mpsams.inference.checkpoint_metadata import training_data_of

PRESS = "() => setTimeout(() => document.querySelector('#annotate-file').click(), 200)"
ONE = {"png": "PNG", "nifti": "NIfTI", "dicom-seg": "DICOM-SEG, de-identified"}
OFTEN = 10  # after this many proposals the list is shown anew
ALONE = Markup("""<strong>One image at a time.</strong> What you draw is kept as long as this tab is open. Start the
app with <code>--project DIR</code> to work through many images, with a queue, saved on the disk.""")
NAMES_INFO = (
    "File names can identify patients. names.csv in the zip lists both names; leave it out when you share hashed ones."
)
READ_ONLY = Markup(
    "<strong>Read-only.</strong> The disk of this project cannot be written, so it can be looked at, and nothing you"
    " draw is saved."
)


class ProjectSidebar:
    """The column's components, and what fills them."""

    def __init__(self, session: Session, state: gr.State) -> None:
        self.session, self.state = session, state
        # never seen: pressed when the file is written
        self.ready = gr.DownloadButton("File", elem_id="annotate-file", render=False)
        if self.project is not None:
            self._project(self.project)
        else:
            self.user = gr.State("")
            gr.HTML(html.note(ALONE))
            self._image()
        self.ready.render()

    @property
    def project(self) -> Project | None:
        """The project that the reader of this page works in."""
        return self.session.project

    def _project(self, project: Project) -> None:
        """Lay out the parts that need a project; they are updated for the first time when the page is opened."""
        self.warning = gr.HTML("")
        self.user = gr.Textbox("", label="Your initials, for the log", lines=1, max_length=40, elem_classes="initials")
        self.readers = ReadersPanel(self.session, self.user, self.ready)
        self.classes = class_bar.component()
        self.list = gr.HTML(
            json.dumps({"version": 0, "current": ""}),
            html_template=queue.markup(),
            js_on_load=read_scripts("images", "image_list"),
            apply_default_css=False,
            elem_id="annotate-queue",
            server_functions=queue.server_functions(
                project, lambda name: self.session.require_views().view(name).project
            ),
        )
        self.notice = gr.HTML("")
        with gr.Accordion("Add images", open=not project.items(), elem_id="annotate-add") as self.adding:
            self.add = gr.File(
                label="Pictures, volumes, DICOM files or zips", file_count="multiple", type="filepath", height=130
            )
            self.modality = gr.Radio(
                [("Tell from the file", ""), *((NAMES[one], one) for one in MODALITIES)],
                value="",
                label="What are they?",
            )
            self.propose = gr.Button("Propose masks for all")
        self.retrain = RetrainPanel(self.session, self.user)
        self._image()
        with gr.Accordion("Export all", open=False):
            self.form = gr.Radio(
                [(title, name) for name, title in session_files.FORMATS.items()], value="folder", label="As"
            )
            self.chosen = gr.Radio(
                [(title, name) for name, title in session_files.WHICH.items()], value="accepted", label="Which"
            )
            self.names = gr.Radio(
                [(title, name) for name, title in session_files.NAMES.items()],
                value="keep",
                label="Names of the files",
                info=NAMES_INFO,
            )
            self.label = gr.Radio(list(session_files.LABELS), value="lesion", label="Label of images without a class")
            self.send = gr.Button("Download as a zip", variant="primary")
        with gr.Accordion("Import masks", open=False):
            gr.HTML(
                '<p class="small">Files named like the images, a zip of them, COCO JSON or DICOM-SEG. They are saved,'
                " and wait to be accepted. Classes come with them, or from a CSV with the columns name and class.</p>"
            )
            self.masks = gr.File(label="Masks", type="filepath", height=110)
        with gr.Accordion("What was done", open=False):
            self.log = gr.HTML("")
            self.save_log = gr.Button("Download the log", size="sm")

    def _image(self) -> None:
        with gr.Accordion("This image", open=self.project is None):
            self.one = gr.Radio([("PNG", "png")], value="png", label="Its mask as")
            self.save_one = gr.Button("Download the mask", variant="secondary" if self.project else "primary")
            self.save_history = gr.Button("Download what was done to it", size="sm")
            self.truth = gr.Button("Use as the truth in the other tabs", size="sm")
            self.structure = gr.Number(1, visible=False)  # of several, the one that is used as the truth

    @property
    def outputs(self) -> list:
        """The components that ``update`` sets."""
        return [self.one] + (
            [self.warning, self.classes, self.list, self.log, self.add, self.modality, self.adding]
            if self.project
            else []
        )

    def update(self, annotation: AnnotationSession | None) -> dict:
        """Update the column to the project and the image on screen."""
        shows = {}
        if annotation is not None and annotation.case is not None:
            allowed = export.formats(annotation.case.scan)
            shows[self.one] = gr.Radio([(ONE[name], name) for name in allowed], value=allowed[0])
        if self.project is not None:
            read_only = html.note(READ_ONLY, "warning") if self.project.read_only else ""
            shows |= {self.warning: read_only + warn_untrained(annotation)} | self.update_list(annotation)
            # images are added by the first reader; the consensus begins with the masks of the readers
            view = self.session.require_view()
            if view.name:
                hidden = gr.update(visible=False)
                shows |= {
                    self.add: hidden,
                    self.modality: hidden,
                    self.adding: gr.Accordion("Proposals", visible=not view.is_consensus),
                }
        return shows

    def update_list(self, annotation: AnnotationSession | None) -> dict:
        """Update the list and the log."""
        current = "" if annotation is None or annotation.case is None else annotation.case.item
        view = self.session.require_view()
        shown = class_bar.show(view.project, current, can_edit=not view.name)
        return {
            self.classes: shown,
            self.list: queue.pointer(view.project, current),
            self.log: queue.done(view.project),
        }

    def listen(self) -> None:
        """Connect the events of the column, except those of the list, which puts images on screen."""
        on_event(
            self.save_one.click,
            self._one,
            [self.one, self.state],
            self.ready,
            show_progress_on=self.save_one,
            show_progress="minimal",
        ).then(None, js=PRESS)
        on_event(
            self.save_history.click,
            self._history,
            [self.state],
            self.ready,
            show_progress_on=self.save_history,
            show_progress="minimal",
        ).then(None, js=PRESS)
        if self.project is None:
            return
        self.retrain.listen()
        self.readers.listen()
        shown, held = [self.notice, *self.outputs], [self.state]
        self.session.on_open(show_user, [], self.user)
        on_event(
            self.classes.act,
            self._class,
            [self.user, self.state],
            self.outputs,
            trigger_mode="multiple",
            saves=True,
            may_lose=held,
        )
        self.added = on_event(
            self.add.upload,
            self._add,
            [self.add, self.modality, self.user, self.state],
            [self.add, self.adding, *shown],
            lane=LONG,
            may_lose=held,
        )

        def propose_on(listen: Callable) -> gr.events.Dependency:
            inputs = [self.user, self.state]
            return on_event(listen, self._propose, inputs, shown, concurrency_limit=1, lane=LONG, may_lose=held)

        propose_on(self.propose.click)
        self.proposed = propose_on(self.added.success)
        exported = [self.form, self.chosen, self.label, self.names]
        sending = on_event(
            self.send.click,
            self._export,
            exported,
            [self.ready, self.notice],
            show_progress_on=self.send,
            lane=LONG,
            show_progress="minimal",
        )
        sending.success(None, js=PRESS)
        on_event(self.save_log.click, self._log, [], self.ready).then(None, js=PRESS)

    def _class(self, user: str, annotation: AnnotationSession | None, event: gr.EventData) -> dict:
        view = self.session.require_view()
        class_bar.handle(view.project, event, author(user), can_edit=not view.name)
        return self.update_list(annotation)

    def _add(self, paths: list[str] | None, modality: str, user: str, annotation: AnnotationSession | None) -> dict:
        self.refuse_other_readers()
        project = self.session.require_project()
        count, notes = session_files.add(project, [Path(path) for path in paths or ()], modality or None, author(user))
        shown = [
            f"{count} new image{'s' * (count != 1)}." if count or notes else "These images are here already.",
            *notes,
        ]
        return {
            self.add: None,
            self.adding: gr.Accordion(open=not project.items()),
            self.notice: html.notes(shown, bool(notes)),
        } | self.update(annotation)

    def _propose(self, user: str, annotation: AnnotationSession | None) -> Iterator[dict]:
        """Propose masks for all images that wait for one; yield a progress bar."""
        view = self.session.require_view()
        if view.is_consensus:
            raise user_error("the consensus is made of the readers' masks; networks propose none")
        notes, done = [], 0
        for done, count, problem in proposals.propose_all(view.project, self.session.annotation_registry, author(user)):
            notes += [problem] * bool(problem)
            yield {
                self.notice: queue.bar(
                    done / count, f"Proposing: {done} of {count}. You can go on working.", "Proposing"
                )
            } | (self.update_list(annotation) if done % OFTEN == 0 else {})
        made = done - len(notes)
        shown = f"{made} mask{'s' * (made != 1)} proposed." if done else "No image in the queue waits for a proposal."
        yield {self.notice: html.notes([shown, *notes], bool(notes))} | self.update_list(annotation)

    def _export(self, form: str, which: str, label: str, names: str) -> dict:
        try:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "annotations.zip"
                notes = transfer.write(self.session.require_project(), form, which, label, out, names).notes
                ready = gr.processing_utils.save_file_to_cache(out, self.ready.GRADIO_CACHE)
        except (ValueError, OSError) as error:
            raise user_error(error if isinstance(error, ValueError) else disk.sentence(error)) from None
        return {self.ready: ready, self.notice: html.notes(notes, True)}

    def import_masks(self, path: str | None, user: str) -> str:
        """Save the masks of an upload; returns the message about it."""
        if path is None:
            raise user_error("there is no upload; choose it again")
        try:
            count, notes = session_files.take(self.session.require_project(), Path(path), user)
        except UnreadableImage as refusal:
            return html.notes([str(refusal)], True)
        saved = (
            f"{count} image{'s' * (count != 1)} got a mask or a class; look at each and accept what is right."
            if count
            else "Nothing was imported."
        )
        return html.notes([saved, *notes], bool(notes))

    def refuse_other_readers(self) -> None:
        """Raise an error for the user on the page of another reader than the first."""
        if self.session.require_view().name:
            raise user_error("images are added and deleted by the first reader only")

    def _log(self) -> str:
        try:
            log = self.session.require_project().folder / "log.jsonl"
            return gr.processing_utils.save_file_to_cache(log, self.ready.GRADIO_CACHE)
        except OSError as error:
            raise user_error(disk.sentence(error)) from None

    def _one(self, form: str, annotation: AnnotationSession | None) -> str:
        annotation = require_image(annotation)
        case, map_xyz = annotation.case_on_screen, annotation.image.mask_xyz
        if form not in export.formats(case.scan):
            raise user_error(f"format {form!r}; allowed are {', '.join(export.formats(case.scan))}")
        defined = structures.defined(self.project) if self.project is not None and case.item else structures.USUAL
        mask_xyz = structures.renumber(map_xyz, defined)[0] if len(defined) > 1 else map_xyz > 0
        names = [one.name for one in defined] if len(defined) > 1 else ["lesion"]
        data, ending = export.write(case.scan, mask_xyz, form, "a person with MPS-AMS", labels=names)
        return to_cache(
            data, f"{export_names.make_safe(stem(self._name(case.item))) or 'lesion'}_mask{ending}", self.ready
        )

    def _name(self, id: str) -> str:
        """Return the file name of an image of the project, "" without one."""
        return self.project.item(id).name if self.project is not None and id else ""

    def _history(self, annotation: AnnotationSession | None) -> str:
        return to_cache(
            session_files.history(self.project, require_image(annotation).image), "what-was-done.json", self.ready
        )


def require_image(annotation: AnnotationSession | None) -> AnnotationSession:
    """Return the annotation session; show the user an error if no image is on its canvas."""
    if annotation is None or annotation.case is None:
        raise user_error("there is no image on the canvas; open one first, or open yours again")
    return annotation


def show_user(request: gr.Request) -> gr.Textbox:
    """Update the field for initials: it shows the name that was signed in with, which cannot be changed, or stays."""
    return gr.Textbox(request.username, interactive=False, label="Signed in as") if request.username else gr.Textbox()


def warn_untrained(annotation: AnnotationSession | None) -> str:
    """Return a warning where the network that proposes has never seen such images; "" otherwise."""
    if annotation is None or annotation.case is None or annotation.image.network is None:
        return ""
    return html.trained_elsewhere([training_data_of(annotation.image.network)], annotation.case.modality, NAMES)


def to_cache(data: bytes, name: str, near: gr.components.Component) -> str:
    """Write a file into gradio's cache, which is emptied by age; the folder's name is a hash of the content."""
    try:
        return gradio_compat.save_to_cache(data, name, near)
    except OSError as error:
        raise user_error(disk.sentence(error)) from None
