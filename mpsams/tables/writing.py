"""Tables and comparisons as Markdown, CSV, LaTeX and English."""

from __future__ import annotations

import csv as comma
import io
from collections.abc import Iterable, Sequence

from mpsams.tables import effects
from mpsams.tables.comparisons import SOUGHT, Comparison
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


def sentence(c: Comparison) -> str:
    """A comparison in words: difference, interval, p, verdict, and what could be detected."""
    who, rival = TITLES.get(c.method, c.method), TITLES.get(c.rival, c.rival)
    where = f"with {100 * c.labels:g}% of the labels"
    if c.mean is None:
        return f"{who} and {rival} share no draw {where}: they cannot be compared."
    lead = (
        f"{who} is {'ahead of' if c.mean > 0 else 'behind'} {rival} by {abs(c.mean):.3f}"
        if round(abs(c.mean), 3)
        else f"{who} and {rival} are level"
    )
    cases = [] if c.p_cases is None else [f"p {_p(c.p_cases)} over {c.unit} for these trained networks only"]
    if c.low is None:
        tests = f" (after correction {cases[0]})" if cases else ""
        return (
            f"{lead} {where}, on one draw and with one pretraining{tests}: no interval can be given, and no difference"
            " could be shown."
        )
    tests = " and ".join([f"p {_p(c.p_runs)} over runs", *cases])  # type: ignore[arg-type]
    numbers = (
        f"(95% interval {format_signed(c.low)} … {format_signed(c.high)} {HOLDS[c.scope]}, from {_runs(c)}; after"
        f" correction {tests})"
    )
    verdict = (
        "no difference could be shown"
        if not c.shown_here
        else "a difference is shown" + ("" if c.shown else f" {HOLDS[c.scope]}")
    )
    return (
        f"{lead} {where} {numbers}: {verdict}. Detectable at 80% power: {c.smallest:.3f}; detecting {SOUGHT:g} would"
        f" need about {_runs_needed(c)}."
    )


def _runs(c: Comparison) -> str:
    """ "3 draws × 2 pretrainings"; with "2 and 1" where the methods differ."""
    counts = sorted({count for count in c.seeds if count}, reverse=True)
    draws = _count(len(c.by_draw), "draw")
    return (
        f"{draws} × {' and '.join(map(str, counts))} {'pretraining' if counts == [1] else 'pretrainings'}"
        if counts
        else draws
    )


def _runs_needed(c: Comparison) -> str:
    """ "40 to 110 draws and 27 to 73 pretrainings", to two digits."""
    more = f" and {_range(c.needed_seeds)} pretrainings of each method" if c.needed_seeds else ""
    return f"{_range(c.needed)} {'pretrainings' if c.scope == effects.DRAW else 'draws'}{more}"  # type: ignore[arg-type]


