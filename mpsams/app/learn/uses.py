"""Steps 7 to 9 of the walk in words and pictures: hide, reconstruct, compare with random masking.

No gradio here.

Over 250 lines because most of it is the text of three steps.
"""

from __future__ import annotations

import math

from torch import Tensor

from mpsams import inference, schedule
from mpsams.app.components import html
from mpsams.app.components.reconstruction_pictures import MAX_ERROR, ReconstructionImages
from mpsams.app.learn import lesson, pictures
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.layout import StepPage, slider, toggle
from mpsams.app.learn.state import WAYS
from mpsams.app.learn.steps import film, small
from mpsams.inference.case import NAMES
from mpsams.inference.checkpoint_metadata import training_data
from mpsams.plots import images

NO_NETWORK = (
    "<strong>No {kind} network here.</strong> This step needs one in the folder given by <code>--weights</code>;"
    " docs/train/your-own-images.md describes how to train one."
)


def ways(context: LessonContext) -> str:
    """Return buttons for the ways to hide patches, and a slider of the epoch where it matters."""
    chosen = toggle("way", {f'"{name}"': label for name, label in WAYS.items()}, context.state.way)
    more = slider("epoch", "Epoch", context.state.epoch, 1, schedule.HORIZON) if context.state.way != "own" else ""
    return chosen + more


def hidden_words(context: LessonContext) -> str:
    """Return a sentence on the number and share of hidden patches in the chosen way."""
    count, length = int(context.hidden_1l.sum()), context.study.length
    if context.state.way == "own":
        return f'You hide <b data-say="hidden">{count}</b> of {length} patches.'
    return (
        f'At epoch <b data-say="epoch">{context.state.epoch}</b>, <b'
        f' data-say="share">{html.percent(context.masked.ratio, 1)}</b>, that is <b data-say="hidden">{count}</b> of'
        f" {length} patches, {WAYS[context.state.way].lower()}."
    )


def hide(context: LessonContext) -> StepPage:
    """Return the page of step 7: patches are hidden, by the method or by hand."""
    own = context.state.way == "own"
    how = (
        "Draw on the picture with the mouse or a finger. With the keyboard: Tab to the picture, move with the arrow"
        " keys, hide or show with the space bar."
        if own
        else "Move the epoch, or choose “Your own” and draw a mask on the picture."
    )
    clear = (
        '<button type="button" class="do" data-set="own" data-value="&quot;&quot;">Show all again</button>'
        if own
        else ""
    )
    copy = (
        '<button type="button" class="do" data-set="own"'
        f' data-value="&quot;{lesson.pack_mask(context.masked.lesion_first_1l[0])}&quot;">Start from lesion'
        " first</button>"
        if own
        else ""
    )
    coverage = ""
    if context.case.has_lesion:
        share = inference.coverage(context.hidden_1l, context.truth_1l)
        coverage = (
            f"Of the true lesion, <strong>{html.percent(share)}</strong> of its {int(context.truth_1l.sum())} patches"
            " are hidden now."
        )
    return StepPage(
        "Hide patches: this is all the network sees",
        film(pictures.network_input(context), html.key(("flat", "hidden: plain grey, the image’s mean"))),
        [
            (
                f"{'The patches you choose' if own else 'The first n patches of the order'} are painted over with the"
                f" mean grey of the image. {hidden_words(context)}"
            ),
            f"The network gets this picture and nothing else: no label and no outline. {coverage}",
        ],
        f'<h4>Try it</h4>{ways(context)}<p>{how}</p><div class="toggle">{copy}{clear}</div>',
        "which patches would you hide to make the exercise hardest? And which teach most?",
        "Hardest: large connected regions. A network may learn most where it cannot simply continue what is around; the"
        " paper’s hypothesis is that these are the lesion-like patches.",
    )


