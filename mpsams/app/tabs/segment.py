"""Segment & compare: the lesion as outlined by every segmentation network at hand, beside the truth and where they
differ.

Over 250 lines because the pictures, the volume and the downloads of the tab share the predictions and their thresholds.

Axes: H x W pixels of the slice; X, Y, Z voxels as stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import gradio as gr
from markupsafe import Markup

from mpsams.app.components import html, network_grid, viewer, volume_report
from mpsams.app.components.planes import VolumePlanes
from mpsams.app.components.volume_report import Whole
from mpsams.app.events import on_event, user_error
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.segment_endpoints import DEFAULT, FORMATS, endpoints, write_mask
from mpsams.app.server.lanes import LONG, NETWORK
from mpsams.app.session import Session
from mpsams.imaging import export
from mpsams.inference import figure_rows, volumes
from mpsams.inference.case import NAMES, Case
from mpsams.inference.checkpoint_metadata import training_data_of
from mpsams.inference.comparison import (
    DEFAULT_THRESHOLD,
    SliceComparison,
    SlicePredictions,
    Thresholds,
    image_key,
    needed_results,
    predict_slice,
)
from mpsams.inference.figure_rows import CROPS, FORMS, MOST_ROWS, FigureRow
from mpsams.inference.network_names import choose_networks, is_assistant, titles_of
from mpsams.inference.registry import ModelRegistry
from mpsams.inference.slice_scores import slice_mask

__all__ = ["DEFAULT", "PLACE", "TITLE", "build"]
TITLE = "Segment & compare"
PLACE = 3

REDRAW_INTERVAL = 0.5  # seconds between two drawings while networks are asked
ORDERS = {"paper": "The paper's order", "dsc": "DSC, highest first"}
SCOPES = {"one": "The large picture", "all": "All networks"}
PRESS = "() => setTimeout(() => document.querySelector('#made-file').click(), 200)"
FILL = "share => document.documentElement.style.setProperty('--filling', share)"
INTRO = """<p class="lead"><strong>What you see.</strong> Networks of the same shape outline the lesion. They saw few
labelled images and differ in how they were pretrained without labels; the assistant, where there is one, learnt from
all labels and stands beside them. Where the probability of lesion reaches the threshold, a pixel is lesion. Choose a
small picture to see it large.</p>"""
MAKE = Markup("""<strong>No segmentation weights here.</strong> This panel needs networks like
<code>busi-mps_ams-seg-10</code> in the folder given by <code>--weights</code>. Make them with <code>python -m
train.finetune</code> after <code>python -m train.pretrain</code>; <code>--help</code> tells how. The Masking tab works
without any weights.""")


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoints /segment and /export."""
    tab = SegmentTab(session)
    endpoints(session.registry, tab.file)


