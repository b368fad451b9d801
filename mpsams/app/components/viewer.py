"""The image viewer that tabs share: pictures that are zoomed, panned and read together, and the bar above them.

A picture takes part when its SVG has the attributes ``LINKED`` and the tab's HTML holds ``slice_data`` of the same
units. What can be done with it is in static/viewer.js; pixel values are sent when the cursor first comes over a
picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import gradio as gr
import numpy as np
from markupsafe import Markup

from mpsams import transforms
from mpsams.annotation.protocol import encode_picture
from mpsams.app.components.templates import pieces, read_scripts, render
from mpsams.app.events import event_values, on_event, user_error
from mpsams.app.session import Session
from mpsams.imaging import geometry
from mpsams.inference import comparison
from mpsams.inference.case import SIDE, Case, set_window

SCRIPTS = ("viewbox", "viewer")  # parts of one script, in this order
LINKED = 'data-view="" tabindex="0"'
LINKED_CELL = 'data-view=""'  # of a picture within a button
MOST = 2048  # pixels of a side whose values are sent; of larger slices every second, third, ...
MARGIN = 0.6  # around a lesion, as a share of its longer side
CUSTOM = "custom"


def build(session: Session, outlines: bool = True) -> None:
    """Lay out the bar in the tab that is being built, with its events. outlines: the tab's pictures have outlines."""
    bar = gr.HTML(render("viewer_bar", outlines=outlines), js_on_load=read_scripts(*SCRIPTS))
    values = gr.HTML("", elem_classes="viewer-values")
    on_event(bar.values, slice_values, [session.case], values)
    listen_to_window(session, bar.window)


def listen_to_window(session: Session, dragged: Callable) -> None:
    """Let an event that carries ``low`` and ``high`` set the display window of the page."""
    sidebar = session.sidebar

    def change_window(case: Case, event: gr.EventData) -> dict:
        low, high = (event_values(event).get(name) for name in ("low", "high"))
        try:
            changed = set_window(case, (float(low), float(high)))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise user_error(
                f"a display window from {low!r} to {high!r}; allowed are two numbers, the lower first"
            ) from None
        level, width = (
            round(value, 0 if changed.display_span[1] - changed.display_span[0] >= 20 else 4)
            for value in transforms.middle(*changed.display_span)
        )
        return sidebar.case_updates(changed) | {sidebar.preset: CUSTOM, sidebar.level: level, sidebar.width: width}

    on_event(
        dragged,
        change_window,
        [session.case],
        [session.case, session.version, sidebar.notice, sidebar.preset, sidebar.level, sidebar.width],
    )


def slice_values(case: Case) -> Markup:
    """Return the values of the slice on screen as hidden HTML, from which the viewer reads them."""
    values_hw = case.scan.slice(case.index, case.plane)
    step = math.ceil(max(values_hw.shape) / MOST)
    picture, low, high = encode_picture(values_hw[::step, ::step])
    unit = "HU" if case.modality == "ct" else ""
    return hidden_data(
        "values", {"key": slice_key(case), "picture": picture, "low": low, "high": high, "unit": unit, "step": step}
    )


def image_key(case: Case) -> str:
    """Return a text that changes with the image or the plane, but not with the slice or the display window."""
    return f"{comparison.image_key(case)} {case.plane}"


def slice_key(case: Case) -> str:
    """Return a text that changes with the slice."""
    return f"{image_key(case)} {case.index}"


def slice_data(case: Case, lesion_hw: np.ndarray | None = None, part: bool = False) -> Markup:
    """Return the viewer's knowledge of the pictures of a tab, as hidden HTML.

    lesion_hw: bool (H, W), around which can be cropped; None for the truth. part: the pictures show the part that
    networks look at, SIDE units high and wide, instead of the whole slice at ``Case.size_hw``.
    """
    rows, columns = case.shape_hw
    box = case.box if part else None
    top, left, height, width = box or (0, 0, rows, columns)
    tall, wide = (SIDE, SIDE) if part else case.size_hw
    across, down = width / wide, height / tall  # pixels per unit
    spacing = case.scan.spacing(case.plane)
    lesion_hw = case.truth_hw if lesion_hw is None else lesion_hw
    about = {
        "image": image_key(case),
        "key": slice_key(case),
        "size": [wide, tall],
        "shape": [columns, rows],
        "pixels": [across, down, left, top],
        "mm": spacing and spacing[2] * across,
        "window": list(map(float, case.display_span)),
        "body": (
            None
            if part or case.box is None
            else [case.box.left / across, case.box.top / down, case.box.width / across, case.box.height / down]
        ),
        "lesion": (
            None if lesion_hw is None else _around(lesion_hw[top : top + height, left : left + width], across, down)
        ),
        "framed": None if case.box is None else [case.box.left, case.box.top, case.box.width, case.box.height],
        "patient": _patient(case),
    }
    return hidden_data("slice", about)


def wiped(name: str, left: str, right: str = "") -> str:
    """Return SVG layers that are seen on the left of a line and on the right of it; the macro
    ``wipe`` moves the line.

    name: one for each picture of the page.
    """
    cuts = "".join(f'<clipPath id="{name}-{side}"><rect data-cut="{side}"/></clipPath>' for side in ("left", "right"))
    parts = "".join(
        f'<g clip-path="url(#{name}-{side})">{layers}</g>' for side, layers in (("left", left), ("right", right))
    )
    return f'<defs>{cuts}</defs>{parts}<path class="wipe-line"/>'


def _around(mask_hw: np.ndarray, across: float, down: float) -> list[float] | None:
    """Return a square with a margin around the True pixels, moved inside the picture where it fits: [x, y, width,
    height] in its units; None without one.
    """
    rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    tall, wide = mask_hw.shape[0] / down, mask_hw.shape[1] / across
    x, y = columns[0] / across, rows[0] / down
    width, height = (columns[-1] + 1) / across - x, (rows[-1] + 1) / down - y
    side = min((1 + 2 * MARGIN) * max(width, height), tall, wide)
    left, top = (
        min(max(low + extent / 2 - side / 2, 0), most - side)
        for low, extent, most in ((x, width, wide), (y, height, tall))
    )
    return [round(value, 3) for value in (left, top, side, side)]


def _patient(case: Case) -> list[list[float]] | None:
    """The position of the slice's first pixel, RAS in mm, and the steps to its neighbours; None in pixel space."""
    affine = case.scan.affine
    if affine is None:
        return None
    _, row, column = geometry.steps(affine, case.plane)
    first = geometry.position(affine, case.scan.voxels_xyz.shape, case.plane, (case.index, 0, 0))
    return [[round(float(value), 4) for value in vector] for vector in (first, column, row)]


def hidden_data(name: str, about: dict) -> Markup:
    """Return the HTML that is not seen and holds values for a script of the page, as JSON in ``data-<name>``."""
    return pieces().data(name, json.dumps(about))
