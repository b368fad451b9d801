"""Cluster map and masks of a case at an epoch, with their numbers, as HTML. No gradio here.

Axes: L patches, row-major. In masks True = hidden or lesion.
"""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from markupsafe import Markup

from mpsams import clusters, inference, schedule
from mpsams.app.components import html, viewer
from mpsams.app.components.templates import render
from mpsams.inference import MaskedPatches, shared
from mpsams.inference.case import SIDE, Case
from mpsams.plots import images

SIZE = (SIDE, SIDE)


def view(case: Case, epoch: float, picked: int, covariance_ll: torch.Tensor | None) -> Markup:
    """Return everything below the slider, as HTML."""
    at, study = inference.mask_at(case.study, epoch), case.study
    masks = {"first": at.lesion_first_1l, "random": at.random_1l}
    covered = None
    if case.agreement is not None and case.has_lesion:
        covered = [inference.coverage(mask_1l, case.agreement.truth_1l) for mask_1l in masks.values()]
    inside = {way: int((mask_1l & study.clusters.lesion_bl).sum()) for way, mask_1l in masks.items()}
    return render(
        "masking",
        slice_data=viewer.slice_data(case, part=True),
        pictures=pictures(case, at, picked, inside),
        inside=inside,
        a=study.lesion_size,
        length=study.length,
        at=at,
        is_geodesic=case.selector == clusters.GEODESIC,
        has_lesion=case.has_lesion,
        agreement=case.agreement,
        bars=bars,
        shared=shared_information(case, at, covariance_ll),
        covered=covered,
        curve=curve(case, at),
        x=f"{curve_x(at.epoch):.2f}",
        ticks=TICKS,
        patch=clicked_patch(case, at, picked),
    )


def pictures(case: Case, at: MaskedPatches, picked: int, inside: dict[str, int]) -> dict[str, str]:
    """Return the pictures of the cluster map and of the hidden patches, lesion first and at random, as SVG.

    inside: patches of the lesion cluster that are hidden, by way.
    """
    study = case.study
    columns = SIDE // study.patch
    lesion = images.cells(study.clusters.lesion_bl, columns)
    shape = lesion.shape
    spot = torch.zeros(1, study.length, dtype=torch.bool)
    spot[0, picked] = True

    def drawn(mask, kind: str, edge: bool = False) -> str:
        return images.layer((images.edge_path if edge else images.fill_path)(mask), kind, shape, SIZE)

    def figure(caption: str, *layers: str) -> str:
        over = [images.layer(images.grid_path(*shape), "grid", shape, SIZE), case.outline(SIZE, part=True)]
        extra = f'role="application" {viewer.LINKED} data-columns="{columns}" data-picked="{picked}"'
        shown = [
            images.use_image("case-part", SIZE),
            *layers,
            *over,
            drawn(images.cells(spot, columns), "picked", True),
        ]
        return images.svg(f"{caption} Arrow keys choose a patch.", SIZE, shown, extra)

    def hides(mask_1l) -> list[str]:
        mask = images.cells(mask_1l, columns)
        return [drawn(mask & ~lesion, "hidden"), drawn(mask & lesion, "hidden lesion-patch")]

    a, n = study.lesion_size, at.hidden
    return {
        "clusters": figure(
            f"Cluster map: {a} of {study.length} patches are taken for lesion.",
            drawn(lesion, "lesion"),
            drawn(lesion, "lesion-edge", True),
        ),
        "first": figure(
            f"Lesion first: {n} patches hidden, {inside['first']} of them from the lesion cluster.",
            *hides(at.lesion_first_1l),
        ),
        "random": figure(
            f"At random: {n} patches hidden, {inside['random']} of them from the lesion cluster.", *hides(at.random_1l)
        ),
    }


def bars(first: float, random: float) -> list[tuple[str, float, str]]:
    """Return two numbers as bars to compare by eye, the larger of full length."""
    most = max(first, random, 1e-9)
    return [(kind, max(bits, 0) / most, f"{bits:.0f}") for kind, bits in (("first", first), ("random", random))]


def shared_information(case: Case, at: MaskedPatches, covariance_ll: torch.Tensor | None) -> list[float] | None:
    """Return the bits shared by hidden and visible patches, lesion first and at random; None without a covariance of
    the patches that is positive definite.
    """
    if covariance_ll is None or covariance_ll.shape[0] != case.study.length:
        return None
    orders_2l = torch.cat([case.study.lesion_first_1l, case.study.random_1l])
    with suppress(torch.linalg.LinAlgError):
        return shared.information_curve(covariance_ll, orders_2l)[:, at.hidden].tolist()
    return None


def curve_x(epoch: float) -> float:
    """Return the place of an epoch in ``curve``, in percent of its width."""
    return 100 * (epoch - 1) / (schedule.HORIZON - 1)


def ticks(*epochs: int) -> dict[int, str]:
    """Return the places of epochs in ``curve`` as CSS numbers."""
    return {epoch: f"{curve_x(epoch):.2f}" for epoch in epochs}


TICKS = ticks(1, 100, 200, 400, 600, 800)


def curve(case: Case, at: MaskedPatches) -> str:
    """Draw σ over the epochs, and how much of a true lesion is hidden, as SVG."""
    lines = [images.line([(0, 75), (100, 75)], "fixed")]
    if case.has_lesion:
        lines.append(images.line([(curve_x(e), 100 * c) for e, _, _, c in case.course], "cover random"))
        lines.append(images.line([(curve_x(e), 100 * c) for e, _, c, _ in case.course], "cover first"))
    lines.append(images.line([(curve_x(e), 100 * r) for e, r, _, _ in case.course], "sigma"))
    text = f"Curve of the mask ratio over the epochs; at epoch {at.epoch:g} it is {html.percent(at.ratio, 1)}"
    return images.svg(text, (100, 100), lines, 'preserveAspectRatio="none"')


def clicked_patch(case: Case, at: MaskedPatches, picked: int) -> dict:
    """Return what is said of the patch that was clicked."""
    found, columns = case.study.clusters, SIDE // case.study.patch
    near, far = (float(one_bl[0, picked]) for one_bl in (found.to_lesion_bl, found.to_background_bl))
    return {
        "place": f"row {picked // columns + 1}, column {picked % columns + 1}",
        "inside": bool(found.lesion_bl[0, picked]),
        "fall": float(found.rows_bln[0, picked, 0]),
        "near": f"{near:.3g}" if math.isfinite(near) else "no such cluster",
        "far": f"{far:.3g}" if math.isfinite(far) else "no such cluster",
        "is_hidden": [bool(mask_1l[0, picked]) for mask_1l in (at.lesion_first_1l, at.random_1l)],
        "is_lesion": case.agreement is not None and bool(case.agreement.truth_1l[0, picked]),
    }
