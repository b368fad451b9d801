"""Segment & compare: the lesion as outlined by every segmentation network at hand, beside the truth and where they differ.

Axes: H x W pixels of the slice; X, Y, Z voxels as stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np

from mpsams.app import endpoints as answers
from mpsams.app.components import figure, html, network_grid, viewer, volume_report
from mpsams.app.components.volume_report import Whole
from mpsams.app.events import endpoint, on_event, user_error
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.server.lanes import LONG, NETWORK
from mpsams.app.session import Session
from mpsams.imaging import export, geometry
from mpsams.inference import shared, volumes
from mpsams.inference.case import MODALITIES, NAMES, Case, with_truth
from mpsams.inference.comparison import Compared, Said, ask, chosen, is_assistant, scores, slice_mask, titled
from mpsams.inference.registry import ModelRegistry, seen

TITLE = "Segment & compare"
PLACE = 3

OPENS_AT = 0.5
PATIENCE = 0.5  # seconds between two drawings while networks are asked
DEFAULT = "-mps_ams-seg-10"
FORMATS = {"png": "PNG", "nifti": "NIfTI", "dicom-seg": "DICOM-SEG, de-identified"}
PRESS = "() => setTimeout(() => document.querySelector('#made-file').click(), 200)"
FILL = "share => document.documentElement.style.setProperty('--filling', share)"
INTRO = """<p class="lead"><strong>What you see.</strong> Networks of the same shape outline the lesion. They saw few labelled images and differ in
how they were pretrained without labels; the assistant, where there is one, learnt from all labels and stands beside them.
Where the chance of lesion reaches the threshold, a pixel is lesion. Choose a small picture to see it large.</p>"""
MAKE = """<strong>No segmentation weights here.</strong> This panel needs networks like <code>busi-mps_ams-seg-10</code> in the folder given by
<code>--weights</code>. Make them with <code>python -m train.finetune</code> after <code>python -m train.pretrain</code>; <code>--help</code> tells how.
The Masking tab works without any weights."""


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoints /segment and /export."""
    registry, first = session.registry, session.first
    there = registry.segmenters(first.modality)
    usual, before = chosen(there, ()), Said(first, {})
    said, whole, due = gr.State(before), gr.State(None), gr.State(0)
    session.hold(said, whole)
    gr.HTML(INTRO)
    with gr.Row(elem_classes="controls", equal_height=True):
        threshold = gr.Slider(0.05, 0.95, OPENS_AT, step=0.01, label="Threshold on the chance of lesion", min_width=220, buttons=[])
        opacity = gr.Slider(0, 0.8, 0.25, step=0.05, label="Opacity of the filling", min_width=160, buttons=[])
    told = gr.HTML("", elem_classes="stage")
    viewer.build(session)
    with gr.Row(elem_classes="compare"):
        large = gr.HTML("", elem_classes="large")
        cells = gr.HTML("", js_on_load=network_grid.SELECT)
    taught = gr.HTML("", elem_classes="stage")
    with gr.Accordion("Which networks take part", open=False, visible=len(there) > 1) as who:
        wanted = gr.CheckboxGroup(choices(there), value=usual, show_label=False)
    with gr.Row(elem_classes="controls", visible=False, equal_height=True) as deep:
        start = gr.Button("Segment the whole volume", variant="primary", min_width=200)
        stop = gr.Button("Stop", min_width=90, interactive=False)
    report = gr.HTML("", elem_classes="stage")
    with gr.Row(elem_classes="controls export", equal_height=True):
        which = gr.Dropdown(choices(usual), value=next(iter(usual), None), label="Mask of", min_width=150)
        form = gr.Radio([("PNG", "png")], value="png", label="As", min_width=110)
        button = gr.Button("Download the mask", variant="primary", min_width=180)
    with gr.Row(elem_classes="controls export", equal_height=True):
        paper = gr.Radio([("PDF, vector", "pdf"), ("PNG, 300 dpi", "png")], value="pdf", label="All pictures in a row, for print", min_width=240)
        print_it = gr.Button("Download the figure", min_width=180)
        ready = gr.DownloadButton("File", elem_id="made-file")  # never seen: pressed when the file is written

    def show(now: Said, t: float) -> dict:
        compared = Compared(now, t)
        above, below = say(compared, registry)
        return {told: above, large: network_grid.large(compared), cells: network_grid.cells(compared), taught: below}

    def infer(case: Case, t: float, names: list[str], before: Said) -> Iterator[dict]:
        """Ask the networks that take part; what is known is shown about twice a second."""
        names, drawn = chosen(registry.segmenters(case.modality), names), 0.0
        for now in ask(case, names, registry, before):
            if not now.waiting or time.monotonic() - drawn > PATIENCE:
                picked = now.shown if now.shown in names else next(iter(names), None)
                yield {said: now, which: gr.Dropdown(choices(names), value=picked)} | show(now, t)
                drawn = time.monotonic()

    def pick(now: Said, t: float, event: gr.EventData) -> dict:
        if event.index not in now.pictures:
            raise user_error(f"there is no picture {event.index!r}; there are: {', '.join(now.pictures)}")
        now = replace(now, shown=event.index)
        return {said: now, large: network_grid.large(Compared(now, t))} | ({which: event.index} if event.index in now.chances else {})

    def settle(case: Case, names: list[str], before: Whole | None) -> dict:
        """Another slice is due; of another scan other networks and formats can be had, and what was said of the last volume goes."""
        there = registry.segmenters(case.modality)
        kept = volume_report.of(case, before)
        allowed = export.formats(case.scan)
        says = "Download the mask" + (" (of the whole volume)" if kept else " (of this slice)" if case.is_volume else "")
        shows = {deep: gr.Row(visible=case.is_volume and bool(there)), button: gr.Button(says), who: gr.Accordion(visible=len(there) > 1)}
        shows |= {wanted: gr.CheckboxGroup(choices(there), value=chosen(there, names))}
        shows |= {form: gr.Radio([(FORMATS[name], name) for name in allowed], value=allowed[0]), due: time.monotonic_ns()}
        return shows | ({} if kept else {whole: None, report: ""})

    def idle() -> dict:
        return {start: gr.Button(interactive=True), stop: gr.Button(interactive=False)}

    def run(now: Said, t: float) -> Iterator[dict]:
        case, names = now.case, list(now.chances)
        session.reserve(len(case.scan.shown()) * sum(4 * registry.network(name).size ** 2 for name in names))
        busy = {start: gr.Button(interactive=False), stop: gr.Button(interactive=True)}
        for done, found in volumes.segment(case, [registry.network(name) for name in names]):
            if found is None:
                yield busy | {report: volume_report.progress(done, case)}
        result = Whole(case.scan, dict(zip(names, found, strict=True)))
        done = {whole: result, report: volume_report.summary(case, result, t), button: gr.Button("Download the mask (of the whole volume)")}
        yield done | idle()

    def mask_file(now: Said, t: float, name: str, form: str, result: Whole | None) -> str:
        if name not in now.chances:
            raise user_error("there is no network to make a mask with")
        deep_one = volume_report.of(now.case, result)
        if deep_one and name not in deep_one.said:
            raise user_error(f"{titled([name])[name]} has not seen the whole volume; segment it again")
        return written(now.case, deep_one.said[name].mask(now.case.scan, t) if deep_one else slice_mask(now.case, now.chances[name], t, now.rules.get(name)), form, ready)

    def figure_file(now: Said, t: float, form: str) -> str:
        if not now.chances:
            raise user_error("there is no network to draw a figure of")
        return save_to_cache(figure.comparison(Compared(now, t), form), f"comparison.{form}", ready)

    pictures = [told, large, cells, taught]
    on_event(threshold.input, show, [said, threshold], pictures)
    on_event(threshold.release, lambda case, result, t: volume_report.summary(case, result, t), [session.case, whole, threshold], report)
    on_event(opacity.input, None, [opacity], None, js=FILL)
    on_event(cells.pick, pick, [said, threshold], [said, large, which])
    session.on_case(settle, [wanted, whole], [deep, who, wanted, form, button, whole, report, due], may_lose=[whole])
    asking = on_event(gr.on, infer, [session.case, threshold, wanted, said], [said, which, *pictures], triggers=[due.change, wanted.input], may_lose=[said], lane=NETWORK)
    on_event(asking.then, show, [said, threshold], pictures)  # the threshold may have been moved while they were asked
    session.version.change(fn=None, cancels=[asking], api_visibility="private")  # nobody waits for the slice before
    going = on_event(start.click, run, [said, threshold], [whole, report, button, start, stop], lane=LONG)
    stop.click(fn=None, cancels=[going], api_visibility="private")
    on_event(stop.click, lambda: idle() | {report: html.note("Stopped.")}, [], [report, start, stop])
    files = {"show_progress": "minimal", "lane": NETWORK}
    on_event(button.click, mask_file, [said, threshold, which, form, whole], ready, show_progress_on=button, **files).then(None, js=PRESS)
    on_event(print_it.click, figure_file, [said, threshold, paper], ready, show_progress_on=print_it, **files).then(None, js=PRESS)
    endpoints(registry, ready)


