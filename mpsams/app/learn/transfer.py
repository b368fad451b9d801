"""The tenth step of the walk in words and pictures: outline lesions with what was learnt; no gradio here."""

from __future__ import annotations

from mpsams.app.components import html, network_grid
from mpsams.app.learn import pictures
from mpsams.app.learn.context import COMPARED, THRESHOLD, LessonContext
from mpsams.app.learn.layout import StepPage
from mpsams.app.learn.steps import film
from mpsams.app.learn.uses import NO_NETWORK
from mpsams.inference.case import NAMES
from mpsams.inference.checkpoint_metadata import training_data
from mpsams.inference.comparison import SliceComparison
from mpsams.inference.network_names import ASSIST, TITLES, is_assistant, parse_name

SAME_DSC = 0.02  # a smaller difference on one image says nothing
WEAK_DSC = 0.4  # below it, a network has hardly found the lesion
# networks of step 10, in their order
BEGUN = {"mps_ams": "10% of labels", "scratch": "10% of labels", ASSIST: "all labels"}


def transfer(context: LessonContext) -> StepPage:
    """Return the page of step 10: lesions are outlined with what was learnt."""
    title, compared = "Use what was learnt: outline lesions", context.compared
    ask = (
        (
            "both networks that have 10% of the labels saw the same ones. What could the pretrained one have learnt"
            " before?"
        ),
        (
            "Filters for edges, texture and tissue, and which structures usually lie next to each other. Only the"
            " border of the lesion still has to be learnt from labels."
        ),
    )
    if compared is None:
        return StepPage(
            title,
            film(pictures.cut(context)),
            [NO_NETWORK.format(kind="segmentation")],
            "<h4>Try it</h4><p>The steps before work without any.</p>",
            *ask,
        )
    about = [context.registry.metadata(name) for name in compared.masks]
    paragraphs = [
        (
            "The network that filled in patches gets a new last layer and is fine-tuned on a few images with outlined"
            " lesions, 10% of those available. For comparison, a network of the same shape is trained on the same"
            " images from random weights."
        ),
        *with_all_labels(context, compared),
        judged(context, compared),
        "One image proves nothing: the tab Results shows the averages over images that no training saw.",
    ]
    key = html.key(
        ("outline", "outlined by the network"),
        *([("truth", "true lesion")] if context.case.truth_hw is not None else []),
    )
    elsewhere = html.trained_elsewhere([training_data(one) for one in about], context.case.modality, NAMES)
    taught = "" if elsewhere else html.taught_on(training_data(about[0]), context.case.plane)
    return StepPage(
        title,
        elsewhere + html.row(outlined_films(context, compared), "films two") + key,
        paragraphs,
        "<h4>Try it</h4><p>Choose another sample in the sidebar, or open an image of your own. The tab Segment &amp;"
        ' compare has all networks and a threshold to move.</p><button type="button" class="do" data-go="11">Play the'
        " quiz</button>",
        *ask,
        taught,
    )


def outlined_films(context: LessonContext, compared: SliceComparison) -> list[str]:
    """Return a picture of the outline of each network that is compared, with its DSC."""
    truth = context.case.outline(context.case.size_hw)
    films = []
    for name in sorted(compared.masks, key=lambda name: list(BEGUN).index(parse_name(name)[1])):
        begun = BEGUN[parse_name(name)[1]]
        known = compared.scores.get(name)
        score = f"DSC {html.number(known['dsc'], 3)}. " if known else ""
        caption = f"{score}Outlines {network_grid.share(compared.masks[name])}."
        films.append(
            html.figure(
                network_grid.picture(compared, name, truth, network_grid.LARGE),
                f"{TITLES[parse_name(name)[1]]} <em>{begun}</em>",
                caption,
            )
        )
    return films


def with_all_labels(context: LessonContext, compared: SliceComparison) -> list[str]:
    """Return a sentence on the assistant; empty without one."""
    name = next((name for name in compared.masks if is_assistant(name)), None)
    if name is None:
        return []
    dsc = compared.scores.get(name, {}).get("dsc")
    return [
        "The assistant was trained with all labels"
        + (f"; its DSC is {html.number(dsc, 3)} here." if dsc is not None and context.case.has_lesion else ".")
    ]


def judged(context: LessonContext, compared: SliceComparison) -> str:
    """Compare the two by the numbers of this image."""
    truth_hw = context.case.truth_hw
    if truth_hw is None or not compared.scores:
        return (
            f"The outline runs where the probability of lesion reaches {THRESHOLD:.0%}. Which is right cannot be said"
            " here: this image has no lesion mask."
        )
    if not truth_hw.any():
        return "This image holds no lesion: the right answer is to outline nothing."
    dsc = {parse_name(name)[1]: scores["dsc"] for name, scores in compared.scores.items() if not is_assistant(name)}
    if set(dsc) != set(COMPARED):
        return (
            "Overlap with the true lesion (DSC, 1 is perfect):"
            f" {', '.join(html.number(value, 3) for value in dsc.values())}."
        )
    gain = dsc["mps_ams"] - dsc["scratch"]
    verdict = (
        "no difference on this image"
        if abs(gain) < SAME_DSC
        else (
            "on this image the pretrained network does better"
            if gain > 0
            else "on this image the pretrained network does worse"
        )
    )
    weak = " Both networks are small and had few labels; they find little here." if max(dsc.values()) < WEAK_DSC else ""
    return (
        "Overlap with the true lesion (DSC, 1 is perfect): pretrained"
        f" <strong>{html.number(dsc['mps_ams'], 3)}</strong>, from scratch"
        f" <strong>{html.number(dsc['scratch'], 3)}</strong>: {verdict}.{weak}"
    )