class SegmentTab:
    """The components of the tab and their listeners.

    predictions: of the networks for the slice on screen; thresholds: those that were set on its image; whole: the
    predictions for the volume. pictures: the components that are drawn anew with each of these.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.registry = session, session.registry
        there = self.registry.segmenters(session.first.modality)
        usual = choose_networks(there, ())
        self.predictions = gr.State(SlicePredictions(session.first, {}))
        self.whole, self.due = gr.State(None), gr.State(0)
        self.thresholds = gr.State(Thresholds())
        self.rows = gr.State(())
        session.hold(self.predictions, self.whole, self.rows)
        gr.HTML(INTRO)
        self._lay_out_pictures(there, usual)
        self._lay_out_volume()
        self._lay_out_downloads(usual)
        self._listen_to_pictures()
        self._listen_to_volume()
        self._listen_to_downloads()

    def _lay_out_pictures(self, there: Sequence[str], usual: Sequence[str]) -> None:
        with gr.Row(elem_classes="controls", equal_height=True):
            self.threshold = gr.Slider(
                0.05, 0.95, DEFAULT_THRESHOLD, step=0.01, label="Threshold", min_width=220, buttons=[]
            )
            self.scope = gr.Radio(
                [(label, name) for name, label in SCOPES.items()], value="one", label="Threshold of", min_width=230
            )
            self.opacity = gr.Slider(0, 0.8, 0.25, step=0.05, label="Opacity", min_width=140, buttons=[])
            self.reset = gr.Button("Reset thresholds", size="sm", min_width=130, scale=0)
        self.verdict = gr.HTML("", elem_classes="stage")
        viewer.build(self.session)
        with gr.Row(elem_classes="compare"):
            self.large = gr.HTML("", elem_classes="large")
            with gr.Column(min_width=0):
                self.order = gr.Radio(
                    [(label, name) for name, label in ORDERS.items()],
                    value="paper",
                    show_label=False,
                    elem_classes="order",
                )
                self.cells = gr.HTML("", js_on_load=network_grid.SELECT)
                self.bars = gr.HTML("", elem_classes="stage")
        self.taught = gr.HTML("", elem_classes="stage")
        self.pictures = [self.verdict, self.large, self.cells, self.bars, self.taught]
        with gr.Accordion("Networks to compare", open=False, visible=len(there) > 1) as self.networks:
            self.wanted = gr.CheckboxGroup(choices(there), value=usual, show_label=False)

    def _lay_out_volume(self) -> None:
        with gr.Row(elem_classes="controls", visible=False, equal_height=True) as self.deep:
            self.start = gr.Button("Segment the whole volume", variant="primary", min_width=200)
            self.stop = gr.Button("Stop", min_width=90, interactive=False)
        self.report = gr.HTML("", elem_classes="stage")
        self.planes = VolumePlanes(self.session, self.predictions, self.thresholds, self.whole)

    def _lay_out_downloads(self, usual: Sequence[str]) -> None:
        with gr.Row(elem_classes="controls export", equal_height=True):
            self.which = gr.Dropdown(choices(usual), value=next(iter(usual), None), label="Mask of", min_width=150)
            self.form = gr.Radio([("PNG", "png")], value="png", label="As", min_width=110)
            self.download = gr.Button("Download the mask", variant="primary", min_width=180)
        with gr.Row(elem_classes="controls export", equal_height=True):
            self.crop = gr.Radio(
                [(label, name) for name, label in CROPS.items()],
                value="whole",
                label="Comparison figure: crop",
                min_width=210,
            )
            self.paper = gr.Radio(
                [(label, name) for name, label in FORMS.items()], value="pdf", label="As", min_width=240
            )
        with gr.Row(elem_classes="controls export", equal_height=True):
            self.add = gr.Button("Add this image as a row", min_width=180)
            self.clear = gr.Button("Clear rows", min_width=110, interactive=False)
            self.print_it = gr.Button("Download the figure", min_width=180)
            self.file = gr.DownloadButton("File", elem_id="made-file")  # never seen: pressed when the file is written
        self.rows_note = gr.HTML("", elem_classes="stage")

    # --- the slice on screen

    def _listen_to_pictures(self) -> None:
        session, predictions, redraw = self.session, self.predictions, [self.predictions, self.thresholds, self.order]
        on_event(
            self.threshold.input,
            self._set_threshold,
            [self.threshold, self.scope, *redraw],
            [self.thresholds, *self.pictures],
        )
        resetting = on_event(
            self.reset.click, self._reset, [predictions, self.order], [self.thresholds, self.threshold, *self.pictures]
        )
        on_event(resetting.then, self._report, [session.case, self.whole, self.thresholds], self.report)
        on_event(self.order.input, self._show, redraw, self.pictures)
        on_event(self.opacity.input, None, [self.opacity], None, js=FILL)
        picking = on_event(
            self.cells.pick,
            self._pick,
            [predictions, self.thresholds],
            [predictions, self.large, self.which, self.threshold],
        )
        self.planes.follow(picking.then, self.report.change)
        settled = [
            self.deep,
            self.networks,
            self.wanted,
            self.form,
            self.download,
            self.whole,
            self.report,
            self.due,
            self.thresholds,
            self.threshold,
        ]
        session.keep_in_address({"networks": self.wanted}, self._read_networks)
        session.on_case(self._settle, [self.wanted, self.whole, self.thresholds], settled, may_lose=[self.whole])
        inputs = [session.case, self.thresholds, self.order, self.wanted, predictions]
        shows = [predictions, self.which, *self.pictures]
        asking = on_event(
            gr.on,
            self._infer,
            inputs,
            shows,
            triggers=[self.due.change, self.wanted.input],
            may_lose=[predictions],
            lane=NETWORK,
            needs=self._needed_results,
        )
        # a threshold may have been moved while they were asked
        on_event(asking.then, self._show, redraw, self.pictures)
        session.version.change(fn=None, cancels=[asking], api_visibility="private")  # nobody waits for the slice before

    def _show(self, now: SlicePredictions, thresholds: Thresholds, order: str) -> dict:
        compared = compare(now, thresholds)
        above, below = say(compared, self.registry)
        drawn = {self.verdict: above, self.large: network_grid.large(compared), self.taught: below}
        return drawn | {self.cells: network_grid.cells(compared, order), self.bars: network_grid.bars(compared, order)}

    def _infer(
        self, case: Case, thresholds: Thresholds, order: str, names: list[str], before: SlicePredictions
    ) -> Iterator[dict]:
        """Ask the networks that take part; yield what is known so far about twice a second."""
        names, drawn = choose_networks(self.registry.segmenters(case.modality), names), 0.0
        for now in predict_slice(case, names, self.registry, before):
            if not now.waiting or time.monotonic() - drawn > REDRAW_INTERVAL:
                picked = now.shown if now.shown in names else next(iter(names), None)
                yield {self.predictions: now, self.which: gr.Dropdown(choices(names), value=picked)} | self._show(
                    now, thresholds, order
                )
                drawn = time.monotonic()

    def _needed_results(
        self, case: Case, thresholds: object, order: str, names: list[str], before: SlicePredictions
    ) -> tuple:
        """Return the keys of the shared results that ``_infer`` asks networks for."""
        return needed_results(
            case, choose_networks(self.registry.segmenters(case.modality), names), self.registry, before
        )

    def _pick(self, now: SlicePredictions, thresholds: Thresholds, event: gr.EventData) -> dict:
        if event.index not in now.pictures:
            raise user_error(f"there is no picture {event.index!r}; there are: {', '.join(now.pictures)}")
        now = replace(now, shown=event.index)
        compared = compare(now, thresholds)
        shows = {self.predictions: now, self.large: network_grid.large(compared)}
        return shows | (
            {self.which: event.index, self.threshold: compared.threshold_of(event.index)}
            if event.index in now.probabilities
            else {}
        )

    def _set_threshold(
        self, threshold: float, scope: str, now: SlicePredictions, thresholds: Thresholds, order: str
    ) -> dict:
        """Set another threshold for the large network, or for all where none is large."""
        names = [now.shown] if scope == "one" and now.shown in now.probabilities else list(now.probabilities)
        try:
            thresholds = thresholds.change(now.case, names, threshold)
        except ValueError as error:
            raise user_error(error) from None
        return {self.thresholds: thresholds} | self._show(now, thresholds, order)

    def _reset(self, now: SlicePredictions, order: str) -> dict:
        return {self.thresholds: Thresholds(), self.threshold: DEFAULT_THRESHOLD} | self._show(now, Thresholds(), order)

    def _settle(self, case: Case, names: list[str], before: Whole | None, thresholds: Thresholds) -> dict:
        """Prepare the tab for another slice; for another image, also the choice of networks and formats, without the
        last one's settings and predictions.
        """
        there = self.registry.segmenters(case.modality)
        kept = volume_report.of(case, before)
        allowed = export.formats(case.scan)
        label = "Download the mask" + (
            " (of the whole volume)" if kept else " (of this slice)" if case.is_volume else ""
        )
        shows = {
            self.deep: gr.Row(visible=case.is_volume and bool(there)),
            self.download: gr.Button(label),
            self.networks: gr.Accordion(visible=len(there) > 1),
        }
        shows |= {self.wanted: gr.CheckboxGroup(choices(there), value=choose_networks(there, names))}
        shows |= {
            self.form: gr.Radio([(FORMATS[name], name) for name in allowed], value=allowed[0]),
            self.due: time.monotonic_ns(),
        }
        if thresholds.image != image_key(case):
            shows |= {self.thresholds: Thresholds(), self.threshold: DEFAULT_THRESHOLD}
        return shows | ({} if kept else {self.whole: None, self.report: ""})

    # --- the whole volume

    def _read_networks(self, values: Mapping[str, str], case: Case) -> dict:
        """Return updates for the networks that the page's address names; those that are not there are left out."""
        there = self.registry.segmenters(case.modality)
        return {
            self.wanted: gr.CheckboxGroup(
                choices(there), value=choose_networks(there, values.get("networks", "").split(","))
            )
        }

    def _listen_to_volume(self) -> None:
        on_event(self.threshold.release, self._report, [self.session.case, self.whole, self.thresholds], self.report)
        outputs = [self.whole, self.report, self.download, self.start, self.stop]
        going = on_event(self.start.click, self._run, [self.predictions, self.thresholds], outputs, lane=LONG)
        self.stop.click(fn=None, cancels=[going], api_visibility="private")
        on_event(
            self.stop.click,
            lambda: self._idle() | {self.report: html.note("Stopped.")},
            [],
            [self.report, self.start, self.stop],
        )

    def _idle(self) -> dict:
        return {self.start: gr.Button(interactive=True), self.stop: gr.Button(interactive=False)}

    def _report(self, case: Case, result: Whole | None, thresholds: Thresholds) -> str:
        return volume_report.summary(case, result, thresholds.on(case))

    def _run(self, now: SlicePredictions, thresholds: Thresholds) -> Iterator[dict]:
        case, names = now.case, list(now.probabilities)
        if not names:
            raise user_error("no network has answered for this slice yet; wait for its outline")
        self.session.reserve(len(case.scan.shown()) * sum(4 * self.registry.network(name).size ** 2 for name in names))
        busy = {self.start: gr.Button(interactive=False), self.stop: gr.Button(interactive=True)}
        for done, found in volumes.segment(case, [self.registry.network(name) for name in names]):
            if not found:
                yield busy | {self.report: volume_report.progress(done, case)}
        result = Whole(case.scan, dict(zip(names, found, strict=True)), now.parts)
        label = gr.Button("Download the mask (of the whole volume)")
        yield {
            self.whole: result,
            self.report: self._report(case, result, thresholds),
            self.download: label,
        } | self._idle()

    # --- downloads

    def _listen_to_downloads(self) -> None:
        inputs = [self.predictions, self.thresholds, self.which, self.form, self.whole]
        on_event(
            self.download.click,
            self._mask_file,
            inputs,
            self.file,
            lane=NETWORK,
            # no network is asked, but the mask of a volume takes its time
            needs=lambda *values: None if values[-1] else (),
            show_progress_on=self.download,
            show_progress="minimal",
        ).then(None, js=PRESS)
        changed = [self.rows, self.rows_note, self.clear]
        on_event(
            self.add.click,
            self._add_row,
            [self.predictions, self.thresholds, self.rows],
            changed,
            may_lose=[self.rows],
            show_progress_on=self.add,
            lane=NETWORK,
            show_progress="minimal",
        )
        on_event(self.clear.click, lambda: self._rows_updates(()), [], changed)
        inputs = [self.predictions, self.thresholds, self.rows, self.crop, self.paper]
        on_event(
            self.print_it.click,
            self._figure_file,
            inputs,
            self.file,
            may_lose=[self.rows],
            show_progress_on=self.print_it,
            lane=NETWORK,
            show_progress="minimal",
        ).then(None, js=PRESS)

    def _mask_file(
        self, now: SlicePredictions, thresholds: Thresholds, name: str, form: str, result: Whole | None
    ) -> str:
        if name not in now.probabilities:
            raise user_error("there is no network to make a mask with")
        whole, threshold = volume_report.of(now.case, result), compare(now, thresholds).threshold_of(name)
        if whole and name not in whole.predictions:
            raise user_error(f"{titles_of([name])[name]} has not seen the whole volume; segment it again")
        if whole:
            mask_xyz = whole.predictions[name].mask(now.case.scan, threshold)
        else:
            mask_xyz = slice_mask(now.case, now.probabilities[name], threshold, now.rules.get(name))
        return write_mask(now.case, mask_xyz, form, self.file)

    def _add_row(self, now: SlicePredictions, thresholds: Thresholds, rows: Sequence[FigureRow] | None) -> dict:
        """Add the image on screen as the last row of the figure."""
        if not now.probabilities or now.waiting:
            raise user_error("there is no image to add before every network has answered")
        if len(rows or ()) >= MOST_ROWS:
            raise user_error(f"a figure has at most {MOST_ROWS} rows; download this one, then clear the rows")
        return self._rows_updates((*(rows or ()), figure_rows.make_row(compare(now, thresholds))))

    def _rows_updates(self, rows: Sequence[FigureRow]) -> dict:
        listed = "; ".join(f"{number} {row.title}" for number, row in enumerate(rows, 1))
        note = html.note(Markup("<strong>Rows of the figure:</strong> {}.").format(listed)) if rows else ""
        return {self.rows: tuple(rows), self.rows_note: note, self.clear: gr.Button(interactive=bool(rows))}

    def _figure_file(
        self, now: SlicePredictions, thresholds: Thresholds, rows: Sequence[FigureRow] | None, crop: str, form: str
    ) -> str:
        """Draw the rows that were added as a file; without any, the image on screen."""
        if not rows and not now.probabilities:
            raise user_error("there is no network to draw a figure of")
        drawn = figure_rows.draw(rows or [figure_rows.make_row(compare(now, thresholds))], crop, form)
        return save_to_cache(drawn, f"comparison.{form}", self.file)


def compare(now: SlicePredictions, thresholds: Thresholds) -> SliceComparison:
    """Return the masks at the thresholds that were set on the image."""
    return SliceComparison(now, own=thresholds.on(now.case))


def choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return networks to choose from: titles and names, in the paper's order."""
    return [(title, name) for name, title in titles_of(names).items()]


def say(compared: SliceComparison, registry: ModelRegistry) -> tuple[str, str]:
    """Return the notes above and below the pictures: the networks' verdict in words, and what they were taught."""
    predictions = compared.predictions
    if not predictions.probabilities:
        return html.note(MAKE, "warning"), ""
    trained, case = [training_data_of(registry.network(name)) for name in predictions.probabilities], predictions.case
    assistant = next(
        (
            html.assistant(registry.metadata(name), registry.evaluation(name))
            for name in predictions.probabilities
            if is_assistant(name)
        ),
        "",
    )
    elsewhere = html.trained_elsewhere(trained, case.modality, NAMES)
    return elsewhere + network_grid.verdict(compared), (
        "" if elsewhere else assistant + html.taught_on(trained[0], case.plane)
    )
