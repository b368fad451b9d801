"""The sidebar: the case on screen and how to move through its volume, samples, uploads, display window, clustering.

Over 250 lines because the components of one column update each other, and every event returns them together.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr
from markupsafe import Markup

from mpsams import clusters, selectors, transforms
from mpsams.annotation.image_loader import ImageLoader
from mpsams.app.components import html, slice_view
from mpsams.app.events import on_event, user_error
from mpsams.app.gradio_compat.blocks import AGAIN
from mpsams.app.learn.state import SliceLink, parse_number, slug
from mpsams.app.session import Session
from mpsams.imaging import UnreadableImage
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.case import NAMES, Case

PICK_SAMPLE = """
element.addEventListener('click', event => {
    const sample = event.target.closest('[data-sample]');
    if (sample) trigger('pick', {index: Number(sample.dataset.sample)});
});"""
DRAWER_HEAD = (
    '<div class="drawer-head"><h2>Image and settings</h2><button type="button" data-close-side>Close</button></div>'
)
OPEN_FILE = "Open an image or volume"
FORMATS = """<p class="small">Or drop files anywhere on the page: PNG, JPEG, TIFF, NIfTI, DICOM, or a zip of them. They
stay on the computer that runs this app and are deleted within a day.</p>"""
SELECTORS = {
    "covariance-of-softmax": "Covariance of the softmax of similarity",
    "softmax-of-covariance": "Softmax of the covariance",
    "geodesic": "Geodesic (ours): how far the brightness falls on the way in from the border",
}
PLANES = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}
CUSTOM = "custom"
MAX_SEED = 2**31 - 1


class Sidebar:
    """The components of the sidebar and their listeners. all_outputs: the components that another case sets."""

    def __init__(self, session: Session) -> None:
        self.session = session
        first = session.first
        self.notice = gr.HTML("", elem_id="notice", render=False)  # above everything, where the page renders it
        gr.HTML(DRAWER_HEAD, elem_id="side-head")
        self.shown = gr.HTML(self._on_screen(first), elem_id="shown")
        with gr.Group(visible=False, elem_id="volume") as self.volume:
            self.slice = gr.Slider(1, 2, 1, step=1, label="Slice", buttons=[])
            self.plane = gr.Radio([(label, name) for name, label in PLANES.items()], value="axial", show_label=False)
        with gr.Group(visible=False, elem_id="window") as self.window:
            self.preset = gr.Dropdown([CUSTOM], value=CUSTOM, label="Display window (networks do not use it)")
            self.level = gr.Slider(-1000, 1000, 0, label="Level", buttons=[])
            self.width = gr.Slider(1, 4000, 400, label="Width", buttons=[])
        with gr.Column(elem_id="own"):
            self.file = gr.UploadButton(OPEN_FILE, file_count="multiple", type="filepath", variant="primary")
            gr.HTML(FORMATS)
            self.choice = gr.Dropdown([], label="The upload holds several images", visible=False, type="index")
        gallery = gr.HTML(slice_view.gallery(session.cases, session.volumes), js_on_load=PICK_SAMPLE, elem_id="samples")
        with gr.Accordion("Modality and lesion mask", open=False, elem_id="image-details"):
            self.modality = gr.Radio(
                [("From the file", ""), *((NAMES[m], m) for m in _case.MODALITIES)], value="", label="Modality"
            )
            self.truth = gr.File(label="Lesion mask of the same size", type="filepath", height=120)
        with gr.Accordion("How patches are clustered", open=False):
            self.selector = gr.Radio(
                [(SELECTORS[name], name) for name in clusters.SELECTORS],
                value=first.selector,
                label=(
                    "Selector: the paper’s “covariance matrix after a softmax” in either of its two readings, or ours"
                ),
            )
            self.seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed of the random order")
            reshuffle = gr.Button("Draw another order", size="sm")
        volume = [self.volume, self.slice, self.plane, self.window, self.preset, self.level, self.width]
        self._case_outputs = [session.case, session.version, self.notice]
        self._scan_outputs = [
            *self._case_outputs,
            *volume,
            self.modality,
            self.choice,
            self.file,
            self.truth,
            self.selector,
        ]
        self.all_outputs = [*self._scan_outputs, self.seed]
        self._listen(gallery, reshuffle)

    def _listen(self, gallery: gr.HTML, reshuffle: gr.Button) -> None:
        """Attach the listeners of the sidebar."""
        case, case_outputs, scan_outputs = self.session.case, self._case_outputs, self._scan_outputs
        on_event(
            gallery.pick,
            self._open_sample,
            [self.seed],
            self.all_outputs,
            show_progress="minimal",
            show_progress_on=self.shown,
        )
        on_event(
            self.file.upload,
            self._open,
            [self.file, self.modality, self.seed, case],
            scan_outputs,
            may_lose=[case],
            show_progress="minimal",
            show_progress_on=self.shown,
        )
        on_event(
            self.choice.input,
            self._choose,
            [self.file, self.choice, self.modality, self.seed, case],
            scan_outputs,
            may_lose=[case],
            show_progress="minimal",
            show_progress_on=self.shown,
        )
        on_event(
            self.modality.input,
            self._set_modality,
            [self.file, self.modality, self.seed, case],
            scan_outputs,
            may_lose=[case],
        )
        on_event(self.slice.input, self._move, [self.slice, self.plane, case], case_outputs)
        on_event(self.plane.input, self._move, [self.slice, self.plane, case], scan_outputs)
        on_event(self.preset.input, self._set_preset, [self.preset, case], [*case_outputs, self.level, self.width])
        for slider in (self.level, self.width):
            on_event(slider.input, self._set_window, [self.level, self.width, case], [*case_outputs, self.preset])
        on_event(
            self.truth.upload,
            self._set_truth,
            [self.truth, case],
            case_outputs,
            show_progress="minimal",
            show_progress_on=self.shown,
        )
        on_event(self.truth.clear, self._set_truth, [self.truth, case], case_outputs)
        on_event(
            gr.on,
            self._cluster,
            [self.seed, self.selector, case],
            case_outputs,
            triggers=[self.seed.input, self.selector.input],
        )
        on_event(reshuffle.click, self._reshuffle, [self.selector, case], [self.seed, *case_outputs])
        self.session.on_case(self._on_screen, [], self.shown)

    def link_controls(self, reshuffle: Callable, set_selector: Callable) -> None:
        """Let events of a tab draw another order, and set the ``selector`` they carry."""
        on_event(reshuffle, self._reshuffle, [self.selector, self.session.case], [self.seed, *self._case_outputs])
        on_event(set_selector, self._set_selector, [self.seed, self.session.case], [self.selector, *self._case_outputs])

    def open_link(self, link: SliceLink) -> dict:
        """Return updates that show the slice of a sample that a link names. ValueError names what is not allowed."""
        session = self.session
        seed, selector = parse_number("seed", link.seed, 0, MAX_SEED), selectors.current_name(link.selector)
        if selector and selector not in SELECTORS:
            raise ValueError(f"selector {selector!r}; allowed are {', '.join(SELECTORS)}")
        case = self._case_of(link)
        options = session.clustering(case.modality, seed, selector or None)
        if not link.plane and not link.slice:
            return self.show_case(_case.recluster(case, options))
        return self.show_case(move_to_link(case, link, options))

    def _case_of(self, link: SliceLink) -> Case:
        """Return the sample, or the image of the project, that a link names; without either the first case."""
        session = self.session
        titles = {slug(sample.title): index for index, sample in enumerate(session.samples)}
        if link.sample and link.sample not in titles:
            raise ValueError(f"sample {link.sample!r}; allowed are {', '.join(titles)}")
        if not link.image:
            return session.sample(titles[link.sample]) if link.sample else session.first
        if session.project is None:
            raise ValueError(f"image {link.image!r}; no project is open")
        return ImageLoader(session.registry, session.project, session.reserve).case_of(session.project.item(link.image))

    def link_to(self, case: Case) -> SliceLink:
        """Return the link to what is on screen; an empty one of an upload, which no link restores; without defaults."""
        if not case.item and not self.session.is_sample(case):
            return SliceLink()
        name = {"image": case.item} if case.item else {"sample": slug(case.title)}
        where = {"plane": case.plane, "slice": str(case.index + 1)} if case.is_volume else {}
        usual = self.session.clustering(case.modality)["selector"]
        return SliceLink(**name, **where, selector="" if case.selector == usual else case.selector, seed=str(case.seed))

    def _on_screen(self, case: Case) -> str:
        """Return the slice on screen, with the part of the page's address that names it."""
        query = {
            name: value for name, value in asdict(self.link_to(case)).items() if value != getattr(SliceLink(), name)
        }
        return Markup('<div data-address="{}">{}</div>').format(urlencode(query), slice_view.current_slice(case))

    def show_case(self, case: Case) -> dict:
        """Return updates of ``all_outputs`` that show another case, which was not uploaded here."""
        return self._scan_updates(case) | {self.file: None, self.truth: None, self.modality: "", self.seed: case.seed}

    def case_updates(self, case: Case) -> dict:
        """Return updates for any change of the case."""
        return {self.session.case: case, self.session.version: str(time.monotonic_ns()), self.notice: ""}

    def _scan_updates(self, case: Case) -> dict:
        """Return updates for another scan, modality or plane: also the controls that fit it."""
        presets, (low, high), (level, width) = (
            slice_view.presets(case),
            slice_view.extent(case),
            transforms.middle(*case.display_span),
        )
        step = max((high - low) / 1000, 1e-4) if high - low < 100 else 1
        several = len(case.scan.choices) > 1
        return self.case_updates(case) | {
            self.volume: gr.Group(visible=case.is_volume),
            self.slice: gr.Slider(maximum=max(2, case.slices), value=case.index + 1),
            self.plane: gr.Radio(
                [(PLANES[p], p) for p in case.scan.planes], value=case.plane, visible=len(case.scan.planes) > 1
            ),
            self.window: gr.Group(visible=bool(presets)),
            self.preset: gr.Dropdown([*presets, CUSTOM], value=next(iter(presets), CUSTOM)),
            self.level: gr.Slider(minimum=low, maximum=high, value=level, step=step),
            self.width: gr.Slider(minimum=step, maximum=high - low, value=width, step=step),
            self.choice: gr.Dropdown(
                list(case.scan.choices), value=case.scan.choices[case.scan.choice] if several else None, visible=several
            ),
            self.selector: case.selector,
        }

    def _error_updates(self, error: Exception, case: Case | None) -> dict:
        """Return updates after a file that cannot be opened: its message, and what is still shown, None if unknown."""
        still = Markup(" <br>Still showing: {}.").format(case.title) if case else ""
        words = Markup("<strong>This file cannot be used.</strong> {}{}").format(error, still)
        return {self.notice: html.toast(words)}

    def _open_sample(self, seed: float | None, event: gr.EventData) -> dict:
        count = len(self.session.cases) + len(self.session.volumes)
        if not isinstance(event.index, int) or not 0 <= event.index < count:
            raise user_error(f"there is no sample {event.index!r}; allowed are 0 to {count - 1}")
        case = self.session.sample(event.index)
        return self.show_case(_case.recluster(case, self.session.clustering(case.modality, seed)))

    def _open(
        self, paths: list[str] | None, modality: str, seed: float | None, case: Case | None, choice: int = 0
    ) -> dict:
        if not paths:
            return {self.notice: ""}
        try:
            opened = open_case.open_upload(
                [Path(path) for path in paths], modality or None, lambda m: self.session.clustering(m, seed), choice
            )
        except UnreadableImage as error:
            return self._error_updates(error, case) | {self.file: None}
        return self._scan_updates(opened) | {self.truth: None}

    def _choose(
        self, paths: list[str] | None, choice: int | None, modality: str, seed: float | None, case: Case | None
    ) -> dict:
        return self._open(paths, modality, seed, case, choice or 0)

    def _set_modality(self, paths: list[str] | None, modality: str, seed: float | None, case: Case | None) -> dict:
        if case is None and not paths:
            raise user_error(AGAIN)
        if case is None or not modality:
            return self._open(paths, modality, seed, case, case.scan.choice if case else 0)
        return self._scan_updates(_case.set_modality(case, modality, self.session.clustering(modality, seed)))

    def _move(self, number: float, plane: str, case: Case) -> dict:
        options = self.session.clustering(case.modality, case.seed, case.selector)
        moved = _case.move_to_slice(case, plane, int(number) - 1, options)
        return self.case_updates(moved) if plane == case.plane else self._scan_updates(moved)

    def _set_preset(self, name: str, case: Case) -> dict:
        level, width = slice_view.presets(case).get(name, transforms.middle(*case.display_span))
        return self.case_updates(_case.set_window(case, transforms.ends(level, width))) | {
            self.level: level,
            self.width: width,
        }

    def _set_window(self, level: float, width: float, case: Case) -> dict:
        return self.case_updates(_case.set_window(case, transforms.ends(level, width))) | {self.preset: CUSTOM}

    def _set_truth(self, path: str | None, case: Case) -> dict:
        try:
            self.session.reserve(case.scan.voxels_xyz.size if path else 0)
            return self.case_updates(_case.set_truth(case, Path(path) if path else None))
        except UnreadableImage as error:
            return self._error_updates(error, case)

    def _cluster(self, seed: float | None, selector: str, case: Case) -> dict:
        return self.case_updates(_case.recluster(case, self.session.clustering(case.modality, seed, selector)))

    def _set_selector(self, seed: float | None, case: Case, event: gr.EventData) -> dict:
        if event.selector not in SELECTORS:
            raise user_error(f"there is no selector {event.selector!r}; allowed are {', '.join(SELECTORS)}")
        return self._cluster(seed, event.selector, case) | {self.selector: event.selector}

    def _reshuffle(self, selector: str, case: Case) -> dict:
        seed = secrets.randbelow(10_000)
        return self._cluster(seed, selector, case) | {self.seed: seed}


def move_to_link(case: Case, link: SliceLink, options: dict) -> Case:
    """Return a case at the plane and slice that a link names. ValueError names what is not allowed."""
    plane = link.plane or case.plane
    middle = _case.move_to_slice(case, plane, case.index, options)
    index = parse_number("slice", link.slice or str(middle.index + 1), 1, middle.slices) - 1
    return _case.move_to_slice(middle, plane, index, options)
