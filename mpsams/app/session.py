"""What one browser tab shares between the panels: the case on screen and how it is replaced; the sidebar."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from mpsams import clusters, selectors, transforms
from mpsams.annotation.project import Project
from mpsams.app.components import html, slice_view
from mpsams.app.learn.walk import Place, number, slug
from mpsams.app.server import uploads
from mpsams.datasets import phantom
from mpsams.imaging import UnreadableImage
from mpsams.inference import case as _case
from mpsams.inference.case import NAMES, Case
from mpsams.inference.registry import ModelRegistry

PICK_SAMPLE = """
element.addEventListener('click', event => {
    const chosen = event.target.closest('[data-sample]');
    if (chosen) trigger('pick', {index: Number(chosen.dataset.sample)});
});"""
READINGS = {
    "covariance-of-softmax": "Covariance of the softmax of similarity",
    "softmax-of-covariance": "Softmax of the covariance",
    "geodesic": "Geodesic, our own: how far down every path from the border goes",
}
SAVES = {"concurrency_id": uploads.SAVES, "concurrency_limit": 4}  # for listeners that save: they wait for nothing else
PLANES = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}
FREE = "free"


class Session:
    """The page being built: its networks, its project of annotations (or None), the case it opens with, and the components every panel may read.

    case: ``gr.State`` holding the Case. version: ``gr.State`` holding a string that changes with the case,
    so that no tensor is ever compared. every: the components that another case sets. first: the Case shown before anything
    was asked of the server. open_tab: hidden text with the name of the tab in front; opens: which that is at first.
    tabs: all of them, rendered by the page.
    """

    def __init__(self, registry: ModelRegistry, project: Project | None, opens: str) -> None:
        self.registry, self.project = registry, project
        self.cases = [_case.of_sample(sample, self._how(sample.modality)) for sample in phantom.samples()]
        self.volumes = phantom.volumes()
        self.volume = functools.cache(lambda index: _case.of_volume(self.volumes[index], self._how(self.volumes[index].modality)))
        self.first = self.cases[0]
        self.case = gr.State(self.first)
        self.version = gr.State("first")
        self.room: Callable[[int], None] = lambda size: None  # asks for so many bytes of memory for who asked; NoRoom where there are none
        self.hold(self.case)
        self.open_tab = gr.Textbox(opens, visible=False, label="tab in front")
        self.tabs = gr.Tabs(selected=opens, elem_id="tabs", overflow_behavior="wrap", render=False)
        self._tab: gr.Tab | None = None

    def hold(self, *states: gr.State) -> None:
        """Hold the values of these within the page's budget of memory; they are let go of when it is needed."""
        page = gr.context.Context.root_block
        if isinstance(page, uploads.UploadsOnly):
            page.hold(states)
            self.room = page.budget.room

    def on_case(self, show: Callable, inputs: Sequence, outputs: Sequence | gr.components.Component, **more) -> None:
        """Call ``show(case, *inputs)`` for the outputs whenever another case is on screen.

        What belongs to a tab is called only while that is open, and when it is opened. more: as ``on_event`` takes it.
        """
        tab, asked = self._tab, [self.case, *inputs]
        if tab is None:
            on_event(self.version.change, show, asked, outputs, **more)
            return
        count = len(outputs) if isinstance(outputs, Sequence) else 1

        def if_open(open_tab: str, *values):
            return show(*values) if open_tab == tab.id else (gr.skip(),) * count if count > 1 else gr.skip()

        on_event(self.version.change, if_open, [self.open_tab, *asked], outputs, **more)
        on_event(tab.select, show, asked, outputs, **more)

    @contextmanager
    def within(self, tab: gr.Tab) -> Iterator[None]:
        """While a panel is built: what it shows belongs to this tab."""
        on_event(tab.select, None, [], self.open_tab, js=f"() => {tab.id!r}")  # in the browser, so that selections stay in order
        self._tab = tab
        yield
        self._tab = None

    def on_open(self, show: Callable, inputs: Sequence, outputs: Sequence | gr.components.Component) -> None:
        """Call ``show(*inputs)`` when the page is opened, for what cannot be laid out beforehand."""
        on_event(gr.context.Context.root_block.load, show, inputs, outputs)

    def sidebar(self) -> None:
        """The slice on screen and how to move through its volume, samples, uploads, and how patches are clustered."""
        self.shown = gr.HTML(slice_view.now(self.first), elem_id="shown")
        with gr.Group(visible=False, elem_id="volume") as self.moving:
            self.slice = gr.Slider(1, 2, 1, step=1, label="Slice", buttons=[])
            self.plane = gr.Radio([(says, name) for name, says in PLANES.items()], value="axial", show_label=False)
        with gr.Group(visible=False, elem_id="window") as self.brightness:
            self.preset = gr.Dropdown([FREE], value=FREE, label="Window, for your eyes only")
            self.level = gr.Slider(-1000, 1000, 0, label="Level", buttons=[])
            self.width = gr.Slider(1, 4000, 400, label="Width", buttons=[])
        gallery = gr.HTML(slice_view.gallery(self.cases, self.volumes), js_on_load=PICK_SAMPLE, elem_id="samples")
        with gr.Accordion("Open your own", open=False, elem_id="own"):
            self.file = gr.File(label="Image, NIfTI volume or DICOM files", file_count="multiple", type="filepath", height=120)
            self.notice = gr.HTML("", elem_id="notice")
            self.choice = gr.Dropdown([], label="There are several in it", visible=False, type="index")
            self.modality = gr.Radio([("Tell from the file", ""), *((NAMES[m], m) for m in _case.MODALITIES)], value="", label="What is it?")
            self.truth = gr.File(label="Its lesion mask, if you have one (same size)", type="filepath", height=120)
            gr.HTML(
                '<p class="small">PNG, JPEG, TIFF (8 or 16 bit), NIfTI (.nii, .nii.gz), DICOM (one file, all files of a series at once, '
                "or a zip of them). Files stay on the computer that runs this app and are deleted within a day.</p>"
            )
        with gr.Accordion("How patches are clustered", open=False):
            self.selector = gr.Radio(
                [(READINGS[name], name) for name in clusters.SELECTORS],
                value=self.first.selector,
                label="By the paper's “covariance matrix after a softmax”, read in one of two ways, or by",
            )
            self.seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed of the random order")
            another = gr.Button("Draw another order", size="sm")
        self._listen(gallery, another)

    def _listen(self, gallery: gr.HTML, another: gr.Button) -> None:
        """What happens when something in the sidebar is touched."""
        told = [self.case, self.version, self.notice]
        moves = [self.moving, self.slice, self.plane, self.brightness, self.preset, self.level, self.width]
        every = [*told, *moves, self.modality, self.choice, self.file, self.truth, self.selector]
        self.every = [*every, self.seed]
        long = {"show_progress": "minimal", "show_progress_on": self.shown}
        on_event(gallery.pick, self._pick, [self.seed], self.every, **long)
        again = {"may_lose": [self.case]}
        on_event(self.file.upload, self._open, [self.file, self.modality, self.seed, self.case], every, **again, **long)
        on_event(self.choice.input, self._choose, [self.file, self.choice, self.modality, self.seed, self.case], every, **again, **long)
        on_event(self.modality.input, self._call, [self.file, self.modality, self.seed, self.case], every, **again)
        on_event(self.slice.input, self._move, [self.slice, self.plane, self.case], told)
        on_event(self.plane.input, self._move, [self.slice, self.plane, self.case], every)
        on_event(self.preset.input, self._preset, [self.preset, self.case], [*told, self.level, self.width])
        for slider in (self.level, self.width):
            on_event(slider.input, self._free, [self.level, self.width, self.case], [*told, self.preset])
        on_event(self.truth.upload, self._truth, [self.truth, self.case], told, **long)
        on_event(self.truth.clear, self._truth, [self.truth, self.case], told)
        on_event(gr.on, self._cluster, [self.seed, self.selector, self.case], told, triggers=[self.seed.input, self.selector.input])
        on_event(another.click, self._again, [self.selector, self.case], [self.seed, *told])
        self.on_case(slice_view.now, [], self.shown)

    def link_controls(self, reshuffle: Callable, read: Callable) -> None:
        """Let events of a panel draw another order, and choose the ``selector`` they carry."""
        told = [self.case, self.version, self.notice]
        on_event(reshuffle, self._again, [self.selector, self.case], [self.seed, *told])
        on_event(read, self._read, [self.seed, self.case], [self.selector, *told])

    def in_front(self, tab: str) -> dict:
        """What brings a tab to the front, for outputs ``tabs`` and ``open_tab``."""
        return {self.tabs: gr.Tabs(selected=tab), self.open_tab: tab}

    def is_sample(self, case: Case) -> bool:
        """Whether a case is one of the samples, taken for what it is."""
        return (case.title, case.modality) in {(sample.title, sample.modality) for sample in (*self.cases, *self.volumes)}

    def recalled(self, place: Place) -> dict:
        """What putting a slice of a sample on screen sets, as a link names it. ValueError names what is not allowed."""
        titles = {slug(sample.title): index for index, sample in enumerate((*self.cases, *self.volumes))}
        seed, selector = number("seed", place.seed, 0, 2**31 - 1), selectors.current_name(place.selector)
        if place.sample and place.sample not in titles:
            raise ValueError(f"sample {place.sample!r}; allowed are {', '.join(titles)}")
        if selector and selector not in READINGS:
            raise ValueError(f"selector {selector!r}; allowed are {', '.join(READINGS)}")
        case = self._sample(titles.get(place.sample, 0))
        how = self._how(case.modality, seed, selector or None)
        if not place.plane and not place.slice:
            return self.shown_anew(_case.clustered(case, how))
        plane = place.plane or case.plane
        middle = _case.moved(case, plane, case.index, how)
        return self.shown_anew(_case.moved(middle, plane, number("slice", place.slice or str(middle.index + 1), 1, middle.slices) - 1, how))

    def entered(self, id: str, title: str) -> dict:
        """What putting an image of the project on screen sets. ValueError for an id that is not in it, or a file that is gone."""
        scan = self.project.scan(id)
        return self.shown_anew(_case.of_scan(title, scan, self._how(scan.modality), id))

    def shown_anew(self, case: Case) -> dict:
        """What putting another case on screen sets, for outputs ``every``."""
        return self._fresh(case) | {self.file: None, self.truth: None, self.modality: "", self.seed: case.seed}

    def _sample(self, index: int) -> Case:
        return self.cases[index] if index < len(self.cases) else self.volume(index - len(self.cases))

    def _how(self, modality: str, seed: float | None = 0, selector: str | None = None) -> dict:
        return _case.clustering(self.registry.clustering(modality), seed or 0, selector)

    def _as(self, case: Case) -> dict:
        """How the case on screen was clustered."""
        return self._how(case.modality, case.seed, case.selector)

    def _now(self, case: Case) -> dict:
        """What every change of the case sets."""
        return {self.case: case, self.version: str(time.monotonic_ns()), self.notice: ""}

    def _fresh(self, case: Case) -> dict:
        """What another scan, modality or plane sets besides: the controls that fit it."""
        presets, (low, high), (level, width) = slice_view.presets(case), slice_view.extent(case), transforms.middle(*case.seen)
        step = max((high - low) / 1000, 1e-4) if high - low < 100 else 1
        several = len(case.scan.choices) > 1
        return self._now(case) | {
            self.moving: gr.Group(visible=case.is_volume),
            self.slice: gr.Slider(maximum=max(2, case.slices), value=case.index + 1),
            self.plane: gr.Radio([(PLANES[p], p) for p in case.scan.planes], value=case.plane, visible=len(case.scan.planes) > 1),
            self.brightness: gr.Group(visible=bool(presets)),
            self.preset: gr.Dropdown([*presets, FREE], value=next(iter(presets), FREE)),
            self.level: gr.Slider(minimum=low, maximum=high, value=level, step=step),
            self.width: gr.Slider(minimum=step, maximum=high - low, value=width, step=step),
            self.choice: gr.Dropdown(list(case.scan.choices), value=case.scan.choices[case.scan.choice] if several else None, visible=several),
            self.selector: case.selector,
        }

    def _kept(self, refusal: Exception, case: Case | None) -> dict:
        """What a refusal sets: its own words, and what is still on screen; None is not known any more."""
        return {self.notice: html.note(f"{refusal}" + (f" <br>Still showing: {case.title}." if case else ""), "error")}

    def _pick(self, seed: float | None, event: gr.EventData) -> dict:
        count = len(self.cases) + len(self.volumes)
        if not isinstance(event.index, int) or not 0 <= event.index < count:
            raise user_error(f"there is no sample {event.index!r}; allowed are 0 to {count - 1}")
        case = self._sample(event.index)
        return self.shown_anew(_case.clustered(case, self._how(case.modality, seed)))

    def _open(self, paths: list[str] | None, modality: str, seed: float | None, case: Case | None, choice: int = 0) -> dict:
        if not paths:
            return {self.notice: ""}
        try:
            opened = _case.of_upload([Path(path) for path in paths], modality or None, lambda m: self._how(m, seed), choice)
        except UnreadableImage as refusal:
            return self._kept(refusal, case)
        return self._fresh(opened) | {self.truth: None}

    def _choose(self, paths: list[str] | None, choice: int | None, modality: str, seed: float | None, case: Case | None) -> dict:
        return self._open(paths, modality, seed, case, choice or 0)

    def _call(self, paths: list[str] | None, modality: str, seed: float | None, case: Case | None) -> dict:
        if case is None and not paths:
            raise user_error(uploads.AGAIN)
        if case is None or not modality:
            return self._open(paths, modality, seed, case, case.scan.choice if case else 0)
        return self._fresh(_case.called(case, modality, self._how(modality, seed)))

    def _move(self, number: float, plane: str, case: Case) -> dict:
        moved = _case.moved(case, plane, int(number) - 1, self._as(case))
        return self._now(moved) if plane == case.plane else self._fresh(moved)

    def _preset(self, name: str, case: Case) -> dict:
        level, width = slice_view.presets(case).get(name, transforms.middle(*case.seen))
        return self._now(_case.brightened(case, transforms.ends(level, width))) | {self.level: level, self.width: width}

    def _free(self, level: float, width: float, case: Case) -> dict:
        return self._now(_case.brightened(case, transforms.ends(level, width))) | {self.preset: FREE}

    def _truth(self, path: str | None, case: Case) -> dict:
        try:
            self.room(case.scan.voxels_xyz.size if path else 0)
            return self._now(_case.with_truth(case, Path(path) if path else None))
        except UnreadableImage as refusal:
            return self._kept(refusal, case)

    def _cluster(self, seed: float | None, selector: str, case: Case) -> dict:
        return self._now(_case.clustered(case, self._how(case.modality, seed, selector)))

    def _read(self, seed: float | None, case: Case, event: gr.EventData) -> dict:
        if event.selector not in READINGS:
            raise user_error(f"there is no selector {event.selector!r}; allowed are {', '.join(READINGS)}")
        return self._cluster(seed, event.selector, case) | {self.selector: event.selector}

    def _again(self, selector: str, case: Case) -> dict:
        seed = secrets.randbelow(10_000)
        return self._cluster(seed, selector, case) | {self.seed: seed}


