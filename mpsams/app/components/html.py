"""Small pieces of HTML that the panels share: figures with captions, number cards, notes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from html import escape

from mpsams import plots
from mpsams.plots import images

LESION_FIRST = "lesion first"


def figure(picture: str, heading: str, caption: str, kind: str = "") -> str:
    """Return an SVG picture under a heading, with a caption that says what is seen. Headings and captions are HTML."""
    return (
        f'<figure class="film {kind}"><h4>{heading}</h4><div'
        f' class="light">{picture}</div><figcaption>{caption}</figcaption></figure>'
    )


def row(parts: Iterable[str], kind: str) -> str:
    """Lay parts side by side where there is room."""
    return f'<div class="{kind}">{"".join(parts)}</div>'


def card(name: str, value: str, text: str = "", bars: str = "") -> str:
    """Return a number with its name above and a line of explanation below."""
    return (
        f'<div class="card"><span class="name">{name}</span><span class="value">{value}</span>{bars}<span'
        f' class="explanation">{text}</span></div>'
    )


def bars(*shares: tuple[str, float, str]) -> str:
    """Return thin bars of ("first" or "random", share in [0, 1], value in words), to compare by eye."""
    return "".join(
        f'<span class="bar"><em>{LESION_FIRST if kind == "first" else "at random"}</em><s><i class="{kind}"'
        f' style="width:{100 * min(max(share, 0), 1):.1f}%"></i></s><b>{text}</b></span>'
        for kind, share, text in shares
    )


def note(text: str, kind: str = "info") -> str:
    """Return a short paragraph set apart: "info", "warning" (read this first) or "error"."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="note {kind}"{role}>{text}</p>' if text else ""


def notes(sentences: Sequence[str], is_warning: bool = True) -> str:
    """Return sentences set apart, each on a line of its own; they may name what a user typed. "" for none."""
    return note("<br>".join(map(escape, sentences)), "warning" if is_warning else "info")


def toast(text: str) -> str:
    """Return an error that can be closed; ``data-at`` differs each time, so that the same error is shown again."""
    close = '<button type="button" data-dismiss aria-label="Close this message">×</button>'
    return (
        f'<div class="note error toast" role="alert" data-at="{time.monotonic_ns()}"><span>{text}</span>{close}</div>'
    )


def key(*entries: tuple[str, ...]) -> str:
    """Return a legend: (CSS class of the swatch, words), or with more of its CSS as a third."""
    spans = (
        f'<span><i class="{kind}" style="{"".join(style)}"></i>{escape(text)}</span>' for kind, text, *style in entries
    )
    return f'<div class="key">{"".join(spans)}</div>'


def colour_bar(low: str, high: str, mark: str = "") -> str:
    """Return the colours of a heat map from low to high. mark: HTML within the bar."""
    return (
        f'<div class="ramp"><span>{low}</span><i'
        f' style="background:{images.ramp_css()}">{mark}</i><span>{high}</span></div>'
    )


def line_style(method: str) -> tuple[str, str]:
    """Return the CSS of a method's outline or curve, and of its swatch in a legend."""
    colour, dashes = plots.outline(method)
    kind = {"": "solid", "7 4": "dashed"}.get(dashes, "dotted")
    return f"stroke:{colour}" + (f";stroke-dasharray:{dashes}" if dashes else ""), f"border-top:3px {kind} {colour}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a small table whose first column names the rows."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{c}</td>" for c in rest)}</tr>' for first, *rest in rows
    )
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def percent(share: float, digits: int = 0) -> str:
    """Return a share as text, 0.634 as "63%"; a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f}%"


def number(value: float, digits: int = 2) -> str:
    """Return a number as text with ``digits`` digits after the point; a dash for NaN, ∞ for infinity."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.{digits}f}"


def trained_elsewhere(networks: Iterable[tuple[str, str, int]], modality: str, names: dict[str, str]) -> str:
    """Return a warning when one of the networks, each (modality, target, images), never saw images of this modality,
    else nothing.
    """
    strange = next((network for network in networks if network[0] != modality), None)
    if strange is None:
        return ""
    trained, target, images = strange
    count = f" ({images} images)" if images else ""
    kind = (
        "breast ultrasound"
        if (trained, target) == ("ultrasound", "breast lesion")
        else f"{names.get(trained, trained)} images"
    )
    return note(
        f"<strong>A network here was trained on {kind}{count} only.</strong> This image,"
        f" {names.get(modality, modality)}, is outside its training domain: do not rely on the result.",
        "warning",
    )


def assistant(about: dict, measured: dict) -> str:
    """Return a note on what an assistant was trained on, and how good it is on the images that were held back.

    about: its checkpoint's metadata; measured: as of ``ModelRegistry.evaluation``.
    """
    data, rule = about.get("data", {}), about.get("rule")
    seen = (
        f" on {about['seen']}"
        f" {'slices' if data.get('patients', data.get('images')) != data.get('images') else 'images'}"
        if "seen" in about
        else ""
    )
    sentences = [
        f"<strong>The assistant</strong> was trained{seen} with all labels ({escape(data.get('target') or 'lesion')})."
    ]
    if measured.get("dsc_lesion") is not None:
        cases, volumes = ("slices" if "per_volume" in measured else "images"), measured.get("per_volume", {})
        part = "held-back" if measured.get("split") == "test" else "measured"
        dsc = measured.get("volume_dsc")
        spread = f" ({len(dsc)} volumes, {min(dsc):.2f} to {max(dsc):.2f})" if dsc else ""
        whole = f", {volumes['dsc']:.2f} per volume{spread}" if volumes.get("dsc") is not None else ""
        alarms = measured.get("false_alarms")
        normal = (
            f" It outlines something on {percent(alarms)} of the {measured['images'] - measured['lesions']} without."
            if alarms is not None
            else ""
        )
        sentences.append(
            f"On the {measured['lesions']} {part} {cases} with a lesion its mean DSC is"
            f" {measured['dsc_lesion']:.2f}{whole}.{normal}"
        )
    if rule:
        sentences.append("Where nothing is large or likely enough it outlines nothing.")
    return note(" ".join(sentences))


def taught_on(seen: tuple[str, str, int], plane: str) -> str:
    """Return a note on what a network was taught to outline, and a warning when it sees slices of another plane than it
    was taught on.
    """
    _, target, _ = seen
    other = "" if plane == "axial" else f" It was trained on axial slices; this one is {plane}."
    return note(f"Trained to segment: <strong>{escape(target)}</strong>.{other}", "warning" if other else "info")
