"""The pictures of the Learn tab's walk as SVG: the image under patches, heat, numbers and outlines, and the matrices. No gradio here.

Axes: L patches, row-major, S side of the grid image. In masks True = hidden or lesion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpsams import masking, schedule
from mpsams.app.components import html
from mpsams.app.learn import lesson
from mpsams.app.learn.scene import Scene
from mpsams.inference.case import SIDE
from mpsams.plots import images

SIZE = (SIDE, SIDE)
INK = ' class="ink"'
TOP = 0.4  # error that is drawn brightest, of intensities in [0, 1]


def where(scene: Scene, index: int) -> str:
    """A patch in words."""
    return f"row {index // scene.columns + 1}, column {index % scene.columns + 1}"


def spot(index: int, columns: int, kind: str = "picked") -> str:
    """The frame around one patch."""
    return images.layer(f"M{index % columns} {index // columns}h1v1h-1z", kind, (columns, columns), SIZE)


def cells(mask_1l: Tensor, columns: int, kind: str, edge: bool = False) -> str:
    """Patches filled, or the border around them."""
    drawn = images.cells(mask_1l, columns)
    return images.layer((images.edge_path if edge else images.fill_path)(drawn), kind, drawn.shape, SIZE)


def lines(columns: int, kind: str = "grid") -> str:
    """The lines between the patches."""
    return images.layer(images.grid_path(columns, columns), kind, (columns, columns), SIZE)


def heat(values_l: Tensor, columns: int, kind: str = "veil") -> str:
    """A value in [0, 1] per patch as colour over the image."""
    drawn = images.raster(images.uri(images.heat(values_l.reshape(columns, columns).numpy())), SIZE)
    return f'<g class="{kind}">{drawn}</g>'


def grey(unit_11ss: Tensor) -> str:
    """A grid image as a layer."""
    return images.raster(images.uri(images.preview(unit_11ss[0, 0].numpy())), SIZE)


def image() -> str:
    """The image on the page, as bright as is wished."""
    return images.shared("case-part", SIZE)


def choosing(scene: Scene, says: str, layers: Sequence[str], live: str = "") -> str:
    """A picture in which a click or the arrow keys choose a patch."""
    over = [*layers, spot(scene.patch, scene.columns)]
    extra = f'role="application" tabindex="0" data-choose data-columns="{scene.columns}" data-patch="{scene.patch}" {live}'
    return images.svg(f"{says} Patch in {where(scene, scene.patch)} chosen; arrow keys choose another.", SIZE, over, extra)


def cut(scene: Scene) -> str:
    """The image cut into patches."""
    says = f"The image cut into {scene.columns} by {scene.columns} patches"
    return choosing(scene, f"{says}.", [image(), lines(scene.columns, "cuts"), scene.case.outline(SIZE, part=True)])


def pixels(scene: Scene) -> str:
    """The pixels of the chosen patch, enlarged."""
    drawn = images.raster(images.uri(images.preview(lesson.pixels(scene.image_11ss, scene.study.patch, scene.patch).numpy())), SIZE)
    return images.svg(f"The pixels of the patch in {where(scene, scene.patch)}, enlarged", SIZE, [f'<g class="pixels">{drawn}</g>'])


def similarity(scene: Scene) -> str:
    """How alike every patch is to the chosen one."""
    says = f"Similarity of every patch to the one in {where(scene, scene.patch)}; brighter is more alike."
    return choosing(scene, says, [image(), heat(lesson.scaled(scene.similarity_l, 0.01), scene.columns), lines(scene.columns)])


def matrix(scene: Scene, name: str, chosen: bool = False) -> str:
    """A matrix of patches by patches; chosen: with the row of the chosen patch marked, and open to clicks."""
    stage_ll = lesson.scaled(scene.stages[name], 0.02)
    length = scene.study.length
    drawn = f'<g class="pixels">{images.raster(images.uri(images.heat(stage_ll.numpy())), SIZE)}</g>'
    says = f"Matrix of {name}, {length} by {length}, brighter is more"
    if not chosen:
        return images.svg(says, SIZE, [drawn])
    row = images.layer(images.box_path(scene.patch, 0, 1, length), "picked", (length, length), SIZE)
    extra = f'role="application" tabindex="0" data-row data-columns="{length}" data-patch="{scene.patch}"'
    return images.svg(f"{says}; the row of patch {scene.patch + 1} is framed. Up and down keys choose another row.", SIZE, [drawn, row], extra)


def picker(scene: Scene) -> str:
    """The image, small, to choose a patch in."""
    return choosing(scene, "The image.", [image(), lines(scene.columns)])


def clusters(scene: Scene) -> str:
    """The two clusters in the round that is shown."""
    lesion_1l = scene.rounds[scene.round]
    a = int(lesion_1l.sum())
    says = f"Two clusters: {a} patches are called lesion (orange), {scene.study.length - a} background (blue)."
    over = [cells(~lesion_1l, scene.columns, "ground"), cells(lesion_1l, scene.columns, "lesion"), lines(scene.columns)]
    return choosing(scene, says, [image(), *over, cells(lesion_1l, scene.columns, "lesion-edge", True), scene.case.outline(SIZE, part=True)])


def order(scene: Scene) -> str:
    """Every patch with its place in the order, the first ones bright."""
    way = "random" if scene.walk.way == "random" else "first"
    order_1l = scene.study.random_1l if way == "random" else scene.study.lesion_first_1l
    places, length, side = lesson.places(order_1l), scene.study.length, scene.study.patch
    shade = heat(1 - torch.tensor(places) / length, scene.columns)
    told = "".join(
        f'<text x="{(k % scene.columns + 0.5) * side:g}" y="{(k // scene.columns + 0.5) * side:g}"{INK if place < length * 0.3 else ""}>{place}</text>'
        for k, place in enumerate(places)
    )
    says = f"The order in which the {length} patches get hidden, 1 is hidden first."
    lesion = cells(scene.study.clusters.lesion_bl, scene.columns, "lesion-edge", True)
    return choosing(scene, says, [image(), shade, lines(scene.columns), lesion, f'<g class="places">{told}</g>'])


def live(scene: Scene, way: str) -> str:
    """What the page needs to hide patches by itself: the order, who is lesion, how many are hidden at every epoch."""
    epochs = range(1, schedule.HORIZON + 1)
    ratios = [schedule.mask_ratio(epoch) for epoch in epochs]
    counts = ",".join(str(masking.hidden_count(scene.study.length, ratio)) for ratio in ratios)
    lesion = "".join("1" if one else "0" for one in scene.study.clusters.lesion_bl[0].tolist())
    order = ",".join(map(str, scene.order(way)))
    return f'data-order="{order}" data-lesion="{lesion}" data-counts="{counts}" data-shares="{",".join(f"{1000 * ratio:.0f}" for ratio in ratios)}"'


def hiding(scene: Scene, way: str, truth: bool = True) -> str:
    """The image with patches hidden, orange-brown those of the lesion cluster; the page redraws it for other epochs."""
    hidden_1l, lesion_1l = scene.hidden(way), scene.study.clusters.lesion_bl
    layers = [image(), cells(hidden_1l & ~lesion_1l, scene.columns, "hidden"), cells(hidden_1l & lesion_1l, scene.columns, "hidden lesion-patch")]
    outline = scene.case.outline(SIZE, part=True) if truth else ""
    says = f"{int(hidden_1l.sum())} of {scene.study.length} patches hidden, {int((hidden_1l & lesion_1l).sum())} of them from the lesion cluster"
    return images.svg(says, SIZE, [*layers, lines(scene.columns), outline])


def played(scene: Scene) -> str:
    """The image whose patches the page hides epoch by epoch."""
    hidden_1l, lesion_1l = scene.at.lesion_first_1l, scene.study.clusters.lesion_bl
    shape = (scene.columns, scene.columns)
    paths = [(hidden_1l & ~lesion_1l, "hidden"), (hidden_1l & lesion_1l, "hidden lesion-patch")]
    # always there, also when empty, so that the page can fill them
    filled = [
        images.layer(images.fill_path(images.cells(mask, scene.columns)) or "M0 0", f"{kind} live-{k}", shape, SIZE)
        for k, (mask, kind) in enumerate(paths)
    ]
    says = f"At epoch {scene.walk.epoch}, {scene.at.hidden} of {scene.study.length} patches hidden, lesion first"
    extra = f'role="img" data-live {live(scene, "first")}'
    return images.svg(says, SIZE, [image(), *filled, lines(scene.columns), scene.case.outline(SIZE, part=True)], extra)


def drawn(scene: Scene) -> str:
    """What the network sees; patches can be hidden and shown by hand, and the page hides those of other epochs."""
    walk, mean = scene.walk, float(scene.image_11ss.mean())
    shape = (scene.columns, scene.columns)
    path = images.fill_path(images.cells(scene.hidden_1l, scene.columns)) or "M0 0"
    flat = images.layer(path, "flat live-0", shape, SIZE)
    says = f"What the network sees: {int(scene.hidden_1l.sum())} of {scene.study.length} patches hidden, in plain grey."
    own = walk.way == "own"
    extra = f'tabindex="0" role="application" data-draw data-columns="{scene.columns}" data-own="{walk.own}"' if own else 'role="img" data-live '
    keys = " Arrow keys move the frame, space hides or shows the patch in it." if own else ""
    extra += f' data-patch="{scene.patch}" style="--flat:{mean:.3f}" ' + ("" if own else live(scene, walk.way))
    layers = [image(), flat, lines(scene.columns), spot(scene.patch, scene.columns) if own else ""]
    return images.svg(says + keys, SIZE, layers, extra)


def curve(scene: Scene) -> str:
    """σ over the epochs with the point of this epoch, which the page moves."""
    names = [("sigma", "σ, share of patches hidden"), ("fixed", "fixed 75%, as MAE does")]

    def x(epoch: float) -> float:
        return 100 * (epoch - 1) / (schedule.HORIZON - 1)

    rising = images.line([(x(e), 100 * ratio) for e, ratio, _, _ in scene.case.course], "sigma")
    at, epoch = scene.at, scene.walk.epoch
    says = f"Curve of the mask ratio over the epochs; at epoch {epoch} it is {html.percent(at.ratio, 1)}"
    picture = images.svg(says, (100, 100), [images.line([(0, 75), (100, 75)], "fixed"), rising], 'preserveAspectRatio="none"')
    marks = "".join(f'<span class="tick" style="left:{x(e):.2f}%">{e}</span>' for e in (1, 200, 400, 600, 800))
    levels = "".join(f'<span class="level" style="bottom:{share}%">{share}%</span>' for share in (0, 25, 50, 75, 100))
    point = f'<i class="now" style="left:{x(epoch):.2f}%"></i><i class="dot" style="left:{x(epoch):.2f}%;bottom:{100 * at.ratio:.2f}%"></i>'
    return f'<div class="plot">{levels}{picture}{point}{marks}</div>{html.key(*names)}'


def wrong(error_11ss: Tensor) -> str:
    """An error map as a layer."""
    return images.raster(images.uri(images.heat(error_11ss[0, 0].numpy(), TOP)), SIZE)


def ramp(low: str, high: str) -> str:
    """The colours of heat from low to high."""
    return f'<div class="ramp"><span>{low}</span><i style="background:{images.ramp_css()}"></i><span>{high}</span></div>'
