"""Tables of means as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv as comma
import io
from collections.abc import Iterable, Sequence

from mpsams.tables import effects
from mpsams.tables.means import HEADS, MEASURES, Cell, Line, Table
from mpsams.tables.results import TITLES

DASH = "–"

HOLDS = {
    effects.ALL: "for other draws and pretrainings",
    effects.PRETRAININGS: "for these pretrainings only",
    effects.DRAW: "for this draw of labels only",
    effects.NETWORKS: "for these trained networks only",
}  # fmt: skip
# of means whose interval holds for less than all
MARKS = {effects.PRETRAININGS: "†", effects.DRAW: "‡", effects.NETWORKS: "§"}


def format_signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign, with a real minus sign; a dash for None."""
    if value is None:
        return DASH
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def markdown(t: Table) -> str:
    """Return a table for GitHub, the best of each column at each label share in bold, and a line on its runs."""
    if not t.rows:
        return f"No run of its methods with recipe “{t.recipe}” yet.\n"
    paper = _has_paper(t)
    heads = [
        head for measure in HEADS for head in [HEADS[measure], *(["paper"] if paper and measure in MEASURES else [])]
    ]
    lines = [["Labels", "Method", *heads, "Runs"], ["---", "---", *["---:"] * (len(heads) + 1)]]
    for block in _blocks(t):
        for line in block:
            cells = [f"{100 * line.labels:g}%", TITLES.get(line.method, line.method)]
            for measure, cell in line.cells.items():
                cells.append(_spell(cell, "**{}**" if cell.mean is not None and _best(block, cell, "mean") else "{}"))
                if paper and measure in MEASURES:
                    best = cell.paper is not None and _best(block, cell, "paper")
                    cells.append(("**{}**" if best else "{}").format(number(cell.paper)))
            lines.append([*cells, str(line.runs) if line.runs else DASH])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{note(t)}\n"