def reconstruct(context: LessonContext) -> StepPage:
    """Return the page of step 8: a network fills in the hidden patches."""
    title = "Fill in what is hidden"
    tries = (
        f"<h4>Try it</h4>{ways(context)}<p>Choose “Your own” and go back a step to draw: hide the lesion only, or"
        " everything but the lesion.</p>"
    )
    ask = (
        "does a good filling mean that the network knows what a lesion is?",
        (
            "No. It means that the network knows what such tissue usually looks like. A lesion that is hidden"
            " completely is often filled in as healthy tissue, since nothing visible suggests one."
        ),
    )
    if context.autoencoder is None:
        return StepPage(
            title,
            film(pictures.hiding(context, context.state.way)),
            [NO_NETWORK.format(kind="pretrained")],
            tries,
            *ask,
        )
    if not context.hidden_1l.any():
        return StepPage(
            title,
            film(pictures.network_input(context)),
            ["Nothing is hidden yet: go back a step and draw your mask, or choose another way."],
            tries,
            *ask,
        )
    result = context.reconstruct(context.state.way)
    error, given_11ss = result.error_hidden, inference.hide(context.image_11ss, context.hidden_1l, context.study.patch)
    mean = lesson.mean_error(given_11ss, context.image_11ss, context.hidden_1l, context.study.patch)
    split = ""
    if context.case.has_lesion and not math.isnan(result.error_lesion):
        split = (
            f" Inside the true lesion it errs by <strong>{html.percent(result.error_lesion, 1)}</strong>, outside by"
            f" {html.percent(result.error_background, 1)}."
        )
    better = "closer than" if error < mean else "no closer than"
    return StepPage(
        title,
        html.trained_elsewhere([training_data(context.autoencoder.metadata)], context.case.modality, NAMES)
        + filling_pictures(context, given_11ss, result),
        [
            f"A U-Net, trained only on this exercise, fills in the hidden patches. {hidden_words(context)}",
            (
                f"On average a hidden pixel is off by <strong>{html.percent(error, 1)}</strong> of full brightness."
                f" Plain grey would be off by {html.percent(mean, 1)}, so it is {better} that.{split}"
            ),
            (
                "Its predictions look smooth: of all images that would fit, the squared error is smallest for their"
                " average."
            ),
        ],
        tries,
        *ask,
    )


def filling_pictures(context: LessonContext, given_11ss: Tensor, result: ReconstructionImages) -> str:
    """Return the filling large, and below it what the network was given, the image as it is, and the error."""
    size = pictures.SIZE
    big = images.svg(
        f"What the network fills in for {int(context.hidden_1l.sum())} hidden patches",
        size,
        [images.raster(result.filled, size)],
    )
    seen = images.svg("What the network sees", size, [pictures.grey(given_11ss)])
    error_map = images.svg(
        "Error of the filling, hidden patches only; brighter is further off", size, [images.raster(result.error, size)]
    )
    real = images.svg("The image as it is", size, [pictures.image(), context.case.outline(size, part=True)])
    trio = html.row([small(seen, "given"), small(real, "the image as it is"), small(error_map, "error")], "strip3")
    return film(big, trio, html.colour_bar("no error", f"{MAX_ERROR:.0%} or more"))


def compare(context: LessonContext) -> StepPage:
    """Return the page of step 9: hiding lesion first is compared with hiding at random."""
    at, length, truth_1l = context.masked, context.study.length, context.truth_1l
    shows = {"first": "Lesion first <em>MPS</em>", "random": "At random <em>as MAE does</em>"}
    duo = html.row(
        [
            html.figure(pictures.hiding(context, way), heading, f"{at.hidden} of {length} patches")
            for way, heading in shows.items()
        ],
        "films two",
    )
    ratio = html.percent(at.ratio, 1)
    paragraphs = [
        f"Both hide the same number of patches, {at.hidden} of {length} ({ratio} at epoch {context.state.epoch}). Does"
        " lesion first hide more of the lesion?"
    ]
    if context.case.has_lesion:
        first, random = inference.coverage(at.lesion_first_1l, truth_1l), inference.coverage(at.random_1l, truth_1l)
        more = "more" if first > random else "less" if first < random else "as much"
        paragraphs.append(
            f"Lesion first hides <strong>{html.percent(first)}</strong> of the true lesion, this random draw "
            f"<strong>{html.percent(random)}</strong>: "
            f"{more}{' of it' if more != 'as much' else ''}. On average, random masking hides {ratio} of any region."
        )
    paragraphs.append(
        f"Both draw masks at random, but lesion first has fewer to draw from: 2 to the power of {at.bits:.0f} "
        f"({at.bits:.0f} bits of entropy) instead of {at.random_bits:.0f}."
    )
    key = [("hidden lesion-patch", "hidden, called lesion"), ("hidden", "hidden, background")]
    key += [("truth", "true lesion")] if context.case.has_lesion else []
    names = [*shows, *(["own"] if context.state.own_1l.any() else [])]
    return StepPage(
        "Is it better than random masking?",
        duo + html.key(*key) + numbers(context, names),
        paragraphs,
        f"<h4>Try it</h4>{slider('epoch', 'Epoch', context.state.epoch, 1, schedule.HORIZON)}<p>Swap the clusters in"
        " step 4, or have them made by something else, and come"
        f" back.</p>{toggle('swap', {'false': 'As the method says', 'true': 'Swapped'}, context.state.swap)}",
        "if the cluster does not find the lesion better than random patches, why may the method still help?",
        "Hiding similar patches together is a harder task than hiding scattered ones, and the rising ratio may help by"
        " itself. Finding the lesion is only one possible explanation of a gain.",
        honest(context),
    )


