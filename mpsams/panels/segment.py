"""Segment: the lesion as outlined by a network pretrained with MPS-AMS, beside one trained from scratch.

Axes: H x W pixels of the slice; chances at a network's size, S x S; X, Y, Z voxels as stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from mpsams import figures, inference, metrics
from mpsams.imaging import export, geometry
from mpsams.panels import MODALITIES, NAMES, Case, Library, Session, answers, endpoint, private, refused, seen, volume, with_truth, words

TITLE = "Segment"
PLACE = 3

OPENS_AT = 0.5
TWO = {
    "-mps_ams-seg-10": ("MPS-AMS", "pretrained, then 10% of the labels"),
    "-scratch-seg-10": ("From scratch", "10% of the labels only"),
}
FORMATS = {"png": "PNG", "nifti": "NIfTI", "dicom-seg": "DICOM-SEG, de-identified"}
PRESS = "() => setTimeout(() => document.querySelector('#mask-file').click(), 200)"
CURVES = ("cover first", "cover random")  # CSS classes of the two networks' curves
INTRO = """<p class="lead"><strong>What you see.</strong> Two networks of the same shape, taught with the same few labelled images, outline the lesion.
One was pretrained with MPS-AMS, the other began from nothing. Where the chance of lesion reaches the threshold, a pixel is lesion.</p>"""
MAKE = """<strong>No segmentation weights here.</strong> This panel needs {names} in the folder given by <code>--weights</code>. Make them with
<code>python -m train.finetune</code> after <code>python -m train.pretrain</code>; <code>--help</code> tells how. The Masking tab works without any weights."""


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoints /segment and /export."""
    library = session.library
    found_first = chances(session.first, library)
    found, whole = gr.State(found_first), gr.State({})
    gr.HTML(INTRO)
    with gr.Row(elem_classes="controls", equal_height=True):
        threshold = gr.Slider(0.05, 0.95, OPENS_AT, step=0.01, label="Threshold on the chance of lesion", min_width=220, buttons=[])
        opacity = gr.Slider(0, 0.8, 0.25, step=0.05, label="Opacity of the filling", min_width=160, buttons=[])
    stage = gr.HTML(view(session.first, found_first, OPENS_AT, 0.25, library), js_on_load=None, elem_classes="stage")
    with gr.Row(elem_classes="controls", visible=False, equal_height=True) as deep:
        start = gr.Button("Segment the whole volume", variant="primary", min_width=200)
        stop = gr.Button("Stop", min_width=90, interactive=False)
    report = gr.HTML("", elem_classes="stage")
    with gr.Row(elem_classes="controls export", equal_height=True):
        which = gr.Radio([(title, ending) for ending, (title, _) in TWO.items()], value=next(iter(TWO)), label="Mask to download", min_width=240)
        form = gr.Radio([("PNG", "png")], value="png", label="As", min_width=140)
        button = gr.Button("Download the mask", variant="primary", min_width=200)
        ready = gr.DownloadButton("Mask", elem_id="mask-file")  # never seen: pressed when the file is written

    def infer(case: Case, t: float, o: float, which: str) -> dict:
        there = chances(case, library)
        return {found: there, stage: view(case, there, t, o, library)}

    def settle(case: Case, t: float, which: str, before: dict) -> dict:
        """Another scan: what was said of the last volume goes, and other formats can be had."""
        if before and before["scan"] is not case.scan:
            before = {}
        allowed = export.formats(case.scan)
        choices = gr.Radio([(FORMATS[name], name) for name in allowed], value=allowed[0])
        clean = {} if before else {whole: {}, report: ""}
        says = "Download the mask" + (" (of the whole volume)" if before else " (of this slice)" if case.is_volume else "")
        shows = {deep: gr.Row(visible=case.is_volume and bool(chances_named(case, library))), button: gr.Button(says)}
        return shows | {form: choices} | clean

    def idle() -> dict:
        return {start: gr.Button(interactive=True), stop: gr.Button(interactive=False)}

    def run(case: Case, t: float) -> Iterator[dict]:
        names = chances_named(case, library)
        busy = {start: gr.Button(interactive=False), stop: gr.Button(interactive=True)}
        for done, said in volume.segment(case, [library.network(name) for name in names.values()]):
            if said is None:
                yield busy | {report: progress(done, case)}
        result = {"scan": case.scan, "said": dict(zip(names, said, strict=True))}
        done = {whole: result, report: summary(case, result, t), button: gr.Button("Download the mask (of the whole volume)")}
        yield done | idle()

    def file_of(case: Case, there: dict, t: float, which: str, form: str, result: dict) -> str:
        if which not in there:
            raise refused(f"there are no weights {which.strip('-')!r} to make a mask with")
        deep_mask = result["said"][which].mask(case.scan, t) if result and result["scan"] is case.scan else None
        return written(case, slice_mask(case, there[which], t) if deep_mask is None else deep_mask, form, ready)

    asked = [session.case, found, threshold, which, form, whole]
    for slider in (threshold, opacity):
        private(slider.input, lambda case, there, t, o: view(case, there, t, o, library), [session.case, found, threshold, opacity], stage)
    private(threshold.release, lambda case, result, t: summary(case, result, t), [session.case, whole, threshold], report)
    session.on_case(infer, [threshold, opacity, which], [found, stage])
    session.on_case(settle, [threshold, which, whole], [deep, form, button, whole, report])
    going = private(start.click, run, [session.case, threshold], [whole, report, button, start, stop], concurrency_limit=1)
    stop.click(fn=None, cancels=[going], api_visibility="private")
    private(stop.click, lambda: idle() | {report: words.note("Stopped.")}, [], [report, start, stop])
    private(button.click, file_of, asked, ready, show_progress="minimal", show_progress_on=button).then(None, js=PRESS)
    endpoints(library, ready)


