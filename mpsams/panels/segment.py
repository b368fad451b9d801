"""Segment: the lesion as outlined by a network pretrained with MPS-AMS, beside one trained from scratch.

Axes: H x W pixels of the original; chances on the grid, S x S.
"""

from __future__ import annotations

import gradio as gr
import numpy as np
import torch

from mpsams import figures, inference, metrics, transforms
from mpsams.imaging import raster
from mpsams.panels import (
    MODALITIES,
    NAMES,
    Case,
    Library,
    Session,
    answers,
    clustering,
    endpoint,
    of_upload,
    private,
    read_bytes,
    seen,
    with_truth,
    words,
)  # fmt: skip

TITLE = "Segment"
PLACE = 3

OPENS_AT = 0.5
TWO = {
    "-mps_ams-seg-10": ("MPS-AMS", "pretrained, then 10% of the labels"),
    "-scratch-seg-10": ("From scratch", "10% of the labels only"),
}
INTRO = """<p class="lead"><strong>What you see.</strong> Two networks of the same shape, taught with the same few labelled images, outline the lesion.
One was pretrained with MPS-AMS, the other began from nothing. Where the chance of lesion reaches the threshold, a pixel is lesion.</p>"""
MAKE = """<strong>No segmentation weights here.</strong> This panel needs {names} in the folder given by <code>--weights</code>. Make them with
<code>python -m train.finetune</code> after <code>python -m train.pretrain</code>; <code>--help</code> tells how. The Masking tab works without any weights."""


def build(session: Session) -> None:
    """Lay out the tab and register its events and the endpoints /segment and /export."""
    library = session.library

    def infer(case: Case, threshold: float, opacity: float, which: str) -> tuple:
        found = chances(case, library)
        return found, *draw(case, found, threshold, opacity, which)

    def draw(case: Case, found: dict, threshold: float, opacity: float, which: str) -> tuple:
        return view(case, found, threshold, opacity, library), file_of(case, found, threshold, which)

    def file_of(case: Case, found: dict, threshold: float, which: str):
        if which not in found:
            return gr.DownloadButton("No mask to download", value=None, interactive=False)
        return gr.DownloadButton(
            "Download this mask (PNG)", value=written(lesion(case, found[which], threshold), button), interactive=True
        )

    found_first = chances(session.first, library)
    found = gr.State(found_first)
    gr.HTML(INTRO)
    with gr.Row(elem_classes="controls", equal_height=True):
        threshold = gr.Slider(
            0.05, 0.95, OPENS_AT, step=0.01, label="Threshold on the chance of lesion", min_width=220, buttons=[]
        )
        opacity = gr.Slider(0, 0.8, 0.25, step=0.05, label="Opacity of the filling", min_width=160, buttons=[])
    stage = gr.HTML(view(session.first, found_first, OPENS_AT, 0.25, library), js_on_load=None, elem_classes="stage")
    with gr.Row(elem_classes="controls export", equal_height=True):
        which = gr.Radio(
            [(title, ending) for ending, (title, _) in TWO.items()],
            value=next(iter(TWO)),
            label="Mask to download, at the original size",
            min_width=240,
        )
        button = gr.DownloadButton("Download this mask (PNG)", variant="primary", min_width=200)

    settings = [threshold, opacity, which]
    for slider in (threshold, opacity):
        private(
            slider.input,
            lambda case, found, t, o: view(case, found, t, o, library),
            [session.case, found, threshold, opacity],
            stage,
        )
    private(gr.on, file_of, [session.case, found, threshold, which], button, triggers=[threshold.release, which.input])
    session.on_case(infer, settings, [found, stage, button])
    session.on_open(file_of, [session.case, found, threshold, which], button)
    endpoints(library, button)


def endpoints(library: Library, button: gr.DownloadButton) -> None:
    """Register /segment and /export."""
    image, truth = (gr.File(type="filepath", visible=False, label=name) for name in ("image", "truth"))
    modality = gr.Textbox("ultrasound", visible=False, label=f"modality, one of {', '.join(MODALITIES)}")
    threshold = gr.Number(OPENS_AT, visible=False, label="threshold in (0, 1)")
    weights = gr.Textbox("", visible=False, label="name of a segmentation network; empty for MPS-AMS")

    def found(image, modality, weights, threshold, truth=None) -> tuple[str, Case, np.ndarray]:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        name = answers.network_name(library, weights, next(iter(TWO)), modality)
        case = of_upload(read_bytes(image) or b"", modality, clustering(library.clustering()))
        case = with_truth(case, read_bytes(truth)) if truth else case
        return name, case, lesion(case, chance(case, library, name), threshold)

    def segment(image, truth=None, modality="ultrasound", threshold=OPENS_AT, weights=""):
        """Outline the lesion: its area and box in pixels of the original, with a truth mask also DSC, PPV and Sen."""
        name, case, mask_hw = found(image, modality, weights, threshold, truth)
        rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None
        answer = {"weights": name, "width": case.shape_hw[1], "height": case.shape_hw[0], "threshold": threshold}
        return answer | {"lesion_pixels": int(mask_hw.sum()), "box": box} | scores(mask_hw, case)

    def export(image, modality="ultrasound", threshold=OPENS_AT, weights=""):
        """The lesion mask as a PNG file of the image's own size, lesion 255."""
        return written(found(image, modality, weights, threshold)[2], button)

    endpoint("segment", segment, [image, truth, modality, threshold, weights], gr.JSON(visible=False))
    endpoint("export", export, [image, modality, threshold, weights], gr.File(visible=False, label="mask"))


