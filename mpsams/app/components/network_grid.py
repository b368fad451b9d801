"""The N-method grid as HTML: a cell for each network, for the truth and for where they differ; one of them large.

No gradio here.

Over 250 lines because the small pictures, the large one and the sentences are made of one comparison.
"""

from __future__ import annotations

import numpy as np

from mpsams import plots
from mpsams.app.components import html, viewer
from mpsams.app.components.templates import render
from mpsams.inference.comparison import SliceComparison, disagreement
from mpsams.inference.membership import MEANING as PART_MEANING
from mpsams.inference.membership import UNKNOWN
from mpsams.inference.network_names import is_assistant, parse_name
from mpsams.plots import images
from mpsams.tables import HEADS

LARGE, SMALL = 512, 224  # longest side of a drawn mask in pixels
SELECT = """
element.addEventListener('click', event => {
    const cell = event.target.closest('[data-cell]');
    if (!cell) return;
    element.querySelectorAll('[data-cell]').forEach(other => other.setAttribute('aria-pressed', other === cell));
    trigger('pick', {index: cell.dataset.cell});
    const large = document.querySelector('.compare .large');
    if (large && large.getBoundingClientRect().top < 0) large.scrollIntoView({block: 'start'});
});"""
MEANING = {"dsc": "overlap with the truth", "ppv": "of the outlined is lesion", "sen": "of the lesion is outlined"}


def verdict(compared: SliceComparison) -> str:
    """Return sentences on how much is called lesion by all, by some and by no network, and on which one fits the truth;
    "" without one.
    """
    count, titles, peers = len(compared.peers), compared.predictions.titles, compared.peers
    if not count:
        return ""
    by_all, by_any = (float((compared.votes_hw >= least).mean()) for least in (count, 1))
    first = next(iter(peers))
    return render(
        "segment/verdict",
        assistants=[share(mask_hw) for name, mask_hw in compared.masks.items() if name not in peers],
        waiting=compared.predictions.waiting,
        done=len(compared.masks),
        count=count,
        alone=f"{titles[first]} outlines {share(peers[first])}." if count == 1 else "",
        speakers=sum(bool(mask_hw.any()) for mask_hw in peers.values()),
        by_all=by_all,
        by_any=by_any,
        mean_agreement=compared.mean_agreement,
        fits=fits(compared),
        known_images=known_images(compared),
    )


def known_images(compared: SliceComparison) -> str:
    """Return a sentence on whether the networks have seen this image, by what is recorded of their training."""
    if not compared.scores or compared.predictions.waiting:
        return ""
    found: dict[str, list[str]] = {}
    for name, part in compared.predictions.parts.items():
        found.setdefault(part, []).append(compared.predictions.titles.get(name, name))
    if set(found) <= {UNKNOWN}:
        return "It is not recorded whether the networks have seen this image."
    return "This image was " + "; ".join(f"{part} for {', '.join(names)}" for part, names in found.items()) + "."


def truth_of(compared: SliceComparison) -> np.ndarray:
    """Return the truth, bool (H, W), where it is one of the pictures."""
    assert compared.case.truth_hw is not None
    return compared.case.truth_hw


def fits(compared: SliceComparison) -> str:
    """Return a sentence on which network is nearest to the truth, if there is one."""
    titles = compared.predictions.titles
    truth_hw = compared.case.truth_hw
    if truth_hw is None or not compared.scores:
        return "With a lesion mask (sidebar) DSC, PPV and sensitivity appear below."
    if not truth_hw.any():
        correct = [titles[name] for name, scores in compared.scores.items() if scores["dsc"] == 1]
        rightly = (
            f"rightly outlined by none: {', '.join(correct)}" if correct else "and every network outlines something"
        )
        return f"The truth holds no lesion here, {rightly}; outlining nothing scores 1, outlining anything scores 0."
    order = sorted(compared.peers, key=lambda name: compared.scores[name]["dsc"])
    low, high = order[0], order[-1]
    if len(order) == 1 or compared.scores[low]["dsc"] == compared.scores[high]["dsc"]:
        return f"Against the truth, DSC {html.number(compared.scores[high]['dsc'], 3)}."
    ends = (f"{titles[name]} with DSC {html.number(compared.scores[name]['dsc'], 3)}" for name in (high, low))
    return "Nearest to the truth on this one {}: {}; furthest: {}.".format(
        "slice" if compared.case.is_volume else "image", *ends
    )


