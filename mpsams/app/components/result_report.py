"""Results as HTML: a table with intervals, what it shows and what it cannot, and plots with their words.

No gradio here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mpsams import plots, tables
from mpsams.app.components import html
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


def scale(results: Results) -> str:
    """Return a sentence on the size of the networks and the number of runs behind the numbers."""
    about, lesions = results.runs[0].about, int((results.runs[0].scores_nk[:, 5] > 0).sum())
    patients = f" of {len(set(results.groups))} patients" if results.unit == "patients" else ""
    return html.note(
        f"<strong>{escape(results.data.upper())}</strong>, a U-Net of width {about['width']} at {about['size']} ×"
        f" {about['size']} pixels; measured on {len(results.cases)} {results.per}s{patients} held back, {lesions} of"
        f" them with a lesion. {len(results.pretrainings)} pretrainings, {len(results.runs)} fine-tunings."
    )


# --- the table


def table(found: Table, measure: str) -> str:
    """Return a table of one measure, as HTML: mean ± sd, 95% interval drawn and written, the paper's number, false
    alarms, runs.
    """
    if not found.rows:
        return html.note(f"No run of these methods with recipe “{escape(found.recipe)}” yet.", "warning")
    cells = [line.cells[measure] for line in found.rows]
    low, high = span(cells)
    paper = any(cell.paper is not None for cell in cells)
    heads = [
        "Method",
        f"{HEADS[measure]} <small>mean ± sd over runs</small>",
        f"95% interval <small>axis from {low:g} to {high:g}</small>",
    ]
    heads += ["Paper"] * paper + ["False alarms <small>of images without lesion</small>", "Runs"]
    kinds = ["", "", "range", *[""] * (len(heads) - 4), "runs"]
    top = "".join(f'<th scope="col" class="{kind}">{head}</th>' for head, kind in zip(heads, kinds, strict=True))
    bodies = "".join(
        block([line for line in found.rows if line.labels == labels], measure, (low, high), paper)
        for labels in found.labels
    )
    caption = f"{HEADS[measure]}, {AVERAGED[found.averaging]}, recipe “{escape(found.recipe)}”"
    return (
        '<div class="table'
        f' results"><table><caption>{caption}</caption><thead><tr>{top}</tr></thead>{bodies}</table></div><p'
        f' class="small">{escape(tables.note(found))}</p>'
    )


def block(lines: Sequence[Line], measure: str, ends: tuple[float, float], paper: bool) -> str:
    """Return the lines of one share of labels, the best in bold."""
    means = [round(score, 3) for line in lines if (score := line.cells[measure].mean) is not None]
    best = max(means) if len(means) > 1 else None
    rows = []
    for line in lines:
        cell, alarms = line.cells[measure], line.cells["false_alarms"]
        mean = tables.number(cell.mean)
        mean = f"<strong>{mean}</strong>" if cell.mean is not None and round(cell.mean, 3) == best else mean
        spread = f" ± {cell.sd:.3f}" if cell.sd is not None else ""
        interval = (
            ""
            if cell.low is None
            else f"<small>{cell.low:.3f} to {cell.high:.3f}{tables.MARKS.get(cell.scope, '')}</small>"
        )
        columns = [f"<td>{mean}{spread}{interval}</td>", f'<td class="range">{range_of(cell, ends)}</td>']
        columns += [f"<td>{tables.number(cell.paper)}</td>"] * paper + [
            f'<td>{tables.number(alarms.mean)}</td><td class="runs">{line.runs or tables.DASH}</td>'
        ]
        own = ' class="ours"' if line.method == METHOD else ""
        rows.append(
            f'<tr{own}><th scope="row">{TITLES.get(line.method, escape(line.method))}</th>{"".join(columns)}</tr>'
        )
    head = (
        f'<tr class="share"><th scope="rowgroup" colspan="{5 + paper}">{100 * lines[0].labels:g}% of the'
        " labels</th></tr>"
    )
    return f"<tbody>{head}{''.join(rows)}</tbody>"


def span(cells: Iterable[Cell]) -> tuple[float, float]:
    """Return the ends of an axis around all intervals and the paper's numbers, in whole tenths."""
    values = [value for cell in cells for value in (cell.low, cell.high, cell.mean, cell.paper) if value is not None]
    if not values:
        return 0.0, 1.0
    return int(10 * min(values)) / 10, min(1.0, int(10 * max(values) + 1) / 10)


def range_of(cell: Cell, ends: tuple[float, float]) -> str:
    """Return an interval as a bar with a dot at the mean and a diamond at the paper's number; the numbers stand beside
    it.
    """
    low, high = ends

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low)

    parts = []
    if cell.low is not None and cell.high is not None:
        parts.append(f'<i style="left:{at(cell.low):.1f}%;width:{at(cell.high) - at(cell.low):.1f}%"></i>')
    if cell.mean is not None:
        parts.append(f'<b style="left:{at(cell.mean):.1f}%"></b>')
    if cell.paper is not None:
        parts.append(f'<s style="left:{at(cell.paper):.1f}%"></s>')
    return f'<div class="reach" aria-hidden="true">{"".join(parts)}</div>'


def key(paper: bool) -> str:
    """Return the legend of the marks in the table."""
    return html.key(
        ("mean", "our mean"),
        ("reach", "95% interval for other draws of labels, pretrainings and images"),
        *([("paper", "the paper’s number")] * paper),
    )


# --- in words


def difference_report(comparisons: Sequence[Comparison], choice: Choice) -> str:
    """Return the differences that could and that could not be shown: a count, the strongest rivals, and all of them to
    open.
    """
    known = [c for c in comparisons if c.mean is not None]
    if not known:
        return html.note(
            f"{TITLES[METHOD]} shares no run with another method of this table: nothing can be compared yet."
        )
    ahead = sum(c.shown and c.mean is not None and c.mean > 0 for c in known)
    behind = sum(c.shown for c in known) - ahead
    unclear = len(known) - ahead - behind
    here = sum(c.shown_here and not c.shown for c in known)
    counts = (
        f"{TITLES[METHOD]} is shown to be ahead in {ahead} of {len(known)} comparisons and behind in {behind}; in"
        f" {unclear} no difference could be shown"
    )
    counts += (
        f" ({here} of these differences are shown for these pretrainings or this draw of labels only)." if here else "."
    )
    rivals = [tables.strongest(known, labels) for labels in dict.fromkeys(c.labels for c in known)]
    first = "".join(f"<li>{escape(tables.sentence(c))}</li>" for c in rivals if c is not None)
    every = "".join(f"<li>{escape(tables.sentence(c))}</li>" for c in comparisons)
    return (
        '<section class="panelet findings"><h4>What was shown, and what could not be <em>differences in'
        f" {HEADS[choice.measure]}, {AVERAGED[choice.averaging]}</em></h4><p><strong>{counts}</strong> Against the"
        f" strongest rival:</p><ul>{first}</ul><details><summary>All {len(comparisons)}"
        f" comparisons</summary><ul>{every}</ul></details></section>"
    )


# --- plots


def figure(drawn, heading: str, caption: str, kind: str = "") -> str:
    """Return a plot as a picture with its words: what it is, and what it says."""
    source = "data:image/svg+xml;base64," + base64.b64encode(plots.as_bytes(drawn, "svg")).decode("ascii")
    return (
        f'<figure class="print {kind}"><h4>{escape(heading)}</h4><img src="{source}"'
        f' alt="{escape(f"{heading}. {caption}")}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


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
            return html.note(
                f"No run of {escape(title)} with {100 * labels:g}% of the labels and recipe “{escape(choice.recipe)}”."
            )
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
