"""The lesson as a page to hand out: the ten steps with the pictures and numbers of one image, as a PDF.

No gradio here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from mpsams import inference, plots, schedule
from mpsams.app.components.html import number, percent
from mpsams.app.learn import lesson
from mpsams.app.learn.context import COMPARED, LessonContext
from mpsams.app.learn.state import make_link
from mpsams.app.learn.steps import signed_number
from mpsams.inference import figure_rows
from mpsams.inference.case import NAMES
from mpsams.inference.network_names import parse_name
from mpsams.plots import Panel, images

TITLE = "MPS-AMS: the method in ten steps"
FORMULA = "Share of patches hidden at an epoch:  σ = 0.25 + ln(epoch) / 12"
SOURCE = (
    "The method: Wang et al., MPS-AMS, ICASSP 2023, arXiv:2302.13699. Numbers and pictures are of the image above. For"
    " teaching, not for diagnosis."
)
MATRICES = {
    "covariance-of-softmax": (
        "The softmax turns each row into shares that sum to 1; the covariance of two rows says whether their shares"
        " rise and fall together."
    ),
    "softmax-of-covariance": (
        "The covariance of the pixels of two patches, then the softmax of each row, which turns it into shares that sum"
        " to 1."
    ),
}


def is_page(address: object) -> TypeGuard[str]:
    """Return True if an address that the browser sends can be that of this page: http or https, of at most 200
    characters without spaces.
    """
    return isinstance(address, str) and re.fullmatch(r"https?://[^\s<>\"?#]{1,190}", address) is not None


def draw(context: LessonContext, page: str, is_sample: bool) -> bytes:
    """Draw the handout, as a PDF. page: address of the page; with a sample, the link restores the lesson as it is on
    screen.

    page: address of the page; with a sample, the link restores the lesson as it is on screen.
    """
    case = context.case
    shown = f"{case.title}, {case.plane} slice {case.index + 1} of {case.slices}" if case.is_volume else case.title
    query = make_link(replace(context.state, present=False), case) if is_sample else ""
    lines = [
        f"Image: {shown} ({NAMES[case.modality]}). Epoch {context.state.epoch}. Selector: {case.selector}.",
        FORMULA,
    ]
    panels = [*_clustering(context), *_masking(context), *_networks(context)]
    return plots.as_bytes(plots.handout(TITLE, lines, panels, SOURCE, f"{page}?{query}" if query else page), "pdf")


def _grid_image(context: LessonContext) -> np.ndarray:
    return context.image_11ss[0, 0].numpy()


def _on_grid(context: LessonContext, mask_1l: Tensor) -> np.ndarray:
    return images.cells(mask_1l, context.columns)


def _truth(context: LessonContext) -> list[tuple[str, np.ndarray]]:
    """Return the true outline on the grid image, where it is known."""
    return [] if context.case.truth_11ss is None else [("truth", context.case.truth_11ss[0, 0].bool().numpy())]


def _heat_of_patches(context: LessonContext, values_l: Tensor) -> np.ndarray:
    return images.heat(values_l.reshape(context.columns, context.columns).numpy())


def _clustering(context: LessonContext) -> list[Panel]:
    """Return the panels of steps 1 to 4."""
    study, length, n = context.study, context.study.length, context.columns
    picked_1l = torch.zeros(1, length, dtype=torch.bool)
    picked_1l[0, context.patch] = True
    low, high = (signed_number(float(value)) for value in (context.similarity_l.min(), context.similarity_l.max()))
    names, selector = list(context.stages), context.clustering_options["selector"]
    lesion_1l = study.clusters.lesion_bl
    fits = ""
    if context.agreement is not None and context.case.has_lesion:
        inside = int((lesion_1l & context.truth_1l).sum())
        fits = (
            f" They cover {inside} of the {context.agreement.lesion_patches} truly lesion patches, and are lesion"
            f" {number(context.agreement.lift)} times as often as random patches."
        )
    side = study.patch
    return [
        Panel(
            "Cut",
            f"The image is brought to {n * side} × {n * side} pixels and cut into {n} × {n} = {length} patches of"
            f" {side} × {side} pixels."
            + (" The blue line is the true lesion; the method never sees it." if context.case.has_lesion else ""),
            _grid_image(context),
            outlines=_truth(context),
            cells=n,
        ),
        Panel(
            "Similarity",
            f"Every patch is compared with every other. Here: with the outlined patch {context.patch + 1}. Brighter"
            f" patches are more alike; the values go from {low} to {high}.",
            _heat_of_patches(context, lesson.rescale(context.similarity_l, 0.01)),
            outlines=[("picked", _on_grid(context, picked_1l))],
        ),
        Panel(
            "Covariance",
            f"The comparisons form a matrix of {length} × {length}. {MATRICES[selector]}",
            images.heat(lesson.rescale(context.stages[names[-1]], 0.02).numpy()),
        ),
        Panel(
            "Clusters",
            f"2-means divides the patches into two clusters. One is called lesion (orange): {study.lesion_size} of"
            f" {length} patches.{fits}",
            _grid_image(context),
            [("lesion", _on_grid(context, lesion_1l))],
            _truth(context),
            n,
        ),
    ]


def _masking(context: LessonContext) -> list[Panel]:
    """Return the panels of steps 5 to 7."""
    study, length, at = context.study, context.study.length, context.masked
    ranks_l = torch.tensor(lesson.hiding_ranks(study.lesion_first_1l))
    epochs = range(1, schedule.HORIZON + 1)
    ratios = [schedule.mask_ratio(epoch) for epoch in epochs]
    hidden = _on_grid(context, at.lesion_first_1l)
    return [
        Panel(
            "Order",
            f"Patches called lesion are hidden first: they get the places 1 to {study.lesion_size} at random, the"
            f" others {study.lesion_size + 1} to {length}. Bright patches are hidden early. Training draws a new order"
            " each time it sees an image.",
            _heat_of_patches(context, 1 - ranks_l / length),
        ),
        Panel(
            "Ratio",
            f"The share that is hidden grows with each epoch: {percent(ratios[0])} at epoch 1, {percent(ratios[9])} at"
            f" epoch 10, {percent(ratios[-1])} at epoch {schedule.HORIZON}. At epoch {context.state.epoch} it is"
            f" {percent(at.ratio, 1)}.",
            curve=(epochs, ratios, context.state.epoch - 1),
        ),
        Panel(
            "Hide",
            f"At epoch {context.state.epoch}, {at.hidden} of {length} patches are replaced by the mean grey of the"
            " image. The network sees nothing else: no label and no outline.",
            np.where(
                np.kron(hidden, np.ones((study.patch, study.patch), bool)),
                _grid_image(context).mean(),
                _grid_image(context),
            ),
        ),
    ]


def _networks(context: LessonContext) -> list[Panel]:
    """Return the panels of steps 8 to 10."""
    at, known, text = (
        context.masked,
        context.case.has_lesion,
        "No pretrained network is at hand for this kind of image.",
    )
    image, hidden_1l = _grid_image(context), at.lesion_first_1l
    if context.autoencoder is not None:
        result = inference.reconstruct(context.autoencoder, context.image_11ss, hidden_1l, context.study.patch)
        image = result.filled_11ss[0, 0].clamp(0, 1).numpy()
        plain = lesson.mean_error(result.masked_11ss, context.image_11ss, hidden_1l, context.study.patch)
        text = (
            "A U-Net learns to fill in the hidden patches. Here a hidden pixel differs by"
            f" {percent(result.error_hidden, 1)} of full brightness on average; plain grey would differ by"
            f" {percent(plain, 1)}."
        )
    random = (
        f"With random masking, the same number of patches is hidden wherever they are: {at.hidden} of"
        f" {context.study.length}."
    )
    if known:
        shares = [percent(inference.coverage(mask_1l, context.truth_1l)) for mask_1l in (hidden_1l, at.random_1l)]
        random += (
            f" Of the true lesion, lesion first hides {shares[0]}, this random order {shares[1]}; random orders hide"
            f" {percent(at.ratio)} on average."
        )
    return [
        Panel("Reconstruct", text, image),
        Panel("Compare", random, _grid_image(context), [("hidden", _on_grid(context, at.random_1l))], _truth(context)),
        _transfer(context),
    ]


def _transfer(context: LessonContext) -> Panel:
    """Return the panel of step 10, the outlines of the networks."""
    compared = context.compared
    if compared is None:
        return Panel(
            "Transfer",
            "No segmentation network is at hand for this kind of image.",
            _grid_image(context),
            outlines=_truth(context),
        )
    row = figure_rows.make_row(compared)
    names = {parse_name(name)[1]: name for name in row.masks}
    dsc = {
        method: compared.scores[name]["dsc"]
        for method, name in names.items()
        if name in compared.scores and method in COMPARED
    }
    percent_of_labels = parse_name(names["mps_ams"])[2] if "mps_ams" in names else ""
    text = (
        "The pretrained network is fine-tuned on few labelled"
        f" images{f', {percent_of_labels}% of them' if percent_of_labels else ''}, and outlines the lesion (dashed)."
    )
    if set(dsc) == set(COMPARED):
        text += (
            f" DSC with the true lesion (1 is perfect): pretrained {number(dsc['mps_ams'])}, from scratch"
            f" {number(dsc['scratch'])}. One image proves nothing."
        )
    outlines = [("truth", row.truth_hw)] if row.truth_hw is not None else []
    outlines += [("predicted", row.masks[names["mps_ams"]])] if "mps_ams" in names else []
    return Panel("Transfer", text, row.image_hw.astype(np.float32) / 255, outlines=outlines)
