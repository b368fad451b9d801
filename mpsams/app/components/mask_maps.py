"""Cluster map and masks of a case at an epoch, with their numbers, as HTML. No gradio here.

Axes: L patches, row-major. In masks True = hidden or lesion.
"""

from __future__ import annotations

import math
from contextlib import suppress

import torch

from mpsams import clusters, inference, schedule
from mpsams.app.components import html, viewer
from mpsams.inference import MaskedPatches, shared
from mpsams.inference.case import SIDE, Case
from mpsams.plots import images

SIZE = (SIDE, SIDE)
ALIKE = {
    clusters.GEODESIC: "{} of {} patches lie far down from the border of the image: walled in, and taken for lesion."
}


def view(case: Case, epoch: float, picked: int, covariance_ll: torch.Tensor | None) -> str:
    """Return everything below the slider, as HTML."""
    at = inference.mask_at(case.study, epoch)
    return "".join(
        [
            viewer.slice_data(case, part=True),
            html.row(pictures(case, at, picked), "films three"),
            legend(case),
            html.row(cards(case, at, covariance_ll), "cards"),
            html.row([curve(case, at), clicked_patch(case, at, picked)], "pair"),
            judgement(case),
        ]
    )


def pictures(case: Case, at: MaskedPatches, picked: int) -> list[str]:
    """Return the pictures of the cluster map and of the hidden patches, lesion first and at random."""
    study = case.study
    columns = SIDE // study.patch
    lesion = images.cells(study.clusters.lesion_bl, columns)
    shape = lesion.shape
    spot = torch.zeros(1, study.length, dtype=torch.bool)
    spot[0, picked] = True

    def drawn(mask, kind: str, edge: bool = False) -> str:
        return images.layer((images.edge_path if edge else images.fill_path)(mask), kind, shape, SIZE)

    def film(caption: str, *layers: str) -> str:
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
    both = [int((mask & study.clusters.lesion_bl).sum()) for mask in (at.lesion_first_1l, at.random_1l)]
    share = html.percent(at.ratio)
    return [
        html.figure(
            film(
                f"Cluster map: {a} of {study.length} patches are taken for lesion.",
                drawn(lesion, "lesion"),
                drawn(lesion, "lesion-edge", True),
            ),
            "Clusters",
            ALIKE.get(case.selector, "{} of {} patches look alike enough to be taken for lesion.").format(
                a, study.length
            ),
        ),
        html.figure(
            film(
                f"Lesion first: {n} patches hidden, {both[0]} of them from the lesion cluster.",
                *hides(at.lesion_first_1l),
            ),
            "Hidden lesion first <em>MPS-AMS</em>",
            f"At epoch {at.epoch:g}, {share}: {both[0]} of {a} in the lesion cluster.",
        ),
        html.figure(
            film(f"At random: {n} patches hidden, {both[1]} of them from the lesion cluster.", *hides(at.random_1l)),
            "Hidden at random <em>as MAE does</em>",
            f"Same number, {n}: {both[1]} of {a} in the lesion cluster.",
        ),
    ]


def legend(case: Case) -> str:
    """Return the legend of the colours."""
    entries = [
        ("lesion", "lesion cluster"),
        ("hidden lesion-patch", "hidden, lesion cluster"),
        ("hidden", "hidden, background"),
    ]
    return html.key(*entries, *([("truth", "true lesion")] if case.has_lesion else []), ("picked", "your patch"))


def cards(case: Case, at: MaskedPatches, covariance_ll: torch.Tensor | None) -> list[str]:
    """Return cards with the numbers of this epoch."""
    length, most = case.study.length, max(at.random_bits, 1e-9)
    found = [
        html.card("Mask ratio σ", html.percent(at.ratio, 1), f"25% + ln({at.epoch:g}) / 12"),
        html.card(
            "Patches hidden", f"{at.hidden}<small> of {length}</small>", f"⌊{length} · σ⌋, the same for both ways"
        ),
        html.card(
            "Entropy of the masks",
            f"{at.bits:.0f}<small> bits</small>",
            "of all masks that each way can draw",
            html.bars(
                ("first", at.bits / most, f"{at.bits:.0f}"), ("random", at.random_bits / most, f"{at.random_bits:.0f}")
            ),
        ),
    ]
    if covariance_ll is not None and covariance_ll.shape[0] == length:
        with suppress(torch.linalg.LinAlgError):  # a covariance that is not positive definite has no card
            found.append(information_card(case, at, covariance_ll))
    if case.agreement is not None and case.has_lesion:
        truth_1l = case.agreement.truth_1l
        first, random = inference.coverage(at.lesion_first_1l, truth_1l), inference.coverage(at.random_1l, truth_1l)
        found.append(
            html.card(
                "True lesion hidden",
                html.percent(first),
                f"of {case.agreement.lesion_patches} patches over a quarter lesion",
                html.bars(("first", first, html.percent(first)), ("random", random, html.percent(random))),
            )
        )
    return found


def information_card(case: Case, at: MaskedPatches, covariance_ll: torch.Tensor) -> str:
    """Return bits shared by hidden and visible patches. LinAlgError unless the covariance is positive definite."""
    orders_2l = torch.cat([case.study.lesion_first_1l, case.study.random_1l])
    ours, random = shared.information_curve(covariance_ll, orders_2l)[:, at.hidden].tolist()
    top = max(ours, random, 1e-9)
    return html.card(
        "Shared information",
        f"{ours:.0f}<small> bits</small>",
        "of hidden and visible patches, Gaussian estimate",
        html.bars(("first", ours / top, f"{ours:.0f}"), ("random", random / top, f"{random:.0f}")),
    )