def share(mask_hw: np.ndarray) -> str:
    """Return the share of the picture that a mask covers, in words."""
    return f"{html.percent(float(mask_hw.mean()), 1)} of the picture" if mask_hw.any() else "nothing"


def ordered(compared: SliceComparison, order: str) -> list[str]:
    """Return the pictures in the paper's order, or ("dsc") the networks by their DSC, the highest first, after the
    others.
    """
    pictures, scores = compared.predictions.pictures, compared.scores
    if order != "dsc" or not scores:
        return pictures
    return [one for one in pictures if one not in scores] + sorted(
        (one for one in pictures if one in scores), key=lambda name: -scores[name]["dsc"]
    )


def cells(compared: SliceComparison, order: str = "paper") -> str:
    """Return all pictures small, each a button that makes it large. order: as for ``ordered``."""
    if not compared.predictions.pictures:
        return ""
    truth = compared.case.outline(compared.case.size_hw)
    return render("segment/cells", cells=[cell(compared, which, truth) for which in ordered(compared, order)])


def cell(compared: SliceComparison, which: str, truth: str) -> dict:
    """Return one small picture with its numbers. truth: the outline of the truth, as SVG."""
    is_network = which not in ("truth", "dispute")
    if which == "dispute":
        two = "mean DSC of two" if len(compared.peers) > 2 else "DSC of the two"
        words = f"{two}: {html.number(compared.mean_agreement)}"
    else:
        mask_hw = truth_of(compared) if which == "truth" else compared.masks[which]
        words = f"area {html.percent(mask_hw.mean(), 1)}"
    known, part = compared.scores.get(which), compared.predictions.parts.get(which, UNKNOWN)
    return {
        "name": which,
        "title": name_of(compared, which),
        "is_pressed": which == compared.predictions.shown,
        "picture": picture(compared, which, truth, SMALL, viewer.LINKED_CELL),
        "words": words,
        "scores": known,
        "threshold": compared.threshold_of(which) if is_network else None,
        "part": "" if known is None or part == UNKNOWN else part,
    }


def bars(compared: SliceComparison, order: str = "paper") -> str:
    """Return the DSC of every network as a bar in its colour; empty without a truth."""
    if not compared.scores or compared.predictions.waiting:
        return ""
    rows = []
    for name in (one for one in ordered(compared, order) if one in compared.scores):
        colour, dashes = plots.outline(parse_name(name)[1])
        dsc = compared.scores[name]["dsc"]
        rows.append(
            {
                "title": compared.predictions.titles[name],
                "colour": colour,
                "is_striped": bool(dashes),
                "share": 100 * dsc,
                "dsc": html.number(dsc, 3),
            }
        )
    return render("segment/bars", rows=rows)


def name_of(compared: SliceComparison, which: str) -> str:
    """Return the title of a picture."""
    return {"truth": "True lesion", "dispute": "Where they differ"}.get(which) or compared.predictions.titles[which]


def picture(compared: SliceComparison, which: str, truth: str, longest: int, extra: str = "") -> str:
    """Return a cell's picture as SVG: the slice with an outline, or the map of where the networks differ.

    extra: more of its attributes.
    """
    size = compared.case.size_hw
    return images.svg(description(compared, which), size, layers(compared, which, truth, longest), extra)


def description(compared: SliceComparison, which: str) -> str:
    """Describe the picture of a cell in words."""
    words = {"truth": "The slice with the true lesion outlined", "dispute": "Map of where the networks differ"}
    return words.get(which) or f"{name_of(compared, which)} outlines {share(compared.masks[which])}"


def layers(compared: SliceComparison, which: str, truth: str, longest: int) -> tuple[str, str]:
    """Return the layers of a cell's picture, as SVG: the image, and what is drawn over it."""
    size = compared.case.size_hw
    if which == "truth":
        return images.use_image("case-image", size), truth
    if which == "dispute":
        votes = images.shrunk_mask(compared.votes_hw, longest)
        return images.raster(images.heat_uri(disagreement(votes, len(compared.peers))), size), truth
    small = images.shrunk_mask(compared.masks[which], longest)
    filling = f'<g class="filling">{images.layer(images.fill_path(small), "predicted", small.shape, size)}</g>'
    return images.use_image("case-image", size), filling + truth + images.layer(
        images.edge_path(small), "outline", small.shape, size
    )


