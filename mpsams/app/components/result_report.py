"""Results as HTML: a table with intervals, what it shows and what it cannot, and plots with their words.

No gradio here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mpsams import plots, tables
from mpsams.app.components import html
from mpsams.app.components.templates import pieces, render
from mpsams.tables import AVERAGED, HEADS, TITLES, Cell, Comparison, Line, Results, Table

METHOD = "mps_ams"  # what the others are compared with


@dataclass(frozen=True)
class Choice:
    """The numbers that are asked for: a plan, one of ``tables.TABLES``, a recipe, a way of averaging, a measure, per
    "image" or "volume".
    """

    plan: str
    table: str
    recipe: str
    averaging: str
    measure: str
    per: str


def scale(results: Results) -> Markup:
    """Return a sentence on the size of the networks and the number of runs behind the numbers."""
    about, lesions = results.runs[0].about, int((results.runs[0].scores_nk[:, 5] > 0).sum())
    patients = f" of {len(set(results.groups))} patients" if results.unit == "patients" else ""
    words = (
        f", a U-Net of width {about['width']} at {about['size']} × {about['size']} pixels; measured on"
        f" {len(results.cases)} {results.per}s{patients} held back, {lesions} of them with a lesion."
        f" {len(results.pretrainings)} pretraining{'s' * (len(results.pretrainings) != 1)},"
        f" {len(results.runs)} fine-tunings."
    )
    return html.note(Markup("<strong>{}</strong>{}").format(results.data.upper(), words))


# --- the table


def table(found: Table, measure: str) -> Markup:
    """Return a table of one measure, as HTML: mean ± sd, 95% interval drawn and written, the paper's number, false
    alarms, runs.
    """
    if not found.rows:
        return html.note(f"No run of these methods with recipe “{found.recipe}” yet.", "warning")
    cells = [line.cells[measure] for line in found.rows]
    ends = span(cells)
    blocks = {labels: [line for line in found.rows if line.labels == labels] for labels in found.labels}
    return render(
        "results/table",
        head=HEADS[measure],
        averaged=AVERAGED[found.averaging],
        recipe=found.recipe,
        ends=ends,
        paper=any(cell.paper is not None for cell in cells),
        blocks=[(labels, block(lines, measure, ends)) for labels, lines in blocks.items()],
        note=tables.note(found),
    )


def block(lines: Sequence[Line], measure: str, ends: tuple[float, float]) -> list[dict]:
    """Return the rows of one share of labels, with a mark at the best."""
    means = [round(score, 3) for line in lines if (score := line.cells[measure].mean) is not None]
    best = max(means) if len(means) > 1 else None
    rows = []
    for line in lines:
        cell = line.cells[measure]
        interval = "" if cell.low is None else f"{cell.low:.3f} to {cell.high:.3f}{tables.MARKS.get(cell.scope, '')}"
        rows.append(
            {
                "title": TITLES.get(line.method, line.method),
                "is_own": line.method == METHOD,
                "is_best": cell.mean is not None and round(cell.mean, 3) == best,
                "mean": tables.number(cell.mean),
                "spread": f" ± {cell.sd:.3f}" if cell.sd is not None else "",
                "interval": interval,
                "marks": range_of(cell, ends),
                "paper": tables.number(cell.paper),
                "alarms": tables.number(line.cells["false_alarms"].mean),
                "runs": line.runs or tables.DASH,
            }
        )
    return rows


def span(cells: Iterable[Cell]) -> tuple[float, float]:
    """Return the ends of an axis around all intervals and the paper's numbers, in whole tenths."""
    values = [value for cell in cells for value in (cell.low, cell.high, cell.mean, cell.paper) if value is not None]
    if not values:
        return 0.0, 1.0
    return int(10 * min(values)) / 10, min(1.0, int(10 * max(values) + 1) / 10)


def range_of(cell: Cell, ends: tuple[float, float]) -> list[tuple[str, str]]:
    """Return the marks of an interval, each an element and its CSS: a bar with a dot at the mean and a diamond at the
    paper's number; the numbers stand beside it.
    """
    low, high = ends

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low)

    marks = []
    if cell.low is not None and cell.high is not None:
        marks.append(("i", f"left:{at(cell.low):.1f}%;width:{at(cell.high) - at(cell.low):.1f}%"))
    points = [(tag, value) for tag, value in (("b", cell.mean), ("s", cell.paper)) if value is not None]
    return marks + [(tag, f"left:{at(value):.1f}%") for tag, value in points]