def user_error(sentence: object) -> gr.Error:
    """A sentence for the user (or the caller of an endpoint) instead of a traceback."""
    return gr.Error(str(sentence), title="Not possible", print_exception=False)


def on_event(
    listen: Callable, fn: Callable | None, inputs: Sequence, outputs, may_lose: Sequence[gr.State] = (), **more
) -> gr.events.Dependency:
    """Attach a listener that is ours alone: no spinner over the pictures, the last of many events wins, no API.

    may_lose: of the inputs that are held, those of which None is taken where the page's budget let go of them.
    """
    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    listener = listen(fn=fn, inputs=inputs, outputs=outputs, **(quiet | more))
    page = gr.context.Context.root_block
    if fn is not None and isinstance(page, uploads.UploadsOnly):
        page.let_speak(page.fns[listener["id"]], may_lose)
        listener.update(page.fns[listener["id"]].get_config())
    return listener


def serialised(drawn: gr.components.Component) -> dict:
    """For all listeners that draw into one component: answered in the order asked, so that the last thing asked stays.

    Otherwise the answer to an earlier event can come after that to a later one and put an old picture back.
    One at a time among all visitors, so only for what is drawn quickly.
    """
    return {"concurrency_id": f"draws {drawn._id}", "concurrency_limit": 1}


def endpoint(name: str, fn: Callable, inputs: Sequence, outputs) -> None:
    """A named endpoint without anything on the page; refusals and ValueErrors reach the caller as sentences."""

    @functools.wraps(fn)
    def answer(*values):
        try:
            return fn(*values)
        except ValueError as error:
            raise user_error(error) from None

    gr.Button(visible=False).click(answer, inputs, outputs, api_name=name, show_progress="hidden")
