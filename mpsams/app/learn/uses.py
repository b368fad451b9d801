"""Steps 7 to 9 of the lesson as values for their templates: hide, reconstruct, compare with random masking.

No gradio here.
"""

from __future__ import annotations

from mpsams import inference
from mpsams.app.components import html
from mpsams.app.components.reconstruction_pictures import MAX_ERROR
from mpsams.app.learn import lesson, pictures
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.layout import StepPage, step_page
from mpsams.app.learn.state import WAYS
from mpsams.inference.case import NAMES
from mpsams.inference.checkpoint_metadata import training_data
from mpsams.plots import images


def hide(context: LessonContext) -> StepPage:
    """Return the page of step 7: patches are hidden, by the method or by hand."""
    return step_page(
        "hide",
        context,
        picture=pictures.network_input(context),
        count=int(context.hidden_1l.sum()),
        coverage=inference.coverage(context.hidden_1l, context.truth_1l) if context.case.has_lesion else None,
        lesion_patches=int(context.truth_1l.sum()),
        mask=lesson.pack_mask(context.masked.lesion_first_1l[0]),
    )


def reconstruct(context: LessonContext) -> StepPage:
    """Return the page of step 8: a network fills in the hidden patches."""
    network, count = context.autoencoder, int(context.hidden_1l.sum())
    values: dict[str, object] = {"has_network": network is not None, "count": count, "given": "", "elsewhere": ""}
    if network is None:
        picture = pictures.hiding(context, context.state.way)
    elif not count:
        picture = pictures.network_input(context)
    else:
        result, size = context.reconstruct(context.state.way), pictures.SIZE
        given_11ss = inference.hide(context.image_11ss, context.hidden_1l, context.study.patch)
        text, drawn = f"What the network fills in for {count} hidden patches", [images.raster(result.filled, size)]
        picture = images.svg(text, size, drawn)
        values |= {
            "elsewhere": html.trained_elsewhere([training_data(network.metadata)], context.case.modality, NAMES),
            "given": images.svg("What the network sees", size, [pictures.grey(given_11ss)]),
            "real": images.svg("The image as it is", size, [pictures.image(), context.case.outline(size, part=True)]),
            "error_map": images.svg(
                "Error of the filling, hidden patches only; brighter is further off",
                size,
                [images.raster(result.error, size)],
            ),
            "max_error": MAX_ERROR,
            "result": result,
            "grey_error": lesson.mean_error(given_11ss, context.image_11ss, context.hidden_1l, context.study.patch),
        }
    return step_page("reconstruct", context, picture=picture, **values)


def compare(context: LessonContext) -> StepPage:
    """Return the page of step 9: hiding lesion first is compared with hiding at random."""
    at, truth_1l, has_lesion = context.masked, context.truth_1l, context.case.has_lesion
    names = ["first", "random", *(["own"] if context.state.own_1l.any() else [])]
    first, random = (
        inference.coverage(mask_1l, truth_1l) if has_lesion else None for mask_1l in (at.lesion_first_1l, at.random_1l)
    )
    return step_page(
        "compare",
        context,
        pictures={way: pictures.hiding(context, way) for way in names[:2]},
        at=at,
        first=first,
        random=random,
        numbers=numbers(context, names),
        measured=context.dataset_agreement,
        kind=NAMES[context.case.modality].replace("Ultrasound", "ultrasound"),
        scores=scores(context),
    )


def numbers(context: LessonContext, names: list[str]) -> list[list[str]]:
    """Return a table of the ways to hide patches side by side; its first row is the head."""
    at, split = context.masked, context.case.has_lesion
    hidden = {name: context.hidden_patches(name) for name in names}
    entropy = {"first": f"{at.bits:.0f} bits", "random": f"{at.random_bits:.0f} bits", "own": "0 bits"}
    rows = [
        ["", *(WAYS[name] for name in names)],
        ["Patches hidden", *(str(int(one.sum())) for one in hidden.values())],
    ]
    if split:
        shares = [html.percent(inference.coverage(mask_1l, context.truth_1l)) for mask_1l in hidden.values()]
        rows.append(["True lesion hidden", *shares])
    rows.append(["Entropy of the mask", *(entropy[name] for name in names)])
    if context.autoencoder is not None:
        results = [context.reconstruct(name) for name in names]
        rows += [["Error inside the lesion", *(html.percent(one.error_lesion, 1) for one in results)]] * split
        outside = "Error outside it" if split else "Error of the filling"
        rows.append([outside, *(html.percent(one.error_background, 1) for one in results)])
    return rows


def scores(context: LessonContext) -> list[list[str]]:
    """Return rows of lift and AUC on this image and on a whole data set, beside the AUC of the distance to the image's
    middle.
    """
    found, measured = context.agreement, context.dataset_agreement
    rows: list[tuple[str, float, float, float]] = []
    if found is not None and context.case.has_lesion:
        rows.append(("This image", found.lift, found.auc, context.centre_auc))
    if measured is not None:
        source = f"{measured['images']} images, {measured['target']}"
        rows.append((source, measured["lift"], measured["auc"], measured["centre"]))
    return [[name, *(html.number(value) for value in values)] for name, *values in rows]