def endpoints(registry: ModelRegistry, button: gr.DownloadButton) -> None:
    """Register /segment and /export."""
    image, truth = (gr.File(type="filepath", visible=False, label=name) for name in ("image", "truth"))
    modality = gr.Textbox("", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says")
    threshold = gr.Number(OPENS_AT, visible=False, label="threshold in (0, 1)")
    weights = gr.Textbox("", visible=False, label="name of a segmentation network; empty for the assistant of the modality, else MPS-AMS")
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for all of them")
    form = gr.Textbox("", visible=False, label=f"format, one of {', '.join(FORMATS)}; empty for the one that fits the upload")

    def found(image, modality, weights, threshold, number, truth=None) -> tuple[str, Case, np.ndarray]:
        """The network's name, the case, and its mask on the grid of the upload."""
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        case = answers.case_of(registry, image, modality, number)
        name = answers.network_name(registry, weights, DEFAULT, case.modality)
        case = with_truth(case, Path(truth)) if truth else case
        network = registry.network(name)
        if number or not case.is_volume:
            return name, case, slice_mask(case, shared.chance(network, case.unit_hw, case.box), threshold, network.readout.rule)
        *_, (_, said) = volumes.segment(case, [network])
        return name, case, said[0].mask(case.scan, threshold)

    def segment(image, truth=None, modality="", threshold=OPENS_AT, weights="", slice=0):
        """Outline the lesion: its area and box in pixels, of a volume its millilitres; with a truth mask also DSC, PPV and Sen."""
        name, case, mask_xyz = found(image, modality, weights, threshold, slice, truth)
        answer = {"weights": name, "width": case.shape_hw[1], "height": case.shape_hw[0], "threshold": threshold, "notes": answers.notes(case)}
        if case.is_volume and not slice:
            areas = geometry.shown(mask_xyz, case.scan.affine).sum(axis=(1, 2))
            per_slice = {str(k + 1): int(area) for k, area in enumerate(areas) if area}
            numbers = {name: answers.finite(value) for name, value in volumes.numbers(case, mask_xyz).items()}
            return answer | numbers | {"slices": len(areas), "lesion_pixels": per_slice}
        mask_hw = geometry.shown(mask_xyz, case.scan.affine, case.plane)[case.index]
        rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None
        return answer | {"lesion_pixels": int(mask_hw.sum()), "box": box} | scores(mask_hw, case)

    def export_mask(image, modality="", threshold=OPENS_AT, weights="", slice=0, format=""):
        """The lesion mask as a file in the geometry of the upload, PNG of a picture, NIfTI or DICOM-SEG of a volume; and notes."""
        name, case, mask_xyz = found(image, modality, weights, threshold, slice)
        return written(case, mask_xyz, format or export.formats(case.scan)[0], button), {"weights": name, "notes": answers.notes(case)}

    endpoint("segment", segment, [image, truth, modality, threshold, weights, number], gr.JSON(visible=False), lane=NETWORK)
    parts = [gr.File(visible=False, label="mask"), gr.JSON(visible=False)]
    endpoint("export", export_mask, [image, modality, threshold, weights, number, form], parts, lane=NETWORK)


def choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """Networks to choose from: titles and names, in the paper's order."""
    return [(title, name) for name, title in titled(names).items()]


def say(compared: Compared, registry: ModelRegistry) -> tuple[str, str]:
    """What stands above the pictures and below them: the networks' verdict in words, and what they were taught."""
    said = compared.said
    if not said.chances:
        return html.note(MAKE, "warning"), ""
    trained, case = [seen(registry.network(name)) for name in said.chances], said.case
    assistant = next((html.assistant(registry.about(name), registry.measured(name)) for name in said.chances if is_assistant(name)), "")
    elsewhere = html.trained_elsewhere(trained, case.modality, NAMES)
    return elsewhere + network_grid.verdict(compared), "" if elsewhere else assistant + html.taught_on(trained[0], case.plane)


def written(case: Case, mask_xyz: np.ndarray, form: str, near: gr.components.Component) -> str:
    """A mask as a file in gradio's cache, which is emptied by age; the folder's name is a hash of the content."""
    data, ending = export.write(case.scan, mask_xyz, form, "MPS-AMS U-Net")
    return save_to_cache(data, f"lesion-mask{ending}", near)
