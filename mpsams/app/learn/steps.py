"""The first half of the walk in words and pictures: patches, similarity, covariance, clusters, order, ratio.

No gradio here.

Over 250 lines because most of it is the text of six steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mpsams import clusters, schedule
from mpsams.app.components import html
from mpsams.app.learn import lesson, pictures
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.layout import StepPage, slider, toggle

MARKS = (1, 2, 10, 100, 800)
READINGS = {"covariance-of-softmax": "Covariance of softmax", "softmax-of-covariance": "Softmax of covariance"}
SELECTORS = READINGS | {clusters.GEODESIC: "Geodesic"}
WAYS = {'"first"': "Lesion first", '"random"': "At random"}
CHOOSE = "Click a patch, or press Tab until the picture is framed and use the arrow keys."


def film(picture: str, *below: str) -> str:
    """Return a picture on its dark ground with HTML below it."""
    return f'<figure class="film"><div class="light">{picture}</div></figure>{"".join(below)}'


def small(picture: str, caption: str) -> str:
    """Return a small picture with a caption."""
    return f'<figure class="film small"><div class="light">{picture}</div><figcaption>{caption}</figcaption></figure>'


def signed_number(value: float) -> str:
    """Return a number of either sign as text, with a real minus sign."""
    return html.number(value).replace("-", "−")


def true_lesion(context: LessonContext) -> list[tuple[str, str]]:
    """Return the legend of the true outline; empty without one."""
    return [("truth", "true lesion, which the method never sees")] if context.case.has_lesion else []


def cut(context: LessonContext) -> StepPage:
    """Return the page of step 1: the image is cut into patches."""
    study, bright = context.study, lesson.patch_means(context.image_11ss, context.study.patch)
    side = study.patch
    return StepPage(
        "Cut the image into patches",
        film(pictures.cut(context), html.key(("picked", "your patch"), *true_lesion(context))),
        [
            (
                f"The image is brought to {context.columns * side} × {context.columns * side} pixels and cut into"
                f" <strong>{context.columns} × {context.columns} = {study.length} patches</strong>."
            ),
            (
                f"Each patch is a small square of {side} × {side} = {side * side} numbers, one for the brightness of"
                " each pixel. From here on the method looks at whole patches, never at single pixels."
            ),
            (
                f"Your patch is number <strong>{context.patch + 1}</strong> ({pictures.where(context, context.patch)})."
                f" Its mean brightness is {html.percent(bright[context.patch])}; that of the whole image is"
                f" {html.percent(float(context.image_11ss.mean()))}."
            ),
        ],
        f"<h4>Try it</h4><p>{CHOOSE} Here are its pixels, "
        f"enlarged:</p>{small(pictures.pixels(context), f'Patch {context.patch + 1}: {side} × {side} pixels')}",
        "why not hide single pixels instead of patches?",
        "A missing pixel is almost the mean of its neighbours, so a network could fill it in without learning anything."
        " To fill in a whole patch it has to know what is usually there.",
    )


MEASURES = {  # how two patches are compared, by the measure of similarity
    "inner-product": (
        (
            "Two patches are compared pixel by pixel: multiply the values in the same place, add everything up and"
            " divide by the root of the number of pixels."
        ),
        (
            "Before that the image is shifted so that its mean is 0. Bright times bright is positive, and so is dark"
            " times dark; bright times dark is negative."
        ),
    ),
    "cosine": (
        (
            "Two patches are compared pixel by pixel: multiply the values in the same place, add everything up and"
            " divide by the lengths of both patches. This is the cosine of the angle between them."
        ),
        (
            "Dividing by the lengths takes overall brightness out: a patch and a copy of it at half the brightness have"
            " similarity 1."
        ),
    ),
    "distance": (
        (
            "Two patches are compared pixel by pixel: subtract the values in the same place, square the differences,"
            " and take the root of their mean."
        ),
        "The similarity is minus this distance, so 0 is a patch like itself and other values are negative.",
    ),
}
SEES = {
    "inner-product": "It sees mostly how bright a patch is.",
    "cosine": "It sees the pattern inside a patch, not how bright the patch is as a whole.",
    "distance": "It sees both brightness and pattern.",
}


def similarity(context: LessonContext) -> StepPage:
    """Return the page of step 2: how similar each patch is to the chosen one."""
    values_l = context.similarity_l
    others_l = torch.arange(len(values_l)) != context.patch
    most, least = lesson.top_patches(values_l, others_l, 1)[0], lesson.top_patches(-values_l, others_l, 1)[0]
    low, high = (signed_number(float(value)) for value in (values_l.min(), values_l.max()))
    return StepPage(
        "Which patches are alike?",
        film(
            pictures.similarity(context),
            html.colour_bar(f"unlike ({low})", f"alike ({high})"),
            html.key(("picked", "your patch")),
        ),
        [
            *MEASURES[context.clustering_options["similarity"]],
            (
                f"Of all others, the patch in {pictures.where(context, most)} is <strong>most like</strong> yours"
                f" ({signed_number(float(values_l[most]))}), the one in {pictures.where(context, least)} is"
                f" <strong>least like</strong> it ({signed_number(float(values_l[least]))})."
            ),
        ],
        f"<h4>Try it</h4><p>{CHOOSE} Compare a dark patch with a bright one.</p>",
        "what does this similarity see, and what does it miss?",
        f"{SEES[context.clustering_options['similarity']]} Texture counts only where it lies on the same pixels in both"
        " patches, so the same tissue shifted by a few pixels may look unlike.",
    )


def covariance(context: LessonContext) -> StepPage:
    """Return the page of step 3: the matrices from the similarities to the covariance."""
    names, length = list(context.stages), context.study.length
    selector = context.clustering_options["selector"]
    descriptions = {
        "covariance-of-softmax": (
            "In this reading, the softmax turns every row of the similarities into shares that sum to 1, and the"
            " <strong>covariance</strong> asks of any two patches whether their shares rise and fall together."
        ),
        "softmax-of-covariance": (
            "In this reading, the covariance of the patches’ own pixels comes first, and the <strong>softmax</strong>"
            " turns each of its rows into shares that sum to 1."
        ),
    }
    other = (
        ""
        if context.case.selector in clusters.PAPER_SELECTORS
        else " The clusters of the next steps are made by another selector, chosen in the sidebar; this is the paper’s."
    )
    strip = "".join(small(pictures.matrix(context, name), f"{k}. {name}") for k, name in enumerate(names, 1))
    return StepPage(
        "A row of numbers for every patch",
        film(
            pictures.axes(pictures.matrix(context, names[-1], True), length),
            html.colour_bar("low", "high"),
            html.key(("picked", f"row of patch {context.patch + 1}")),
        ),
        [
            (
                f"All similarities together are a table of {length} × {length}: row {context.patch + 1} tells how patch"
                f" {context.patch + 1} relates to every other."
            ),
            (
                "The paper says “a covariance matrix after a softmax layer according to the degree of similarity”. That"
                " sentence can be read in two ways, and they find different lesions."
            ),
            f"{descriptions[selector]}{other}",
        ],
        "<h4>Try it</h4><p>Choose the selector; it holds for the whole page. Click a row, or a patch"
        f" below.</p>{choices(READINGS, selector)}"
        f'<div class="strip3">{strip}{small(pictures.picker(context), f"patch {context.patch + 1}")}</div>',
        "why does the selector matter so much?",
        "The next step groups patches by their rows. Another table has other rows, so other patches end up together. A"
        " paper without code leaves such choices open; here both can be tried.",
    )


def choices(names: Mapping[str, str], chosen: str) -> str:
    """Return buttons that choose what patches are clustered by."""
    buttons = "".join(
        f'<button type="button" data-selector="{name}" aria-pressed="{str(name == chosen).lower()}">{label}</button>'
        for name, label in names.items()
    )
    return f'<div class="toggle" role="group" aria-label="What patches are clustered by">{buttons}</div>'


def two_clusters(context: LessonContext) -> StepPage:
    """Return the page of step 4: the patches are split into two clusters."""
    rounds, length = context.rounds, context.study.length
    a, last = int(rounds[context.round].sum()), len(rounds) - 1
    slide = slider("rounds", "Round of 2-means:", context.round, 0, last) if last > 0 else ""
    which = "larger" if 2 * context.study.lesion_size > length else "smaller"
    took = f" On this image nothing changes after round {last}." if last > 0 else ""
    swapped = f" (swapped: now the {which} one)" if context.state.swap else ""
    if context.case.selector in clusters.PAPER_SELECTORS:
        how = (
            "The rows are grouped in two by 2-means: start with the rows of the brightest and of the darkest patch,"
            f" give every row to the nearer one, move both to the mean of their rows, repeat.{took}"
        )
        calls = "calls the smaller cluster lesion"
    else:
        how = (
            "The geodesic selector is ours, not the paper’s. Of all paths from the border of the image to a patch,"
            " take the one on which the brightness falls least: how far does it fall? Your patch:"
            f" <strong>{html.number(float(context.study.clusters.rows_bln[0, context.patch, 0]))}</strong> deviations"
            " of brightness. 2-means groups these numbers in two; those with a large fall are enclosed by brighter"
            " tissue, as lesions often are."
        )
        calls = "calls the cluster with the larger falls lesion"
    return StepPage(
        "Two clusters, and one is called lesion",
        film(
            pictures.clusters(context),
            html.key(
                ("lesion", f"called lesion: {a} patches"),
                ("ground", f"background: {length - a} patches"),
                *true_lesion(context),
            ),
        ),
        [
            how,
            (
                f"The method does not know what a lesion is. It <strong>{calls}</strong>: {context.study.lesion_size}"
                f" of {length} patches here{swapped}."
            ),
            verdict(context),
        ],
        "<h4>Try it</h4><p>Cluster by something else, or call the other cluster lesion; the next steps then follow"
        f" it.</p>{choices(SELECTORS, context.case.selector)}"
        f"{toggle('swap', {'false': 'As the method says', 'true': 'Swapped'}, context.state.swap)}{slide}",
        "in which images is the smaller cluster the lesion?",
        "Where a lesion is the only thing that differs from an even background. In most images shadows, borders and"
        " bright tissue differ as well, and a healthy image gets a “lesion” too.",
    )


def verdict(context: LessonContext) -> str:
    """Return a sentence on how well the orange cluster fits the lesion of this image."""
    found = context.agreement
    if found is None:
        return "Whether that is right cannot be said here: this image has no lesion mask."
    if not context.case.has_lesion:
        return "This image holds no lesion at all, and still one cluster is called lesion."
    inside = int((context.study.clusters.lesion_bl & context.truth_1l).sum())
    return (
        f"Is it right? Of the {found.lesion_patches} patches that truly are lesion, <strong>{inside}</strong> are"
        f" orange. Orange patches are lesion <strong>{html.number(found.lift)}×</strong> as often as random patches (1"
        " = chance)."
    )


def order(context: LessonContext) -> StepPage:
    """Return the page of step 5: the order in which patches are hidden."""
    way = "random" if context.state.way == "random" else "first"
    place = lesson.hiding_ranks(context.study.random_1l if way == "random" else context.study.lesion_first_1l)[
        context.patch
    ]
    a, length = context.study.lesion_size, context.study.length
    description = (
        f"<strong>Lesion first</strong>: the {a} patches of the orange cluster get the numbers 1 to {a}, the others"
        f" {a + 1} to {length}. Within each cluster the order is random."
        if way == "first"
        else (
            f"<strong>At random</strong>, as other masked autoencoders do: all {length} patches are shuffled, whatever"
            " cluster they are in."
        )
    )
    return StepPage(
        "Put the patches in an order",
        film(
            pictures.order(context),
            html.colour_bar("hidden last", "hidden first"),
            html.key(("lesion", "called lesion"), ("picked", "your patch")),
        ),
        [
            "Every patch gets a number: the place at which it will be hidden.",
            description,
            (
                f"Your patch ({pictures.where(context, context.patch)}) has number <strong>{place}</strong>. The order"
                f" is drawn from seed {context.case.seed}; training draws a new one each time it sees an image."
            ),
        ],
        "<h4>Try it</h4><p>Draw again: the numbers change, the clusters stay.</p>"
        f"{toggle('way', WAYS, way)}<button "
        'type="button" class="do" data-order>Draw another order</button>',
        "why is the order random within a cluster?",
        "If the same patches were hidden each time, the network could memorise them. With a new order each time, one"
        " image gives many training examples.",
    )


def ratio(context: LessonContext) -> StepPage:
    """Return the page of step 6: the share of hidden patches grows over the epochs."""
    at, length, state = context.masked, context.study.length, context.state
    shares = {epoch: schedule.mask_ratio(epoch) for epoch in MARKS}
    marks = "".join(
        f'<button type="button" data-set="epoch" data-value="{epoch}"'
        f' aria-pressed="{str(epoch == state.epoch).lower()}">{epoch}</button>'
        for epoch in MARKS
    )
    inside = int((at.lesion_first_1l & context.study.clusters.lesion_bl).sum())
    return StepPage(
        "Hide more in every epoch",
        film(
            pictures.played(context),
            html.key(
                ("hidden lesion-patch", "hidden, called lesion"),
                ("hidden", "hidden, background"),
                *true_lesion(context),
            ),
        ),
        [
            (
                "An epoch is one pass over all training images. The share that is hidden grows with it: <strong>σ = 25%"
                " + ln(epoch) / 12</strong>."
            ),
            (
                f"Training begins with easy tasks. In epoch 1 {html.percent(shares[1])} are hidden, in epoch 10 already"
                f" {html.percent(shares[10])}, in epoch 800 {html.percent(shares[800])}: fast at first, then ever"
                " slower."
            ),
            (
                f'At epoch <b data-say="epoch">{state.epoch}</b> it is <b'
                f' data-say="share">{html.percent(at.ratio, 1)}</b>: <b data-say="hidden">{at.hidden}</b> of {length}'
                f' patches, <b data-say="inside">{inside}</b> of them called lesion.'
            ),
        ],
        '<h4>Try it</h4><div class="player"><button type="button" class="do" data-play '
        f'aria-pressed="false">Play</button>{slider("epoch", "Epoch", state.epoch, 1, schedule.HORIZON)}</div>'
        f'<div class="toggle marks" role="group" aria-label="Epochs to jump to">{marks}</div><div class="panelet '
        f'curve">{pictures.curve(context)}</div>',
        "MAE hides 75% from the first epoch on. What speaks for starting with less?",
        "At first the network can only predict grey. When a quarter is missing, it can be filled in from what is around"
        " it; once that works, harder tasks teach more.",
    )