def chance(case: Case, library: Library, name: str) -> np.ndarray:
    """Chance of lesion on the grid, float32 (S, S)."""
    return inference.probability(library.network(name), case.image_11ss[0, 0].numpy())


def chances(case: Case, library: Library) -> dict[str, np.ndarray]:
    """The chance maps of the networks that are there, by the endings of ``TWO``."""
    names = {ending: library.find(ending, case.modality) for ending in TWO}
    return {ending: chance(case, library, name) for ending, name in names.items() if name}


def lesion(case: Case, chance_ss: np.ndarray, threshold: float) -> np.ndarray:
    """Bool (H, W) at the original's size: where the chance reaches the threshold."""
    return transforms.resize(chance_ss, *case.shape_hw)[0, 0].numpy() >= threshold


def scores(mask_hw: np.ndarray, case: Case) -> dict[str, float]:
    """DSC, PPV and Sen against the truth; empty without one."""
    if case.truth_hw is None:
        return {}
    both = (torch.as_tensor(part)[None] for part in (mask_hw, case.truth_hw))
    return {name: float(value) for name, value in metrics.overlap(*both).items()}


def written(mask_hw: np.ndarray, near: gr.components.Component) -> str:
    """A mask as a PNG in gradio's cache, which is emptied by age; the folder's name is a hash of the content."""
    return gr.processing_utils.save_bytes_to_cache(raster.write_mask(mask_hw), "lesion-mask.png", near.GRADIO_CACHE)


def view(case: Case, found: dict[str, np.ndarray], threshold: float, opacity: float, library: Library) -> str:
    """Everything below the controls, as HTML."""
    if not found:
        return words.note(MAKE.format(names=" and ".join(f"<code>busi{ending}</code>" for ending in TWO)), "care")
    masks = {ending: lesion(case, chance_ss, threshold) for ending, chance_ss in found.items()}
    strange = seen(library.network(library.find(next(iter(found)), case.modality)))
    missing = [f"<code>busi{ending}</code>" for ending in TWO if ending not in found]
    return "".join(
        [
            words.trained_elsewhere(strange, case.modality, NAMES),
            words.row((column(case, e, masks[e], found[e], opacity) for e in found), "films two"),
            words.key(("outline", "outlined by the network"), *([("truth", "true lesion")] if case.truth_hw is not None else [])),
            f'<div class="ramp"><span>chance of lesion 0%</span><i style="background:{figures.ramp_css()}"><b style="left:{100 * threshold:.0f}%"></b></i><span>100%</span></div>',
            numbers(case, masks),
            words.note(f"Not in the weights folder: {', '.join(missing)}; its column appears when it is.") if missing else "",
        ]
    )


def column(case: Case, ending: str, mask_hw: np.ndarray, chance_ss: np.ndarray, opacity: float) -> str:
    """One network's outline and chance map."""
    title, says = TWO[ending]
    size, small = case.shape_hw, figures.shrunk_mask(mask_hw)
    layers = [figures.shared("case-image", size)]
    layers.append(f'<g style="opacity:{opacity:g}">{figures.layer(figures.fill_path(small), "predicted", small.shape, size)}</g>')
    layers.append(case.outline(size))
    layers.append(figures.layer(figures.edge_path(small), "outline", small.shape, size))
    share = words.percent(mask_hw.mean(), 1) if mask_hw.any() else "nothing"
    outlined = f"{title} outlines {share}{' of the picture' if mask_hw.any() else ''}."
    heat = figures.raster(figures.uri(figures.heat(chance_ss)), size)
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


def numbers(case: Case, masks: dict[str, np.ndarray]) -> str:
    """Overlap with the truth at the original's size."""
    if case.truth_hw is None:
        return words.note("With a lesion mask (sidebar) DSC, PPV and sensitivity appear here.")
    rows = []
    for ending, mask_hw in masks.items():
        found = scores(mask_hw, case)
        rows.append([TWO[ending][0], *(words.number(found[name], 3) for name in ("dsc", "ppv", "sen"))])
    head = [
        "Against the truth, in pixels of the original",
        "DSC <small>overlap</small>",
        "PPV <small>of the outlined, lesion</small>",
        "Sen <small>of the lesion, outlined</small>",
    ]
    empty = (
        ""
        if case.truth_hw.any()
        else words.note("The truth holds no lesion: outlining nothing scores 1, outlining anything scores 0.")
    )
    return words.table(head, rows) + empty
