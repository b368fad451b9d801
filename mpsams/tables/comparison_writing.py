"""Comparisons of two methods as a sentence, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpsams.tables import effects
from mpsams.tables.comparisons import SOUGHT, Comparison
from mpsams.tables.results import TITLES
from mpsams.tables.writing import DASH, HOLDS, comma_separated, format_signed, number


def sentence(c: Comparison) -> str:
    """Describe a comparison in words: difference, interval, p, verdict, and what could be detected."""
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
    """Return the number of runs as "3 draws × 2 pretrainings"; with "2 and 1" where the methods differ."""
    counts = sorted({count for count in c.seeds if count}, reverse=True)
    draws = _count(len(c.by_draw), "draw")
    return (
        f"{draws} × {' and '.join(map(str, counts))} {'pretraining' if counts == [1] else 'pretrainings'}"
        if counts
        else draws
    )


def _runs_needed(c: Comparison) -> str:
    """Return the number of runs needed as "40 to 110 draws and 27 to 73 pretrainings", to two digits."""
    more = f" and {_range(c.needed_seeds)} pretrainings of each method" if c.needed_seeds else ""
    return f"{_range(c.needed)} {'pretrainings' if c.scope == effects.DRAW else 'draws'}{more}"  # type: ignore[arg-type]


def _range(ends: tuple[int, int]) -> str:
    """Return a range as "40 to 110", each end to two digits; one number where they agree."""
    low, high = (int(float(f"{end:.2g}")) for end in ends)
    return f"{low}" if low == high else f"{low} to {high}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _p(p: float) -> str:
    """Return a p-value as "= 0.31", or "< 0.001"."""
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def comparisons_csv(named: Iterable[tuple[Sequence[str], Iterable[Comparison]]]) -> str:
    """Return comparisons as CSV, each group with its (table, recipe, averaging), one row each; scores of single runs
    are in the records.
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
    return comma_separated(["table", "recipe", "averaging", *columns, *counts], rows)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Return comparisons as a Markdown table: differences in DSC, intervals, corrected p-values, what is detectable."""
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
