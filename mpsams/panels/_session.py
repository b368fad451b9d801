"""What one browser tab shares between the panels: the case on screen and how it is replaced; the sidebar."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Sequence

import gradio as gr

from mpsams import clusters, figures
from mpsams.datasets import phantom
from mpsams.imaging import UnreadableImage
from mpsams.panels import _case, _words
from mpsams.panels._case import NAMES, Case
from mpsams.panels._library import Library

PICK_SAMPLE = """
element.addEventListener('click', event => {
    const chosen = event.target.closest('[data-sample]');
    if (chosen) trigger('pick', {index: Number(chosen.dataset.sample)});
});"""
READINGS = {
    "covariance-of-softmax": "Covariance of the softmax of similarity",
    "softmax-of-covariance": "Softmax of the covariance",
}


class Session:
    """The page being built: its library, the case it opens with, and the components every panel may read.

    case: ``gr.State`` holding the Case. version: ``gr.State`` holding a string that changes with the case,
    so that no tensor is ever compared. first: the Case shown before anything was asked of the server.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.settings = library.clustering()
        self.samples = phantom.samples()
        self.cases = [_case.of_sample(sample, _case.clustering(self.settings)) for sample in self.samples]
        self.first = self.cases[0]
        self.case = gr.State(self.first)
        self.version = gr.State("first")

    def on_case(self, show: Callable, inputs: Sequence, outputs: Sequence | gr.components.Component) -> None:
        """Call ``show(case, *inputs)`` for the outputs whenever another case is on screen."""
        private(self.version.change, show, [self.case, *inputs], outputs)

    def on_open(self, show: Callable, inputs: Sequence, outputs: Sequence | gr.components.Component) -> None:
        """Call ``show(*inputs)`` when the page is opened, for what cannot be laid out beforehand."""
        private(gr.context.Context.root_block.load, show, inputs, outputs)

    def sidebar(self) -> None:
        """The case on screen, the built-in samples, uploads, and how patches are clustered."""
        shown = gr.HTML(now_showing(self.first), elem_id="shown")
        gallery = gr.HTML(self._gallery(), js_on_load=PICK_SAMPLE, elem_id="samples")
        with gr.Accordion("Open your own image", open=False, elem_id="own"):
            modality = gr.Radio([(NAMES[m], m) for m in _case.MODALITIES], value="ultrasound", label="What kind of image is it?")
            file = gr.File(label="PNG, JPEG or TIFF, 8 or 16 bit", type="filepath", height=120)
            notice = gr.HTML("", elem_id="notice")
            truth = gr.File(label="Its lesion mask, if you have one (same size)", type="filepath", height=120)
            gr.HTML('<p class="small">Files stay on the computer that runs this app and are deleted within a day.</p>')
        with gr.Accordion("How patches are clustered", open=False):
            reading = gr.Radio(
                [(READINGS[name], name) for name in clusters.READINGS],
                value=self.settings["reading"],
                label="The paper's “covariance matrix after a softmax”, read as",
            )
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed of the random order")
            again = gr.Button("Draw another order", size="sm")

        changed = [self.case, self.version, notice]
        private(gallery.pick, self._pick, [seed, reading], [*changed, file, truth])
        private(file.upload, self._open, [file, modality, seed, reading, self.case], [*changed, truth])
        private(modality.input, self._open, [file, modality, seed, reading, self.case], [*changed, truth])
        private(truth.upload, self._truth, [truth, self.case], changed)
        private(truth.clear, self._truth, [truth, self.case], changed)
        private(gr.on, self._cluster, [seed, reading, self.case], changed, triggers=[seed.input, reading.input])
        private(again.click, self._again, [reading, self.case], [seed, *changed])
        self.on_case(now_showing, [], shown)

    def _gallery(self) -> str:
        thumbs = "".join(
            f'<button type="button" data-sample="{i}"><img src="{case.picture}" alt=""><span>{case.title}</span></button>'
            for i, case in enumerate(self.cases)
        )
        return f"<h3>Samples to try</h3><div class='strip'>{thumbs}</div>"

    def _pick(self, seed: float | None, reading: str, event: gr.EventData):
        index = event.index
        if not isinstance(index, int) or not 0 <= index < len(self.cases):
            raise refused(f"there is no sample {index!r}; allowed are 0 to {len(self.cases) - 1}")
        how = _case.clustering(self.settings, seed or 0, reading)
        return _case.clustered(self.cases[index], how), _version(), "", None, None

    def _open(self, path: str | None, modality: str, seed: float | None, reading: str, case: Case):
        if path is None:
            return case, gr.skip(), "", gr.skip()
        try:
            how = _case.clustering(self.settings, seed or 0, reading)
            return _case.of_upload(_case.read_bytes(path), modality, how), _version(), "", None
        except UnreadableImage as refusal:
            return case, gr.skip(), still(refusal, case), gr.skip()

    def _truth(self, path: str | None, case: Case):
        try:
            return _case.with_truth(case, _case.read_bytes(path)), _version(), ""
        except UnreadableImage as refusal:
            return case, gr.skip(), still(refusal, case)

    def _cluster(self, seed: float | None, reading: str, case: Case):
        return _case.clustered(case, _case.clustering(self.settings, seed or 0, reading)), _version(), ""

    def _again(self, reading: str, case: Case):
        seed = secrets.randbelow(10_000)
        return seed, *self._cluster(seed, reading, case)


def _version() -> str:
    return str(time.monotonic_ns())


def still(refusal: Exception, case: Case) -> str:
    """A refusal in its own words, and what is still on screen."""
    return _words.note(f"{refusal} <br>Still showing: {case.title}.", "refused")


def refused(sentence: object) -> gr.Error:
    """A sentence for the user (or the caller of an endpoint) instead of a traceback."""
    return gr.Error(str(sentence), title="Not possible", print_exception=False)


def private(listen: Callable, fn: Callable, inputs: Sequence, outputs, **more) -> gr.events.Dependency:
    """Attach a listener that is ours alone: no spinner over the pictures, the last of many events wins, no API."""
    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    return listen(fn=fn, inputs=inputs, outputs=outputs, **(quiet | more))


def endpoint(name: str, fn: Callable, inputs: Sequence, outputs) -> None:
    """A named endpoint without anything on the page; refusals and ValueErrors reach the caller as sentences."""

    @functools.wraps(fn)
    def answer(*values):
        try:
            return fn(*values)
        except ValueError as error:
            raise refused(error) from None

    gr.Button(visible=False).click(answer, inputs, outputs, api_name=name, show_progress="hidden")


def now_showing(case: Case) -> str:
    """The image on screen with its truth, held once for the whole page as #case-image."""
    size = case.shape_hw
    layers = [figures.held("case-image", case.picture, size)]
    words = "no truth mask"
    if case.truth_hw is not None:
        layers.append(case.outline(size))
        words = "true lesion outlined" if case.truth_hw.any() else "truth mask without a lesion"
    picture = figures.svg(f"{case.title}, {words}", size, layers)
    return f'<figure class="film now"><div class="light">{picture}</div><figcaption><strong>{case.title}</strong><br>{case.origin}; {words}.</figcaption></figure>'
