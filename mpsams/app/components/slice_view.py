"""The sidebar's HTML: the slice on screen, the samples, and the range of its brightness. No gradio here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mpsams import transforms
from mpsams.app.components import html
from mpsams.datasets.phantom import BuiltInVolume
from mpsams.inference.case import Case, Span
from mpsams.plots import images


def current_slice(case: Case) -> str:
    """Return the slice on screen with its truth, held once for the page as #case-image, and its part as #case-part."""
    size, (whole, part) = case.size_hw, case.pictures
    layers = [images.hold_image("case-image", whole, size)]
    if part is None or case.box is None:
        layers.append(images.alias("case-part", "case-image"))
    else:
        layers.append(f"<defs>{images.hold_image('case-part', part, size)}</defs>")
        layers.append(images.layer(images.box_path(*case.box), "box", case.shape_hw, size))
    words = "no truth mask"
    if case.truth_hw is not None:
        layers.append(case.outline(size))
        words = (
            "true lesion outlined"
            if case.truth_hw.any()
            else "no lesion in this slice"
            if case.is_volume
            else "truth mask without a lesion"
        )
    where = f"{case.plane} slice {case.index + 1} of {case.slices}; " if case.is_volume else ""
    picture = images.svg(f"{case.title}, {where}{words}", size, layers)
    looks = " Networks look at the framed part." if part else ""
    notes = "".join(html.note(escape(note), "warning") for note in case.notes)
    return (
        f'<figure class="film now"><div class="light">{picture}</div><figcaption><strong>{case.title}</strong><br>'
        f"{where}{case.scan.origin}; {words}.{looks}</figcaption></figure>{notes}"
    )


def gallery(cases: Sequence[Case], volumes: Sequence[BuiltInVolume]) -> str:
    """Return the samples as buttons."""
    entries = [(_thumbnail(case.unit_hw), case.title, "") for case in cases]
    entries += [(_thumbnail(_middle(volume)), volume.title, ' class="deep"') for volume in volumes]
    thumbs = "".join(
        f'<button type="button" data-sample="{i}"{kind}><img src="{picture}" alt=""><span>{title}</span></button>'
        for i, (picture, title, kind) in enumerate(entries)
    )
    return f"<h3>Samples to try</h3><div class='strip'>{thumbs}</div>"


def _thumbnail(unit_hw: np.ndarray) -> str:
    """Return a thumbnail as a data URI, no larger than drawn at two pixels to a point, since every visitor loads it."""
    return images.uri(images.preview(unit_hw, 192))


def _middle(volume: BuiltInVolume) -> np.ndarray:
    image_hw = volume.slice().image
    return transforms.to_unit(image_hw, transforms.window(image_hw, volume.modality))


def extent(case: Case) -> Span:
    """Return the lowest and the highest value worth showing."""
    values = case.scan.values()
    return min(case.span[0], float(values.min())), max(case.span[1], float(values.max()))


def presets(case: Case) -> dict[str, tuple[float, float]]:
    """Return windows to choose from by name, as level and width; the first is what networks see.

    Empty for pictures in [0, 1].
    """
    low, high = extent(case)
    if high - low <= 1:
        return {}
    if case.modality == "ct":
        return transforms.CT_WINDOWS
    spans = {"1st to 99th percentile": case.span, "all values": (low, high)}
    return {name: transforms.middle(*span) for name, span in spans.items()}