def key(paper: bool) -> Markup:
    """Return the legend of the marks in the table."""
    return pieces().key(
        ("mean", "our mean"),
        ("reach", "95% interval for other draws of labels, pretrainings and images"),
        ("paper", "the paper’s number") if paper else None,
    )


# --- in words


def difference_report(comparisons: Sequence[Comparison], choice: Choice) -> Markup:
    """Return the differences that could and that could not be shown: a count, the strongest rivals, and all of them to
    open.
    """
    known = [c for c in comparisons if c.mean is not None]
    if not known:
        return html.note(
            f"{TITLES[METHOD]} shares no run with another method of this table: nothing can be compared yet."
        )
    ahead = sum(c.shown and c.mean is not None and c.mean > 0 for c in known)
    rivals = [tables.strongest(known, labels) for labels in dict.fromkeys(c.labels for c in known)]
    return render(
        "results/findings",
        measure=HEADS[choice.measure],
        averaged=AVERAGED[choice.averaging],
        title=TITLES[METHOD],
        known=len(known),
        ahead=ahead,
        behind=sum(c.shown for c in known) - ahead,
        here=sum(c.shown_here and not c.shown for c in known),
        rivals=[tables.sentence(c) for c in rivals if c is not None],
        every=[tables.sentence(c) for c in comparisons],
    )


# --- plots


def figure(drawn, heading: str, caption: str, kind: str = "") -> Markup:
    """Return a plot as a picture with its words: what it is, and what it says."""
    source = "data:image/svg+xml;base64," + base64.b64encode(plots.as_bytes(drawn, "svg")).decode("ascii")
    return render("results/figure", source=source, heading=heading, caption=caption, kind=kind)


def against_labels(found: Sequence[Table], choice: Choice) -> str:
    """Return a plot of the measure against the share of labels, of all methods of both tables; empty without a mean."""
    by_run = {(line.method, line.labels): line.cells[choice.measure] for one in found for line in one.rows}
    cells = [cell for cell in by_run.values() if cell.mean is not None]
    if not cells:
        return ""
    summaries = []
    for method in dict.fromkeys(cell.method for cell in cells):
        values = ", ".join(f"{cell.mean:.3f} at {100 * cell.labels:g}%" for cell in cells if cell.method == method)
        summaries.append(f"{TITLES.get(method, method)} {values}")
    drawn = plots.against_labels(cells, TITLES, f"{HEADS[choice.measure]}, {AVERAGED[choice.averaging]}")
    return figure(
        drawn,
        f"{HEADS[choice.measure]} against the share of labels",
        f"{'; '.join(summaries)}. Bars: {tables.intervals(cells)}.",
    )


def scatter(results: Results, choice: Choice, methods: tuple[str, str], labels: float) -> str:
    """Return a plot of the DSC of one method against another's, image by image; a note where one of them has no run."""
    x, y = (tables.per_image(results, method, labels, choice.recipe) for method in methods)
    titles = [TITLES.get(method, method) for method in methods]
    for values, title in zip((x, y), titles, strict=True):
        if not values:
            return html.note(f"No run of {title} with {100 * labels:g}% of the labels and recipe “{choice.recipe}”.")
    better, worse = (sum(sign * (y[case] - x[case]) > 0 for case in x) for sign in (1, -1))
    means = [sum(values.values()) / len(values) for values in (x, y)]
    caption = (
        f"{titles[1]} has the higher DSC on {better} of {len(x)} {results.per}s with a lesion, {titles[0]} on {worse}; "
        f"means {means[1]:.3f} and {means[0]:.3f}. Each point is one {results.per}, averaged over runs."
    )
    return figure(
        plots.scatter(x, y, *titles),
        f"{results.per.capitalize()} by {results.per}: {titles[1]} against {titles[0]}, {100 * labels:g}% of the"
        " labels",
        caption,
        "aside",
    )


def curves(pretrainings: Sequence[Mapping]) -> str:
    """Return plots of the losses and other facts of the pretrainings by epoch; empty without any."""
    rows = [row for row in pretrainings if row["loss"]]
    if not rows:
        return ""
    summaries = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row["loss"] for row in rows if row["method"] == method]
        first, last = (sum(loss[k] for loss in own) / len(own) for k in (0, -1))
        summaries.append(f"{TITLES.get(method, method)} from {first:.3g} to {last:.3g} in {max(map(len, own))} epochs")
    caption = (
        f"The loss goes, on average over seeds: {'; '.join(summaries)}. Losses of different methods measure different"
        " things."
    )
    return figure(plots.curves(rows, TITLES), "Training curves of the pretrainings", caption, "wide")
