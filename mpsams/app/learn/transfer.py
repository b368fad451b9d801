"""The tenth step of the lesson as values for its template: outline lesions with what was learnt; no gradio here."""

from __future__ import annotations

from markupsafe import Markup

from mpsams.app.components import html, network_grid
from mpsams.app.learn import pictures
from mpsams.app.learn.context import COMPARED, THRESHOLD, LessonContext
from mpsams.app.learn.layout import StepPage, step_page
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
    compared = context.compared
    if compared is None:
        return step_page("transfer", context, picture=pictures.cut(context), figures=[], taught="")
    seen = [training_data(context.registry.metadata(name)) for name in compared.masks]
    elsewhere = html.trained_elsewhere(seen, context.case.modality, NAMES)
    assistant = next((name for name in compared.masks if is_assistant(name)), None)
    return step_page(
        "transfer",
        context,
        figures=outlined_figures(context, compared),
        has_truth=context.case.truth_hw is not None,
        assistant=assistant and {"dsc": compared.scores.get(assistant, {}).get("dsc")},
        judged=judged(context, compared),
        elsewhere=elsewhere,
        taught="" if elsewhere else html.taught_on(seen[0], context.case.plane),
    )


def outlined_figures(context: LessonContext, compared: SliceComparison) -> list[dict]:
    """Return a picture of the outline of each network that is compared, with its DSC."""
    truth, begun = context.case.outline(context.case.size_hw), list(BEGUN)
    return [
        {
            "title": TITLES[method],
            "begun": BEGUN[method],
            "picture": network_grid.picture(compared, name, truth, network_grid.LARGE),
            "dsc": compared.scores.get(name, {}).get("dsc"),
            "share": network_grid.share(compared.masks[name]),
        }
        for name, method in sorted(
            ((name, parse_name(name)[1]) for name in compared.masks), key=lambda one: begun.index(one[1])
        )
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
    return Markup(
        "Overlap with the true lesion (DSC, 1 is perfect): pretrained <strong>{}</strong>, from scratch"
        " <strong>{}</strong>: {}.{}"
    ).format(html.number(dsc["mps_ams"], 3), html.number(dsc["scratch"], 3), verdict, weak)
