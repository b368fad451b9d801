"""The sidebar's HTML: the slice on screen, the samples, and the range of its brightness. No gradio here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mpsams import transforms
from mpsams.app.components.templates import render
from mpsams.datasets.phantom import BuiltInVolume
from mpsams.inference.case import Case, Span
from mpsams.plots import images


def current_slice(case: Case) -> Markup:
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
    return render(
        "slice",
        picture=images.svg(f"{case.title}, {where}{words}", size, layers),
        title=case.title,
        where=where,
        origin=case.scan.origin,
        words=words,
        has_part=bool(part),
        acquired=_acquisition(case),
        notes=case.notes,
    )


def _acquisition(case: Case) -> str:
    """Return a sentence on the plane in which a volume was acquired; "" for the usual one."""
    plane = case.scan.acquired_plane
    if plane == case.scan.planes[0]:
        return ""
    return (
        f"Shown in the {plane} plane, in which it was acquired."
        if case.plane == plane
        else f"Acquired in the {plane} plane."
    )


def gallery(cases: Sequence[Case], volumes: Sequence[BuiltInVolume]) -> Markup:
    """Return the samples as buttons."""
    entries = [(_thumbnail(case.unit_hw), case.title, "") for case in cases]
    entries += [(_thumbnail(_middle(volume)), volume.title, "deep") for volume in volumes]
    return render("gallery", entries=entries)


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
