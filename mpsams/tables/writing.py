"""Tables and comparisons as Markdown, CSV, LaTeX and English."""

from __future__ import annotations

import csv as comma
import io
from collections.abc import Iterable, Sequence

from mpsams.tables.comparisons import SOUGHT, Comparison
from mpsams.tables.means import HEADS, MEASURES, Cell, Line, Table
from mpsams.tables.results import TITLES

DASH = "–"


def sentence(c: Comparison) -> str:
    """What a comparison shows and what it cannot, in words made from its numbers."""
    who, rival = TITLES.get(c.method, c.method), TITLES.get(c.rival, c.rival)
    where = f"with {100 * c.labels:g}% of the labels"
    if c.mean is None:
        return f"{who} and {rival} share no run {where}: nothing can be said."
    lead = f"{who} is {'ahead of' if c.mean > 0 else 'behind'} {rival} by {abs(c.mean):.3f}" if round(abs(c.mean), 3) else f"{who} and {rival} are level"
    cases = "" if c.p_cases is None else f"p {_p(c.p_cases)} over {c.resampled}"
    if c.low is None:
        tests = f"{cases} after correction; " if cases else ""
        alone = f"in the one run they share ({tests}no interval over draws)"
        return f"{lead} {where}, {alone}: whether it would hold for another draw of labels cannot be said."
    over = f"{c.n} {'draws' if c.unit == 'draw' else 'pretrainings on one draw of labels'}"
    tests = f"after correction p {_p(c.p_units)} over {'draws' if c.unit == 'draw' else 'pretrainings'}{' and ' + cases if cases else ''}"
    numbers = f"(95% interval {signed(c.low)} … {signed(c.high)} over {over}; {tests})"
    verdict = "a difference is shown" if c.shown else "no difference could be shown"
    seen = f"with this spread, {c.smallest:.3f} would have been seen four times in five, and {SOUGHT:g} takes {c.needed} {c.unit}s"
    return f"{lead} {where} {numbers}: {verdict}; {seen}."


def signed(value: float | None, digits: int = 3) -> str:
    """With a real minus sign; a dash for None."""
    if value is None:
        return DASH
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def _p(p: float) -> str:
    """"= 0.31", or "< 0.001"."""
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def markdown(t: Table) -> str:
    """A table for GitHub, the best of each column at each label share in bold, and a line on the runs behind it."""
    if not t.rows:
        return f"No run of its methods with recipe “{t.recipe}” yet.\n"
    paper = _has_paper(t)
    heads = [head for measure in HEADS for head in [HEADS[measure], *(["paper"] if paper and measure in MEASURES else [])]]
    lines = [["Labels", "Method", *heads, "Runs"], ["---", "---", *["---:"] * (len(heads) + 1)]]
    for block in _blocks(t):
        for line in block:
            cells = [f"{100 * line.labels:g}%", TITLES.get(line.method, line.method)]
            for measure, cell in line.cells.items():
                cells.append(_spelled(cell, "**{}**" if cell.mean is not None and _best(block, cell, "mean") else "{}"))
                if paper and measure in MEASURES:
                    best = cell.paper is not None and _best(block, cell, "paper")
                    cells.append(("**{}**" if best else "{}").format(number(cell.paper)))
            lines.append([*cells, str(line.runs) if line.runs else DASH])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{note(t)}\n"


