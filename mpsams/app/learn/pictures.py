"""The pictures of the Learn tab's steps as SVG: the image under patches, heat, numbers and outlines, and the matrices.

No gradio here.

Axes: L patches, row-major, S side of the grid image. In masks True = hidden or lesion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpsams import masking, schedule
from mpsams.app.components import html
from mpsams.app.components.mask_maps import curve_x
from mpsams.app.learn import lesson
from mpsams.app.learn.context import LessonContext
from mpsams.inference.case import SIDE
from mpsams.plots import images

SIZE = (SIDE, SIDE)
INK = ' class="ink"'


def spot(index: int, columns: int) -> str:
    """Draw the frame around one patch."""
    return images.layer(f"M{index % columns} {index // columns}h1v1h-1z", "picked", (columns, columns), SIZE)


def cells(mask_1l: Tensor, columns: int, kind: str, edge: bool = False) -> str:
    """Draw patches filled, or the border around them."""
    drawn = images.cells(mask_1l, columns)
    return images.layer((images.edge_path if edge else images.fill_path)(drawn), kind, drawn.shape, SIZE)


def lines(columns: int, kind: str = "grid") -> str:
    """Draw the lines between the patches."""
    return images.layer(images.grid_path(columns, columns), kind, (columns, columns), SIZE)


def heat(values_l: Tensor, columns: int, kind: str = "veil") -> str:
    """Draw a value in [0, 1] of each patch as colour over the image."""
    drawn = images.raster(images.heat_uri(values_l.reshape(columns, columns).numpy()), SIZE)
    return f'<g class="{kind}">{drawn}</g>'


def grey(unit_11ss: Tensor) -> str:
    """Draw a grid image as a layer."""
    return images.raster(images.uri(images.preview(unit_11ss[0, 0].numpy())), SIZE)


def image() -> str:
    """Draw the image that the page holds, at the brightness chosen there."""
    return images.use_image("case-part", SIZE)


def choosing(context: LessonContext, text: str, layers: Sequence[str]) -> str:
    """Draw a picture in which a click or the arrow keys choose a patch."""
    over = [*layers, spot(context.patch, context.columns)]
    extra = f'role="application" tabindex="0" data-choose data-columns="{context.columns}" data-patch="{context.patch}"'
    return images.svg(
        f"{text} Patch in {context.where(context.patch)} chosen; arrow keys choose another.", SIZE, over, extra
    )


def cut(context: LessonContext) -> str:
    """Draw the image cut into patches."""
    text = f"The image cut into {context.columns} by {context.columns} patches"
    return choosing(
        context, f"{text}.", [image(), lines(context.columns, "cuts"), context.case.outline(SIZE, part=True)]
    )


def pixels(context: LessonContext) -> str:
    """Draw the pixels of the chosen patch, enlarged."""
    drawn = images.raster(
        images.uri(images.preview(lesson.patch_pixels(context.image_11ss, context.study.patch, context.patch).numpy())),
        SIZE,
    )
    return images.svg(
        f"The pixels of the patch in {context.where(context.patch)}, enlarged", SIZE, [f'<g class="pixels">{drawn}</g>']
    )


def similarity(context: LessonContext) -> str:
    """Draw the similarity of every patch to the chosen one."""
    text = f"Similarity of every patch to the one in {context.where(context.patch)}; brighter is more alike."
    return choosing(
        context,
        text,
        [image(), heat(lesson.rescale(context.similarity_l, 0.01), context.columns), lines(context.columns)],
    )


def matrix(context: LessonContext, name: str, chosen: bool = False) -> str:
    """Draw a matrix of patches by patches. chosen: with the row of the chosen patch marked, and open to clicks."""
    stage_ll = lesson.rescale(context.stages[name], 0.02)
    length = context.study.length
    drawn = f'<g class="pixels">{images.raster(images.heat_uri(stage_ll.numpy()), SIZE)}</g>'
    text = f"Matrix of {name}, {length} by {length}, brighter is more"
    if not chosen:
        return images.svg(text, SIZE, [drawn])
    row = images.layer(images.box_path(context.patch, 0, 1, length), "picked", (length, length), SIZE)
    extra = f'role="application" tabindex="0" data-row data-columns="{length}" data-patch="{context.patch}"'
    return images.svg(
        f"{text}; the row of patch {context.patch + 1} is framed. Up and down keys choose another row.",
        SIZE,
        [drawn, row],
        extra,
    )


def picker(context: LessonContext) -> str:
    """Draw the image, small, to choose a patch in."""
    return choosing(context, "The image.", [image(), lines(context.columns)])


def clusters(context: LessonContext) -> str:
    """Draw the two clusters in the round that is shown."""
    lesion_1l = context.rounds[context.round]
    a = int(lesion_1l.sum())
    text = f"Two clusters: {a} patches are called lesion (orange), {context.study.length - a} background (blue)."
    over = [
        cells(~lesion_1l, context.columns, "ground"),
        cells(lesion_1l, context.columns, "lesion"),
        lines(context.columns),
    ]
    return choosing(
        context,
        text,
        [image(), *over, cells(lesion_1l, context.columns, "lesion-edge", True), context.case.outline(SIZE, part=True)],
    )


def order(context: LessonContext) -> str:
    """Draw every patch with its place in the order, the first ones bright."""
    way = "random" if context.state.way == "random" else "first"
    order_1l = context.study.random_1l if way == "random" else context.study.lesion_first_1l
    places, length, side = lesson.hiding_ranks(order_1l), context.study.length, context.study.patch
    shade = heat(1 - torch.tensor(places) / length, context.columns)
    numbers = "".join(
        f'<text x="{(k % context.columns + 0.5) * side:g}"'
        f' y="{(k // context.columns + 0.5) * side:g}"{INK if place < length * 0.3 else ""}>{place}</text>'
        for k, place in enumerate(places)
    )
    text = f"The order in which the {length} patches get hidden, 1 is hidden first."
    lesion = cells(context.study.clusters.lesion_bl, context.columns, "lesion-edge", True)
    return choosing(context, text, [image(), shade, lines(context.columns), lesion, f'<g class="places">{numbers}</g>'])


def live(context: LessonContext, way: str) -> str:
    """Return the data with which the page hides patches by itself: the order, the lesion cluster, the number hidden at
    every epoch.
    """
    epochs = range(1, schedule.HORIZON + 1)
    ratios = [schedule.mask_ratio(epoch) for epoch in epochs]
    counts = ",".join(str(masking.hidden_count(context.study.length, ratio)) for ratio in ratios)
    lesion = "".join("1" if one else "0" for one in context.study.clusters.lesion_bl[0].tolist())
    order = ",".join(map(str, context.order(way)))
    return (
        f'data-order="{order}" data-lesion="{lesion}" data-counts="{counts}"'
        f' data-shares="{",".join(f"{1000 * ratio:.0f}" for ratio in ratios)}"'
    )


def hiding(context: LessonContext, way: str) -> str:
    """Draw the image with patches hidden, orange-brown those of the lesion cluster; the page redraws it for other
    epochs.
    """
    hidden_1l, lesion_1l = context.hidden_patches(way), context.study.clusters.lesion_bl
    layers = [
        image(),
        cells(hidden_1l & ~lesion_1l, context.columns, "hidden"),
        cells(hidden_1l & lesion_1l, context.columns, "hidden lesion-patch"),
    ]
    outline = context.case.outline(SIZE, part=True)
    text = (
        f"{int(hidden_1l.sum())} of {context.study.length} patches hidden, {int((hidden_1l & lesion_1l).sum())} of them"
        " from the lesion cluster"
    )
    return images.svg(text, SIZE, [*layers, lines(context.columns), outline])


def played(context: LessonContext) -> str:
    """Draw the image whose patches the page hides epoch by epoch."""
    hidden_1l, lesion_1l = context.masked.lesion_first_1l, context.study.clusters.lesion_bl
    shape = (context.columns, context.columns)
    paths = [(hidden_1l & ~lesion_1l, "hidden"), (hidden_1l & lesion_1l, "hidden lesion-patch")]
    # always there, also when empty, so that the page can fill them
    filled = [
        images.layer(images.fill_path(images.cells(mask, context.columns)) or "M0 0", f"{kind} live-{k}", shape, SIZE)
        for k, (mask, kind) in enumerate(paths)
    ]
    text = (
        f"At epoch {context.state.epoch}, {context.masked.hidden} of {context.study.length} patches hidden, lesion"
        " first"
    )
    extra = f'role="img" data-live {live(context, "first")}'
    return images.svg(
        text, SIZE, [image(), *filled, lines(context.columns), context.case.outline(SIZE, part=True)], extra
    )


def network_input(context: LessonContext) -> str:
    """Draw the network's input; patches can be hidden and shown by hand, and the page hides those of other epochs."""
    state, mean = context.state, float(context.image_11ss.mean())
    shape = (context.columns, context.columns)
    path = images.fill_path(images.cells(context.hidden_1l, context.columns)) or "M0 0"
    flat = images.layer(path, "flat live-0", shape, SIZE)
    text = (
        f"What the network sees: {int(context.hidden_1l.sum())} of {context.study.length} patches hidden, in plain"
        " grey."
    )
    own = state.way == "own"
    extra = (
        f'tabindex="0" role="application" data-draw data-columns="{context.columns}" data-own="{state.own}"'
        if own
        else 'role="img" data-live '
    )
    keys = " Arrow keys move the frame, space hides or shows the patch in it." if own else ""
    extra += f' data-patch="{context.patch}" style="--flat:{mean:.3f}" ' + ("" if own else live(context, state.way))
    layers = [image(), flat, lines(context.columns), spot(context.patch, context.columns) if own else ""]
    return images.svg(text + keys, SIZE, layers, extra)


def curve(context: LessonContext) -> str:
    """Draw σ over the epochs."""
    rising = images.line([(curve_x(e), 100 * ratio) for e, ratio, _, _ in context.case.course], "sigma")
    words = html.percent(context.masked.ratio, 1)
    text = f"Curve of the mask ratio over the epochs; at epoch {context.state.epoch} it is {words}"
    flat = images.line([(0, 75), (100, 75)], "fixed")
    return images.svg(text, (100, 100), [flat, rising], 'preserveAspectRatio="none"')
