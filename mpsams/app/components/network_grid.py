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
    count, titles, waiting = len(compared.peers), compared.predictions.titles, compared.predictions.waiting
    if not count:
        return ""
    by_all, by_any = (float((compared.votes_hw >= least).mean()) for least in (count, 1))
    speakers = [name for name, mask_hw in compared.peers.items() if mask_hw.any()]
    beside = [
        f"<strong>The assistant outlines {share(compared.masks[name])}.</strong>"
        for name in compared.masks
        if name not in compared.peers
    ]
    if count == 1:
        sentences = [f"{titles[name]} outlines {share(mask_hw)}." for name, mask_hw in compared.peers.items()]
    elif not speakers:
        sentences = [
            f"<strong>{'Neither' if count == 2 else 'None'} of the {count} networks outlines anything</strong> at this"
            " threshold."
        ]
    else:
        amount = f"{len(speakers)} of {count}" if len(speakers) < count else "Both" if count == 2 else f"All {count}"
        sentences = [
            f"<strong>{amount} networks outline something.</strong>",
            (
                f"They agree that {html.percent(by_all, 1)} of the picture is lesion and {html.percent(1 - by_any, 1)}"
                f" is not; over the remaining {html.percent(by_any - by_all, 1)} they differ."
            ),
            (
                f"{'Two of them' if count > 2 else 'They'} overlap with a DSC of"
                f" {html.number(compared.mean_agreement)}{' on average' * (count > 2)}."
            ),
        ]
    if waiting:
        done = len(compared.masks)
        sentences = [f"<strong>Asking the networks:</strong> {done} of {done + waiting} have answered."]
    return html.note(" ".join([*beside, *sentences, fits(compared), known_images(compared)]))


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
        quiet = [titles[name] for name, scores in compared.scores.items() if scores["dsc"] == 1]
        rightly = f"rightly outlined by none: {', '.join(quiet)}" if quiet else "and every network outlines something"
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
    pictures, truth = ordered(compared, order), compared.case.outline(compared.case.size_hw)
    buttons = "".join(cell(compared, which, truth) for which in pictures)
    return (
        f'<div class="cells" style="--across:{2 if len(pictures) <= 4 else 3}" role="group" aria-label="Pictures;'
        f' choose one to see it large">{buttons}</div>'
    )


def cell(compared: SliceComparison, which: str, truth: str) -> str:
    """Return one small picture with its numbers, as HTML. truth: the outline of the truth, as SVG."""
    title = name_of(compared, which)
    if which == "truth":
        numbers = [f"area {html.percent(truth_of(compared).mean(), 1)}"]
    elif which == "dispute":
        numbers = [
            f"{'mean DSC of two' if len(compared.peers) > 2 else 'DSC of the two'}:"
            f" {html.number(compared.mean_agreement)}"
        ]
    else:
        area, known = html.percent(compared.masks[which].mean(), 1), compared.scores.get(which)
        numbers = [f"area {area}"]
        if known:
            numbers = [
                f"<b>DSC {html.number(known['dsc'], 3)}</b> area {area}",
                f"PPV {html.number(known['ppv'])}, Sen {html.number(known['sen'])}",
            ]
        numbers.append(f"threshold {compared.threshold_of(which):.2f}")
        part = compared.predictions.parts.get(which, UNKNOWN)
        numbers += [f'<i class="part">{part}</i>'] * (known is not None and part != UNKNOWN)
    lines = "".join(f"<small>{line}</small>" for line in numbers)
    pressed = str(which == compared.predictions.shown).lower()
    return (
        f'<button type="button" class="film cell" data-cell="{which}" aria-pressed="{pressed}"><span'
        f' class="light">{picture(compared, which, truth, SMALL, viewer.LINKED_CELL)}</span><span'
        f' class="explanation"><strong>{title}</strong>{lines}</span></button>'
    )


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
    return render("network_bars", rows=rows)


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
    entries = [("truth", "true lesion")] * (case.truth_hw is not None)
    if which != "dispute":
        entries = [("outline", "outlined by the network"), *entries] if which != "truth" else entries
    image, over = layers(compared, which, case.outline(case.size_hw), LARGE)
    drawn = images.svg(
        description(compared, which), case.size_hw, [image, viewer.wiped("large-outlines", over)], viewer.LINKED
    )
    first = html.figure(drawn, heading(compared, which), caption(compared, which) + viewer.wipe("Image", "Outlines"))
    lesion_hw = case.truth_hw if case.truth_hw is not None and case.truth_hw.any() else compared.votes_hw > 0
    return (
        viewer.slice_data(case, lesion_hw) + first + (html.key(*entries) if entries else "") + beside(compared, which)
    )


def heading(compared: SliceComparison, which: str) -> str:
    """Return the title of a large picture, for a network with how it was taught."""
    if which in ("truth", "dispute"):
        return name_of(compared, which)
    _, method, percent = parse_name(which)
    if is_assistant(which):
        return f"{name_of(compared, which)} <em>all labels: to work with, beside the networks that are compared</em>"
    begun = "from nothing" if method == "scratch" else "pretrained without labels"
    taught = f"<em>{begun}, then {percent}% of the labels</em>" if percent else ""
    return f"{name_of(compared, which)} {taught}"


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


def beside(compared: SliceComparison, which: str) -> str:
    """Return a second picture below the large one: every outline at once, or the probabilities behind one."""
    case, size, count = compared.case, compared.case.size_hw, len(compared.masks)
    if which in ("truth", "dispute"):
        looks = {name: html.line_style(parse_name(name)[1]) for name in compared.masks}
        small = {name: images.shrunk_mask(mask_hw, LARGE) for name, mask_hw in compared.masks.items()}
        outlines = [
            images.layer(images.contour_path(mask_hw), "outline", mask_hw.shape, size, looks[name][0])
            for name, mask_hw in small.items()
        ]
        legend = html.key(
            *(("line", title, looks[name][1]) for name, title in compared.predictions.titles.items()),
            *[("truth", "true lesion")] * (case.truth_hw is not None),
        )
        text = f"The outlines of {'all ' if count > 1 else ''}{count} network{'s' * (count > 1)} at once"
        every = images.svg(
            text, size, [images.use_image("case-image", size), case.outline(size), *outlines], viewer.LINKED
        )
        return (
            (html.colour_bar("all agree", "evenly split") if which == "dispute" else "")
            + html.figure(every, "Every outline", f"{text}.")
            + legend
        )
    heat = images.box_on_image(compared.predictions.map(which), case.box, case.shape_hw, size)
    drawn = images.svg(
        f"Probability of lesion by {name_of(compared, which)}", size, [heat, case.outline(size)], viewer.LINKED
    )
    highest, at = (
        html.percent(value)
        for value in (float(compared.predictions.probabilities[which].max()), compared.threshold_of(which))
    )
    return html.figure(
        drawn, "Probability of lesion", f"Highest {highest}; the outline runs where it reaches {at}."
    ) + html.colour_bar("0%", "100%", f'<b style="left:{100 * compared.threshold_of(which):.0f}%"></b>')