def latex(t: Table) -> str:
    """Return a table as a booktabs tabular, with a comment on what it is; sd and interval are set smaller."""
    paper = _has_paper(t)
    of_measure = "r@{\\,}lr" if paper else "r@{\\,}l"
    spans = [f"\\multicolumn{{{3 if paper else 2}}}{{c}}{{{HEADS[m]}}}" for m in MEASURES] + [
        "\\multicolumn{2}{c}{False alarms}"
    ]
    under = ["\\multicolumn{2}{c}{ours} & paper" if paper else "\\multicolumn{2}{c}{ours}"] * 3 + [
        "\\multicolumn{2}{c}{ours}"
    ]
    lines = [
        f"% {t.title}",
        f"% {note(t)}",
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{ll{of_measure * 3}r@{{\\,}}lr}}",
        "\\toprule",
    ]
    lines += [f"Labels & Method & {' & '.join(spans)} & Runs \\\\", f" & & {' & '.join(under)} & \\\\"]
    for block in _blocks(t):
        lines.append("\\midrule")
        for k, line in enumerate(block):
            cells = [
                f"{100 * line.labels:g}\\%" if k == 0 else "",
                TITLES.get(line.method, line.method).replace("_", "\\_"),
            ]
            for measure, cell in line.cells.items():
                bold = "\\textbf{{{}}}" if cell.mean is not None and _best(block, cell, "mean") else "{}"
                cells += [bold.format(number(cell.mean, "--")), _small(cell)]
                if paper and measure in MEASURES:
                    bold = "\\textbf{{{}}}" if cell.paper is not None and _best(block, cell, "paper") else "{}"
                    cells.append(bold.format(number(cell.paper, "--")))
            lines.append(" & ".join([*cells, str(line.runs) if line.runs else "--"]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def csv(tables: Iterable[Table]) -> str:
    """Return tables in long form: a row per method, labels, recipe, averaging and measure; empty without a number.

    False alarms are of the images without lesion, so their averaging is "no lesion", and they come once per table and
    recipe.
    """
    rows = []
    for t in tables:
        for line in t.rows:
            for measure, cell in line.cells.items():
                averaging = "no lesion" if measure == "false_alarms" else t.averaging
                numbers = ["" if v is None else f"{v:.6f}" for v in (cell.mean, cell.sd, cell.low, cell.high)]
                paper, scope = "" if cell.paper is None else f"{cell.paper:g}", "" if cell.low is None else cell.scope
                rows.append(
                    (
                        t.data,
                        t.name,
                        line.method,
                        f"{line.labels:g}",
                        t.recipe,
                        averaging,
                        measure,
                        *numbers,
                        str(line.runs),
                        paper,
                        scope,
                    )
                )
    head = "data,table,method,labels,recipe,averaging,measure,mean,sd,low,high,runs,paper,scope"
    return comma_separated(head.split(","), dict.fromkeys(rows))


def note(t: Table) -> str:
    """Return sentences on the numbers of a table and the number of runs behind each line."""
    counts: dict[str, list[str]] = {}
    for block in _blocks(t):
        runs_by_method = ", ".join(f"{TITLES.get(line.method, line.method)} {line.runs or DASH}" for line in block)
        counts.setdefault(runs_by_method, []).append(f"{100 * block[0].labels:g}%")
    runs = "; ".join(f"at {' and '.join(shares)}: {runs_by_method}" for runs_by_method, shares in counts.items())
    lacking: dict[str, int] = {}
    for labels, method, *_ in t.missing:
        cell = f"{TITLES.get(method, method)} at {100 * labels:g}%"
        lacking[cell] = lacking.get(cell, 0) + 1
    missing = f" Missing: {', '.join(f'{count} of {cell}' for cell, count in lacking.items())}." if lacking else ""
    return (
        f"Mean ± sd over runs ({intervals(cell for line in t.rows for cell in line.cells.values())}). Runs (pretraining"
        f" seeds × draws of labels) {runs}.{missing}"
    )


def intervals(cells: Iterable[Cell]) -> str:
    """Return a phrase on what the intervals of these cells hold for, with the marks that occur."""
    scopes = {cell.scope for cell in cells if cell.low is not None}
    marks = "".join(f"; {mark} {HOLDS[scope]}" for scope, mark in MARKS.items() if scope in scopes)
    return f"95% interval of the mean for other draws of labels, pretrainings and test images{marks}"


def number(value: float | None, dash: str = DASH) -> str:
    """Return a number with three decimals, or a dash."""
    return dash if value is None else f"{value:.3f}"


def interval(cell: Cell, dash: str = "–") -> str:
    """Return an interval as "(0.551–0.630)", with a mark where it holds for less than other draws, pretrainings and
    images; "" without one.
    """
    return "" if cell.low is None else f"({number(cell.low)}{dash}{number(cell.high)}){MARKS.get(cell.scope, '')}"


def _spell(cell: Cell, form: str) -> str:
    """Return a cell as "**0.591** ± 0.012 (0.551–0.630)", with what is known of it."""
    if cell.mean is None:
        return DASH
    spread = f"± {cell.sd:.3f}" if cell.sd is not None else ""
    return " ".join(filter(None, (form.format(number(cell.mean)), spread, interval(cell))))


def _small(cell: Cell) -> str:
    """Return sd and interval in LaTeX; "" where there is neither."""
    spread = f"$\\pm${cell.sd:.3f}" if cell.sd is not None else ""
    text = " ".join(filter(None, (spread, interval(cell, "--"))))
    for mark, command in zip(MARKS.values(), ("dag", "ddag", "S"), strict=True):
        text = text.replace(mark, f"\\{command}")
    return f"{{\\scriptsize {text}}}" if text else ""


def _best(block: Sequence[Line], cell: Cell, statistic: str) -> bool:
    """Return True if a cell has the best printed value of its column, among two or more; fewest for false alarms."""
    values = [round(value, 3) for line in block if (value := getattr(line.cells[cell.measure], statistic)) is not None]
    best = min(values) if cell.measure == "false_alarms" else max(values)
    return len(values) > 1 and round(getattr(cell, statistic), 3) == best


def _blocks(t: Table) -> list[list[Line]]:
    """Group lines by label share."""
    return [[line for line in t.rows if line.labels == labels] for labels in t.labels]


def _has_paper(t: Table) -> bool:
    return any(cell.paper is not None for line in t.rows for cell in line.cells.values())


def comma_separated(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = comma.writer(file, lineterminator="\n")
    writer.writerows([head, *rows])
    return file.getvalue()