def curve(case: Case, at: MaskedPatches) -> str:
    """Draw σ over the epochs, as wide as the slider above it, with the point of this epoch."""

    def x(epoch: float) -> float:
        return 100 * (epoch - 1) / (schedule.HORIZON - 1)

    lines = [images.line([(0, 75), (100, 75)], "fixed")]
    names = [("sigma", "σ, share of patches hidden"), ("fixed", "fixed 75%, as MAE")]
    if case.has_lesion:
        lines.append(images.line([(x(e), 100 * c) for e, _, _, c in case.course], "cover random"))
        lines.append(images.line([(x(e), 100 * c) for e, _, c, _ in case.course], "cover first"))
        names += [("cover first", "true lesion hidden, lesion first"), ("cover random", "the same at random")]
    lines.append(images.line([(x(e), 100 * r) for e, r, _, _ in case.course], "sigma"))
    picture = images.svg(
        f"Curve of the mask ratio over the epochs; at epoch {at.epoch:g} it is {html.percent(at.ratio, 1)}",
        (100, 100),
        lines,
        'preserveAspectRatio="none"',
    )
    marks = "".join(f'<span class="tick" style="left:{x(e):.2f}%">{e}</span>' for e in (1, 100, 200, 400, 600, 800))
    levels = "".join(f'<span class="level" style="bottom:{share}%">{share}%</span>' for share in (0, 25, 50, 75, 100))
    point = (
        f'<i class="now" style="left:{x(at.epoch):.2f}%"></i><i class="dot"'
        f' style="left:{x(at.epoch):.2f}%;bottom:{100 * at.ratio:.2f}%"></i>'
    )
    return (
        '<section class="panelet curve"><h4>Fast at first, then ever slower</h4><div'
        f' class="plot">{levels}{picture}{point}{marks}</div>{html.key(*names)}</section>'
    )


def clicked_patch(case: Case, at: MaskedPatches, picked: int) -> str:
    """Return sentences on the patch that was clicked."""
    found, columns = case.study.clusters, SIDE // case.study.patch
    inside = bool(found.lesion_bl[0, picked])
    near, far = float(found.to_lesion_bl[0, picked]), float(found.to_background_bl[0, picked])
    now = [
        f"<strong>{'hidden' if mask[0, picked] else 'visible'}</strong>" for mask in (at.lesion_first_1l, at.random_1l)
    ]
    chance = at.probability_lesion if inside else at.probability_background
    rows = [
        (
            "Cluster",
            f'<span class="chip {"lesion" if inside else "ground"}">{"lesion" if inside else "background"}</span>',
        ),
        *(
            [("Way down from the border", f"{float(found.rows_bln[0, picked, 0]):.2f} deviations")]
            if case.selector == clusters.GEODESIC
            else []
        ),
        ("Distance to lesion centre", f"{near:.3g}" if math.isfinite(near) else "no such cluster"),
        ("… to background centre", f"{far:.3g}" if math.isfinite(far) else "no such cluster"),
        ("Chance hidden, lesion first", html.percent(chance, 1)),
        ("Chance hidden at random", html.percent(at.hidden / case.study.length, 1)),
        (f"At epoch {at.epoch:g}, lesion first", now[0]),
        (f"At epoch {at.epoch:g}, at random", now[1]),
    ]
    if case.agreement is not None and case.has_lesion:
        rows.append(("True lesion", "yes, over a quarter of it" if case.agreement.truth_1l[0, picked] else "no"))
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    where = f"row {picked // columns + 1}, column {picked % columns + 1}"
    return (
        '<section class="panelet asked" aria-live="polite"><h4>Your patch'
        f" <em>{where}</em></h4><dl>{body}</dl></section>"
    )


def judgement(case: Case) -> str:
    """Return a note on how well the clusters find the lesion, measured where the truth is known."""
    if case.agreement is None:
        return html.note(
            "Is the orange cluster really the lesion? Open the image's lesion mask in the sidebar and it will be"
            " measured here."
        )
    if not case.has_lesion:
        return html.note(
            "The truth mask holds no lesion, so there is nothing to find: the clustering names a “lesion” cluster in"
            " every image, healthy ones too."
        )
    lift, auc = case.agreement.lift, case.agreement.auc
    if lift > 1.2 and auc > 0.55:
        verdict = "<strong>Here the clustering finds the lesion better than chance.</strong>"
    elif lift < 0.8 or auc < 0.45:
        verdict = "<strong>Here the clustering does worse than chance:</strong> its “lesion” cluster avoids the lesion."
    else:
        verdict = "<strong>Here the clustering does no better than chance.</strong>"
    times = f"Orange patches are lesion {html.number(lift)}× as often as random patches (lift; 1 = chance)"
    rank = (
        f"ranked by likeness, a lesion patch stands before a healthy one in {html.percent(auc)} of all pairs (AUC"
        f" {html.number(auc)}; 0.5 is chance, 1.0 perfect)"
    )
    kind = "info" if lift > 1.2 and auc > 0.55 else "warning"
    return html.note(
        f"{verdict} {times}; {rank}. Another image, or another way to cluster in the sidebar, may tell another story.",
        kind,
    )