def endpoints(library: Library, button: gr.DownloadButton) -> None:
    """Register /segment and /export."""
    image, truth = (gr.File(type="filepath", visible=False, label=name) for name in ("image", "truth"))
    modality = gr.Textbox("", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says")
    threshold = gr.Number(OPENS_AT, visible=False, label="threshold in (0, 1)")
    weights = gr.Textbox("", visible=False, label="name of a segmentation network; empty for MPS-AMS")
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for all of them")
    form = gr.Textbox("", visible=False, label=f"format, one of {', '.join(FORMATS)}; empty for the one that fits the upload")

    def found(image, modality, weights, threshold, number, truth=None) -> tuple[str, Case, np.ndarray]:
        """The network's name, the case, and its mask on the grid of the upload."""
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        case = answers.case_of(library, image, modality, number)
        name = answers.network_name(library, weights, next(iter(TWO)), case.modality)
        case = with_truth(case, Path(truth)) if truth else case
        network = library.network(name)
        if number or not case.is_volume:
            return name, case, slice_mask(case, inference.chance(network, case.unit_hw, case.box), threshold)
        *_, (_, said) = volume.segment(case, [network])
        return name, case, said[0].mask(case.scan, threshold)

    def segment(image, truth=None, modality="", threshold=OPENS_AT, weights="", slice=0):
        """Outline the lesion: its area and box in pixels, of a volume its millilitres; with a truth mask also DSC, PPV and Sen."""
        name, case, mask_xyz = found(image, modality, weights, threshold, slice, truth)
        answer = {"weights": name, "width": case.shape_hw[1], "height": case.shape_hw[0], "threshold": threshold}
        if case.is_volume and not slice:
            areas = geometry.shown(mask_xyz, case.scan.affine).sum(axis=(1, 2))
            per_slice = {str(k + 1): int(area) for k, area in enumerate(areas) if area}
            return answer | volume.numbers(case, mask_xyz) | {"slices": len(areas), "lesion_pixels": per_slice}
        mask_hw = geometry.shown(mask_xyz, case.scan.affine, case.plane)[case.index]
        rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None
        return answer | {"lesion_pixels": int(mask_hw.sum()), "box": box} | scores(mask_hw, case)

    def export_mask(image, modality="", threshold=OPENS_AT, weights="", slice=0, format=""):
        """The lesion mask as a file in the geometry of the upload: PNG of a picture, NIfTI or DICOM-SEG of a volume."""
        _, case, mask_xyz = found(image, modality, weights, threshold, slice)
        return written(case, mask_xyz, format or export.formats(case.scan)[0], button)

    endpoint("segment", segment, [image, truth, modality, threshold, weights, number], gr.JSON(visible=False))
    endpoint("export", export_mask, [image, modality, threshold, weights, number, form], gr.File(visible=False, label="mask"))


def chances_named(case: Case, library: Library) -> dict[str, str]:
    """The networks that are there for this modality, by the endings of ``TWO``."""
    names = {ending: library.find(ending, case.modality) for ending in TWO}
    return {ending: name for ending, name in names.items() if name}


def chances(case: Case, library: Library) -> dict[str, np.ndarray]:
    """What these networks say of the slice: float32 (S, S)."""
    unit_hw = case.unit_hw
    return {
        ending: inference.chance(library.network(name), unit_hw, case.box) for ending, name in chances_named(case, library).items()
    }


def lesion(case: Case, chance_ss: np.ndarray, threshold: float) -> np.ndarray:
    """Bool (H, W) at the slice's size: where the chance reaches the threshold."""
    return inference.spread(chance_ss, case.shape_hw, case.box) >= threshold


def slice_mask(case: Case, chance_ss: np.ndarray, threshold: float) -> np.ndarray:
    """Bool (X, Y, Z) on the scan's grid, with this slice's lesion alone."""
    mask_xyz = np.zeros(case.scan.voxels_xyz.shape, bool)
    geometry.shown(mask_xyz, case.scan.affine, case.plane)[case.index] = lesion(case, chance_ss, threshold)
    return mask_xyz


def scores(mask_hw: np.ndarray, case: Case) -> dict[str, float]:
    """DSC, PPV and Sen of the slice against the truth; empty without one."""
    if case.truth_hw is None:
        return {}
    both = (torch.as_tensor(np.ascontiguousarray(part))[None] for part in (mask_hw, case.truth_hw))
    return {name: float(value) for name, value in metrics.overlap(*both).items()}


def written(case: Case, mask_xyz: np.ndarray, form: str, near: gr.components.Component) -> str:
    """A mask as a file in gradio's cache, which is emptied by age; the folder's name is a hash of the content."""
    data, ending = export.write(case.scan, mask_xyz, form, "MPS-AMS U-Net")
    return gr.processing_utils.save_bytes_to_cache(data, f"lesion-mask{ending}", near.GRADIO_CACHE)


def view(case: Case, found: dict[str, np.ndarray], threshold: float, opacity: float, library: Library) -> str:
    """Everything between the controls and the export, as HTML."""
    if not found:
        return words.note(MAKE.format(names=" and ".join(f"<code>busi{ending}</code>" for ending in TWO)), "care")
    masks = {ending: lesion(case, chance_ss, threshold) for ending, chance_ss in found.items()}
    trained = [seen(library.network(name)) for name in chances_named(case, library).values()]
    missing = [f"<code>…{ending}</code>" for ending in TWO if ending not in found]
    return "".join(
        [
            words.trained_elsewhere(trained, case.modality, NAMES) or words.taught_on(trained[0], case.plane),
            words.row((column(case, e, masks[e], found[e], opacity) for e in found), "films two"),
            words.key(("outline", "outlined by the network"), *([("truth", "true lesion")] if case.truth_hw is not None else [])),
            f'<div class="ramp"><span>chance of lesion 0%</span><i style="background:{figures.ramp_css()}"><b style="left:{100 * threshold:.0f}%"></b></i><span>100%</span></div>',
            table(case, masks),
            words.note(f"Not in the weights folder: {', '.join(missing)}; its column appears when it is.") if missing else "",
        ]
    )


def column(case: Case, ending: str, mask_hw: np.ndarray, chance_ss: np.ndarray, opacity: float) -> str:
    """One network's outline and chance map."""
    title, says = TWO[ending]
    size, small = case.size_hw, figures.shrunk_mask(mask_hw)
    layers = [figures.shared("case-image", size)]
    layers.append(f'<g style="opacity:{opacity:g}">{figures.layer(figures.fill_path(small), "predicted", small.shape, size)}</g>')
    layers.append(case.outline(size))
    layers.append(figures.layer(figures.edge_path(small), "outline", small.shape, size))
    share = words.percent(mask_hw.mean(), 1) if mask_hw.any() else "nothing"
    outlined = f"{title} outlines {share}{' of the picture' if mask_hw.any() else ''}."
    heat = figures.boxed(figures.uri(figures.heat(chance_ss)), case.box, case.shape_hw, size)
    return words.row(
        [
            words.figure(figures.svg(outlined, size, layers), f"{title} <em>{says}</em>", outlined),
            words.figure(
                figures.svg(f"Chance of lesion by {title}", size, [heat, case.outline(size)]),
                "Chance of lesion",
                f"Highest {words.percent(float(chance_ss.max()))}.",
            ),
        ],
        "stack",
    )


def table(case: Case, masks: dict[str, np.ndarray]) -> str:
    """Overlap with the truth at the slice's size."""
    if case.truth_hw is None:
        return words.note("With a lesion mask (sidebar) DSC, PPV and sensitivity appear here.")
    rows = [[TWO[e][0], *(words.number(value, 3) for value in scores(mask_hw, case).values())] for e, mask_hw in masks.items()]
    head = [
        "Against the truth, in this slice" if case.is_volume else "Against the truth, in pixels of the original",
        "DSC <small>overlap</small>",
        "PPV <small>of the outlined, lesion</small>",
        "Sen <small>of the lesion, outlined</small>",
    ]
    none = "The truth holds no lesion here: outlining nothing scores 1, outlining anything scores 0."
    return words.table(head, rows) + ("" if case.truth_hw.any() else words.note(none))


def progress(done: int, case: Case) -> str:
    """A bar of the slices done."""
    share = 100 * done / len(case.scan.shown())
    return f'<div class="going" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i><span>slice {done} of {len(case.scan.shown())}</span></div>'


def summary(case: Case, result: dict, threshold: float) -> str:
    """What was found in the whole volume: a table and the area by slice; empty before it was segmented."""
    if not result or result["scan"] is not case.scan:
        return ""
    masks = {ending: said.mask(case.scan, threshold) for ending, said in result["said"].items()}
    values = {ending: volume.numbers(case, mask_xyz) for ending, mask_xyz in masks.items()}
    names = {"millilitres": "Lesion, ml", "voxels": "voxels", "dsc": "DSC", "ppv": "PPV", "sen": "Sen", "hd95": "HD95 <small>mm</small>"}
    known = [name for name in names if name in next(iter(values.values()))]
    digits = {"millilitres": 1, "voxels": 0, "hd95": 1}
    rows = [[TWO[e][0], *(words.number(found[name], digits.get(name, 3)) for name in known)] for e, found in values.items()]
    curves = {kind: masks[ending] for kind, ending in zip(CURVES, masks)}
    legend = [(kind, TWO[ending][0]) for kind, ending in zip(CURVES, masks)]
    if case.truth_xyz is not None:
        curves["truth"] = case.truth_xyz
        legend.append(("truth", "true lesion"))
    picture = f'<section class="panelet curve"><h4>Lesion area by slice, from the feet up</h4>{volume.profile(case, curves)}{words.key(*legend)}</section>'
    return words.table(["The whole volume", *(names[name] for name in known)], rows) + picture

