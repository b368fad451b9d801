"""Sentences and numbers of a report that compare methods with each other and with the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mpsams import checkpoint, tables
from mpsams.tables import AVERAGED, TITLES, Comparison, Results


def numbers(results: Results, paper: Mapping, folder: Path, against: str) -> list[str]:
    """Return the lines of both tables with each recipe and averaging and of their comparisons; write their files."""
    suffix = "" if results.per == "image" else f"-{results.per}"
    lines, made, compared = [], [], []
    for name in tables.tables_with_runs(results):
        for recipe in results.recipes:
            lines += ["", f"## {tables.NAMED[name]}, recipe “{recipe}”, per {results.per}"]
            for averaging in AVERAGED:
                found = tables.table(results, name, recipe, averaging, paper)
                comparisons = tables.compare(results, name, recipe, averaging, against)
                lines += ["", f"### {AVERAGED[averaging].capitalize()}", "", tables.markdown(found)]
                if comparisons:
                    lines += comparison_sentences(comparisons, against, paper.get(results.data, {}))
                made.append(found)
                compared.append(((name, recipe, averaging), comparisons))
                checkpoint.write(folder / f"{name}-{recipe}-{averaging}{suffix}.tex", tables.latex(found).encode())
    checkpoint.write(folder / f"tables{suffix}.csv", tables.csv(made).encode())
    checkpoint.write(folder / f"comparisons{suffix}.csv", tables.comparisons_csv(compared).encode())
    return lines


def comparison_sentences(comparisons: Sequence[Comparison], against: str, paper: Mapping) -> list[str]:
    """Return the lines on the comparisons of one table: all as a table, those with the strongest rivals in words."""
    lines = [
        f"{TITLES.get(against, against)} against each, positive where it is ahead ({len(comparisons)} comparisons):",
        "",
    ]
    lines += [tables.comparison_table(comparisons)]
    for labels in dict.fromkeys(c.labels for c in comparisons):
        strongest = tables.strongest(comparisons, labels)
        if strongest is None:
            continue
        by_draw = ", ".join(tables.format_signed(difference) for _, difference in strongest.by_draw)
        rivals = [c.rival for c in comparisons if c.labels == labels]
        lines.append(
            f"- Against the strongest rival: {tables.sentence(strongest)}"
            + (f" By draw: {by_draw}." if len(strongest.by_draw) > 1 else "")
            + compare_with_paper(against, rivals, labels, paper)
        )
    return lines


def compare_with_paper(method: str, rivals: Sequence[str], labels: float, paper: Mapping) -> str:
    """Return a sentence with the same comparison by the paper's own DSC; "" where the paper has none."""
    known = {
        name: values[0] for name, values in paper.get(f"{100 * labels:g}", {}).items() if name in (method, *rivals)
    }
    if method not in known or len(known) < 2:
        return ""
    rival = max((name for name in known if name != method), key=lambda name: known[name])
    return (
        f" In the paper the strongest rival is {TITLES.get(rival, rival)}, and the difference"
        f" {tables.format_signed(known[method] - known[rival])}."
    )