def numbers(context: LessonContext, names: list[str]) -> str:
    """Return a table of the ways to hide patches side by side."""
    at, split = context.masked, context.case.has_lesion
    hidden = {name: context.hidden_patches(name) for name in names}
    entropy = {"first": f"{at.bits:.0f} bits", "random": f"{at.random_bits:.0f} bits", "own": "0 bits"}
    rows = [["Patches hidden", *(str(int(mask_1l.sum())) for mask_1l in hidden.values())]]
    if split:
        rows.append(
            [
                "True lesion hidden",
                *(html.percent(inference.coverage(mask_1l, context.truth_1l)) for mask_1l in hidden.values()),
            ]
        )
    rows.append(["Entropy of the mask", *(entropy[name] for name in names)])
    if context.autoencoder is not None:
        results = [context.reconstruct(name) for name in names]
        rows += [["Error inside the lesion", *(html.percent(one.error_lesion, 1) for one in results)]] * split
        rows += [
            [
                "Error outside it" if split else "Error of the filling",
                *(html.percent(one.error_background, 1) for one in results),
            ]
        ]
    return html.table(["", *(WAYS[name] for name in names)], rows)


def honest(context: LessonContext) -> str:
    """Return a table of lift and AUC on this image and on a whole data set, beside those of the distance to the image's
    middle.
    """
    rows, found, measured = [], context.agreement, context.dataset_agreement
    if found is not None and context.case.has_lesion:
        rows.append(["This image", html.number(found.lift), html.number(found.auc), html.number(context.centre_auc)])
    if measured is not None:
        source = f"{measured['images']} images, {measured['target']}"
        rows.append(
            [source, html.number(measured["lift"]), html.number(measured["auc"]), html.number(measured["centre"])]
        )
    if not rows:
        return ""
    finding = ""
    if measured is not None:
        lift, auc, middle = measured["lift"], measured["auc"], measured["centre"]
        near = "hardly better than" if auc > 0.5 else "no better than"
        how = "better than" if lift > 1.2 and auc > 0.55 else "worse than" if lift < 0.8 or auc < 0.45 else near
        kind = NAMES[context.case.modality].replace("Ultrasound", "ultrasound")
        finding = (
            f"<strong>Over many images.</strong> On {measured['images']} {kind} images with a lesion, the cluster"
            f" called lesion finds it {how} random patches, and ranks patches {'worse' if auc < middle else 'better'}"
            " than their distance to the middle of the image does. Images are usually taken with the lesion near the"
            " middle, so a useful method has to rank better than this distance."
        )
    why = (
        "Lift: how many times as often orange patches are lesion as random patches (1 = chance; over many images, "
        "their mean). AUC: probability that a lesion patch ranks before a healthy one (0.5 for a random order)."
    )
    swap = (
        " The data set’s numbers are for clusters that are not swapped."
        if context.state.swap and measured is not None
        else ""
    )
    head = ["Does it find the lesion?", "lift", "AUC of the clustering", "AUC of nearness to the middle"]
    return html.note(f"{finding} {why}{swap}", "warning") + html.table(head, rows)