def _range(ends: tuple[int, int]) -> str:
    """ "40 to 110", each end to two digits; one number where they agree."""
    low, high = (int(float(f"{end:.2g}")) for end in ends)
    return f"{low}" if low == high else f"{low} to {high}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_signed(value: float | None, digits: int = 3) -> str:
    """With a real minus sign; a dash for None."""
    if value is None:
        return DASH
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def _p(p: float) -> str:
    """ "= 0.31", or "< 0.001"."""
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def markdown(t: Table) -> str:
    """A table for GitHub, the best of each column at each label share in bold, and a line on the runs behind it."""
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
    """The same as a booktabs tabular, with a comment on what it is; sd and interval are set smaller."""
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
    """Tables in long form: one row per method, labels, recipe, averaging and measure. Empty where there is no number.

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
    return _comma_separated(head.split(","), dict.fromkeys(rows))


def comparisons_csv(named: Iterable[tuple[Sequence[str], Iterable[Comparison]]]) -> str:
    """Comparisons, each group with its (table, recipe, averaging), one row each; scores of single runs are in the
    records.
    """
    columns = (
        "method",
        "rival",
        "labels",
        "scope",
        "mean",
        "error",
        "df",
        "low",
        "high",
        "p_runs",
        "p_cases",
        "smallest",
    )
    rows = []
    for about, comparisons in named:
        for c in comparisons:
            values = [
                *(getattr(c, column) for column in columns),
                len(c.by_draw),
                *c.seeds,
                *(c.needed or (None, None)),
                *(c.needed_seeds or (None, None)),
            ]
            rows.append(
                (*about, *("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values))
            )
    counts = ("draws", "seeds", "rival_seeds", "needed_from", "needed_to", "needed_seeds_from", "needed_seeds_to")
    return _comma_separated(["table", "recipe", "averaging", *columns, *counts], rows)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Comparisons as a Markdown table: differences in DSC, intervals, corrected p-values, and what could have been
    detected.
    """
    head = [
        "Labels",
        "Against",
        "Difference",
        "95% interval",
        "It holds",
        "From",
        "p over runs",
        "p over cases, these networks only",
        "Detectable at 80% power",
        f"{SOUGHT:g} would need about",
        "Shown",
    ]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 3), "---"]]
    for c in comparisons:
        tests = [DASH if p is None else _p(p).removeprefix("= ") for p in (c.p_runs, c.p_cases)]
        cells = [f"{100 * c.labels:g}%", TITLES.get(c.rival, c.rival), format_signed(c.mean)]
        if c.low is None:
            lines.append([*cells, DASH, DASH, _runs(c) if c.by_draw else DASH, *tests, DASH, DASH, "cannot be said"])
            continue
        verdict = "no" if not c.shown_here else "yes" if c.shown else f"only {HOLDS[c.scope].removesuffix(' only')}"
        lines.append(
            [
                *cells,
                f"{format_signed(c.low)} … {format_signed(c.high)}",
                HOLDS[c.scope],
                _runs(c),
                *tests,
                number(c.smallest),
                _runs_needed(c),
                verdict,
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def note(t: Table) -> str:
    """Sentences on the numbers of a table and the number of runs behind each line."""
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
    """A phrase on what the intervals of these cells hold for, with the marks that occur."""
    scopes = {cell.scope for cell in cells if cell.low is not None}
    marks = "".join(f"; {mark} {HOLDS[scope]}" for scope, mark in MARKS.items() if scope in scopes)
    return f"95% interval of the mean for other draws of labels, pretrainings and test images{marks}"


def number(value: float | None, dash: str = DASH) -> str:
    """Three decimals, or a dash."""
    return dash if value is None else f"{value:.3f}"


def interval(cell: Cell, dash: str = "–") -> str:
    """ "(0.551–0.630)", with a mark where it holds for less than other draws, pretrainings and images; nothing without
    one.
    """
    return "" if cell.low is None else f"({number(cell.low)}{dash}{number(cell.high)}){MARKS.get(cell.scope, '')}"


def _spell(cell: Cell, form: str) -> str:
    """ "**0.591** ± 0.012 (0.551–0.630)", with what is known of it."""
    if cell.mean is None:
        return DASH
    spread = f"± {cell.sd:.3f}" if cell.sd is not None else ""
    return " ".join(filter(None, (form.format(number(cell.mean)), spread, interval(cell))))


def _small(cell: Cell) -> str:
    """sd and interval in LaTeX; nothing where there is neither."""
    spread = f"$\\pm${cell.sd:.3f}" if cell.sd is not None else ""
    text = " ".join(filter(None, (spread, interval(cell, "--"))))
    for mark, command in zip(MARKS.values(), ("dag", "ddag", "S"), strict=True):
        text = text.replace(mark, f"\\{command}")
    return f"{{\\scriptsize {text}}}" if text else ""


def _best(block: Sequence[Line], cell: Cell, statistic: str) -> bool:
    """True if a cell has the best value of its column, as printed, among two or more; fewest for false alarms."""
    values = [round(value, 3) for line in block if (value := getattr(line.cells[cell.measure], statistic)) is not None]
    best = min(values) if cell.measure == "false_alarms" else max(values)
    return len(values) > 1 and round(getattr(cell, statistic), 3) == best


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