def large(compared: SliceComparison) -> str:
    """Return the chosen picture large, and below it what else belongs to it."""
    which, case = compared.predictions.shown, compared.case
    if not which:
        return ""
    is_network = which not in ("truth", "dispute")
    legend = [("outline", "outlined by the network")] * is_network
    legend += [("truth", "true lesion")] * (case.truth_hw is not None)
    image, over = layers(compared, which, case.outline(case.size_hw), LARGE)
    lesion_hw = case.truth_hw if case.truth_hw is not None and case.truth_hw.any() else compared.votes_hw > 0
    return render(
        "segment/large",
        slice_data=viewer.slice_data(case, lesion_hw),
        title=name_of(compared, which),
        taught=taught(which) if is_network else "",
        picture=images.svg(
            description(compared, which), case.size_hw, [image, viewer.wiped("large-outlines", over)], viewer.LINKED
        ),
        caption=caption(compared, which),
        legend=legend,
        is_dispute=which == "dispute",
        every=None if is_network else every_outline(compared),
        heat=heat(compared, which) if is_network else None,
    )


def taught(name: str) -> str:
    """Return how a network was taught, in words; "" if its name does not say it."""
    _, method, percent = parse_name(name)
    if is_assistant(name):
        return "all labels: to work with, beside the networks that are compared"
    begun = "from nothing" if method == "scratch" else "pretrained without labels"
    return f"{begun}, then {percent}% of the labels" if percent else ""


def caption(compared: SliceComparison, which: str) -> str:
    """Describe a large picture in words."""
    if which == "truth":
        return f"The truth covers {share(truth_of(compared))}."
    if which == "dispute":
        return "Dark: all networks say the same. Bright: as many say lesion as say it is not."
    outlined = f"{name_of(compared, which)} outlines {share(compared.masks[which])}."
    known = compared.scores.get(which, {})
    measures = ", ".join(f"{HEADS[name]} {html.number(value, 3)} ({MEANING[name]})" for name, value in known.items())
    part = compared.predictions.parts.get(which, UNKNOWN)
    seen = (
        f" The image is {part} for it: {PART_MEANING[part]}."
        if part != UNKNOWN
        else " Whether it has seen the image is unknown."
    )
    threshold = f"Threshold {compared.threshold_of(which):.2f}."
    return f"{outlined} {measures}{'.' * bool(measures)} {threshold}{seen if known else ''}"


def every_outline(compared: SliceComparison) -> dict:
    """Return the picture of every outline at once, with its legend, below the truth or the map of where the networks
    differ.
    """
    case, size, count = compared.case, compared.case.size_hw, len(compared.masks)
    looks = {name: html.line_style(parse_name(name)[1]) for name in compared.masks}
    small = {name: images.shrunk_mask(mask_hw, LARGE) for name, mask_hw in compared.masks.items()}
    outlines = [
        images.layer(images.contour_path(mask_hw), "outline", mask_hw.shape, size, looks[name][0])
        for name, mask_hw in small.items()
    ]
    text = f"The outlines of {'all ' if count > 1 else ''}{count} network{'s' * (count > 1)} at once"
    drawn = [images.use_image("case-image", size), case.outline(size), *outlines]
    lines = [("line", title, looks[name][1]) for name, title in compared.predictions.titles.items()]
    return {
        "text": text,
        "picture": images.svg(text, size, drawn, viewer.LINKED),
        "legend": [*lines, *[("truth", "true lesion")] * (case.truth_hw is not None)],
    }


def heat(compared: SliceComparison, which: str) -> dict:
    """Return the picture of the probabilities behind a network's outline, with the highest one and its threshold."""
    case, size = compared.case, compared.case.size_hw
    drawn = images.box_on_image(compared.predictions.map(which), case.box, case.shape_hw, size)
    text = f"Probability of lesion by {name_of(compared, which)}"
    return {
        "picture": images.svg(text, size, [drawn, case.outline(size)], viewer.LINKED),
        "highest": float(compared.predictions.probabilities[which].max()),
        "threshold": compared.threshold_of(which),
    }
