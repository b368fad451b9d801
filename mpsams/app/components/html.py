"""Notes that the panels share, as HTML, and numbers in words. Text is escaped unless it is marked as HTML."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from mpsams import plots
from mpsams.app.components.templates import number as number
from mpsams.app.components.templates import percent as percent
from mpsams.app.components.templates import pieces, render


def note(text: str, kind: str = "info") -> Markup:
    """Return a short paragraph set apart: "info", "warning" (read this first) or "error"; "" without text."""
    return pieces().note(text, kind)


def notes(sentences: Sequence[str], is_warning: bool = True) -> Markup:
    """Return sentences set apart, each on a line of its own; they may name what a user typed. "" for none."""
    return note(Markup("<br>").join(sentences), "warning" if is_warning else "info")


def toast(text: str) -> Markup:
    """Return an error that can be closed; ``data-at`` differs each time, so that the same error is shown again."""
    return pieces().toast(text, time.monotonic_ns())


def line_style(method: str) -> tuple[str, str]:
    """Return the CSS of a method's outline or curve, and of its swatch in a legend."""
    colour, dashes = plots.outline(method)
    kind = {"": "solid", "7 4": "dashed"}.get(dashes, "dotted")
    return f"stroke:{colour}" + (f";stroke-dasharray:{dashes}" if dashes else ""), f"border-top:3px {kind} {colour}"


def trained_elsewhere(networks: Iterable[tuple[str, str, int]], modality: str, names: dict[str, str]) -> Markup:
    """Return a warning when one of the networks, each (modality, target, images), never saw images of this modality,
    else nothing.
    """
    strange = next((network for network in networks if network[0] != modality), None)
    if strange is None:
        return Markup()
    trained, target, images = strange
    is_breast = (trained, target) == ("ultrasound", "breast lesion")
    kind = "breast ultrasound" if is_breast else f"{names.get(trained, trained)} images"
    return render("elsewhere", kind=kind, images=images, modality=names.get(modality, modality))


def assistant(about: dict, measured: dict) -> Markup:
    """Return a note on what an assistant was trained on, and how good it is on the images that were held back.

    about: its checkpoint's metadata; measured: as of ``ModelRegistry.evaluation``.
    """
    data = about.get("data", {})
    return render(
        "assistant",
        seen=about.get("seen"),
        is_volumes=data.get("patients", data.get("images")) != data.get("images"),
        target=data.get("target") or "lesion",
        measured=measured,
        has_rule=bool(about.get("rule")),
    )


def taught_on(seen: tuple[str, str, int], plane: str) -> Markup:
    """Return a note on what a network was taught to outline, and a warning when it sees slices of another plane than it
    was taught on.
    """
    other = "" if plane == "axial" else f" It was trained on axial slices; this one is {plane}."
    text = Markup("Trained to segment: <strong>{}</strong>.{}").format(seen[1], other)
    return note(text, "warning" if other else "info")