def latex(t: Table) -> str:
    """The same as a booktabs tabular, with a comment on what it is; sd and interval are set smaller."""
    paper = _has_paper(t)
    of_measure = "r@{\\,}lr" if paper else "r@{\\,}l"
    spans = [f"\\multicolumn{{{3 if paper else 2}}}{{c}}{{{HEADS[m]}}}" for m in MEASURES] + ["\\multicolumn{2}{c}{False alarms}"]
    under = ["\\multicolumn{2}{c}{ours} & paper" if paper else "\\multicolumn{2}{c}{ours}"] * 3 + ["\\multicolumn{2}{c}{ours}"]
    lines = [f"% {t.title}", f"% {note(t)}", "% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{ll{of_measure * 3}r@{{\\,}}lr}}", "\\toprule"]
    lines += [f"Labels & Method & {' & '.join(spans)} & Runs \\\\", f" & & {' & '.join(under)} & \\\\"]
    for block in _blocks(t):
        lines.append("\\midrule")
        for k, line in enumerate(block):
            cells = [f"{100 * line.labels:g}\\%" if k == 0 else "", TITLES.get(line.method, line.method).replace("_", "\\_")]
            for measure, cell in line.cells.items():
                bold = "\\textbf{{{}}}" if cell.mean is not None and _best(block, cell, "mean") else "{}"
                cells += [bold.format(number(cell.mean, "--")), _small(cell)]
                if paper and measure in MEASURES:
                    bold = "\\textbf{{{}}}" if cell.paper is not None and _best(block, cell, "paper") else "{}"
                    cells.append(bold.format(number(cell.paper, "--")))
            lines.append(" & ".join([*cells, str(line.runs) if line.runs else "--"]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def csv(tables: Iterable[Table]) -> str:
    """Tables in long form: one row per method, labels, recipe, averaging and measure. Empty where there is no number.

    False alarms are of the images without lesion, so their averaging is "no lesion", and they come once per table and recipe.
    """
    rows = []
    for t in tables:
        for line in t.rows:
            for measure, cell in line.cells.items():
                averaging = "no lesion" if measure == "false_alarms" else t.averaging
                numbers = ["" if v is None else f"{v:.6f}" for v in (cell.mean, cell.sd, cell.low, cell.high)]
                rows.append((t.data, t.name, line.method, f"{line.labels:g}", t.recipe, averaging, measure, *numbers, str(line.runs),
                             "" if cell.paper is None else f"{cell.paper:g}"))  # fmt: skip
    head = "data,table,method,labels,recipe,averaging,measure,mean,sd,low,high,runs,paper"
    return _comma_separated(head.split(","), dict.fromkeys(rows))


def comparisons_csv(named: Iterable[tuple[Sequence[str], Iterable[Comparison]]]) -> str:
    """Comparisons, each group with its (table, recipe, averaging), one row each; differences of single runs are in the records."""
    columns = ("method", "rival", "labels", "unit", "n", "mean", "sd", "low", "high", "p_units", "p_cases", "smallest", "needed")
    rows = []
    for about, comparisons in named:
        for c in comparisons:
            values = [getattr(c, column) for column in columns]
            rows.append((*about, *("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values)))
    return _comma_separated(["table", "recipe", "averaging", *columns], rows)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Comparisons as a Markdown table: differences in DSC, intervals, corrected p-values, and what could have been seen."""
    head = ["Labels", "Against", "Difference", "95% interval", "Over", "p over runs", "p over cases", "Could see", f"{SOUGHT:g} takes", "Shown"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 3), "---"]]
    for c in comparisons:
        interval = DASH if c.low is None else f"{signed(c.low)} … {signed(c.high)}"
        over = f"{c.n} {c.unit}{'' if c.n == 1 else 's'}" if c.n else DASH
        takes = DASH if c.needed is None else f"{c.needed} {c.unit}s"
        tests = [DASH if p is None else _p(p).removeprefix("= ") for p in (c.p_units, c.p_cases)]
        verdict = "cannot be said" if c.low is None else "yes" if c.shown else "no"
        lines.append([f"{100 * c.labels:g}%", TITLES.get(c.rival, c.rival), signed(c.mean), interval, over, *tests, number(c.smallest), takes, verdict])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def note(t: Table) -> str:
    """What the numbers of a table are and how many runs are behind each line, in a sentence or two."""
    counts: dict[str, list[str]] = {}
    for block in _blocks(t):
        said = ", ".join(f"{TITLES.get(line.method, line.method)} {line.runs or DASH}" for line in block)
        counts.setdefault(said, []).append(f"{100 * block[0].labels:g}%")
    runs = "; ".join(f"at {' and '.join(shares)}: {said}" for said, shares in counts.items())
    lacking: dict[str, int] = {}
    for labels, method, *_ in t.missing:
        cell = f"{TITLES.get(method, method)} at {100 * labels:g}%"
        lacking[cell] = lacking.get(cell, 0) + 1
    missing = f" Missing: {', '.join(f'{count} of {cell}' for cell, count in lacking.items())}." if lacking else ""
    return f"Mean ± sd over runs (bootstrap 95% interval over cases). Runs (pretraining seeds × draws of labels) {runs}.{missing}"


def number(value: float | None, dash: str = DASH) -> str:
    """Three decimals, or a dash."""
    return dash if value is None else f"{value:.3f}"


def _spelled(cell: Cell, form: str) -> str:
    """"**0.591** ± 0.012 (0.551–0.630)", with what is known of it."""
    if cell.mean is None:
        return DASH
    spread = f" ± {cell.sd:.3f}" if cell.sd is not None else ""
    return f"{form.format(number(cell.mean))}{spread} ({number(cell.low)}–{number(cell.high)})"


def _small(cell: Cell) -> str:
    """sd and interval in LaTeX; nothing where there is no number."""
    if cell.mean is None:
        return ""
    spread = f"$\\pm${cell.sd:.3f} " if cell.sd is not None else ""
    return f"{{\\scriptsize {spread}({number(cell.low)}--{number(cell.high)})}}"


def _best(block: Sequence[Line], cell: Cell, what: str) -> bool:
    """Whether a cell has the best value of its column, as printed, among two or more; fewest for false alarms."""
    values = [round(value, 3) for line in block if (value := getattr(line.cells[cell.measure], what)) is not None]
    best = min(values) if cell.measure == "false_alarms" else max(values)
    return len(values) > 1 and round(getattr(cell, what), 3) == best


def _blocks(t: Table) -> list[list[Line]]:
    """Lines by label share."""
    return [[line for line in t.rows if line.labels == labels] for labels in t.labels]


def _has_paper(t: Table) -> bool:
    return any(cell.paper is not None for line in t.rows for cell in line.cells.values())


def _comma_separated(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = comma.writer(file, lineterminator="\n")
    writer.writerows([head, *rows])
    return file.getvalue()
