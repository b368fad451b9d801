"""The figure of what masks leave undecided and of what hidden and visible patches share, from records of
``benchmarks.information``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpsams import clusters
from mpsams.plots.looks import (
    BLACK,
    BLUE,
    FAINT,
    GREY,
    INK,
    LOOKS,
    NORMAL,
    ORANGE,
    SMALL,
    VERMILLION,
    Axes,
    Figure,
    fix_layout,
    plain,
)

STRATEGIES = {
    "base": "base:\nrandom, fixed 75%",
    "base_ams": "base+AMS:\nrandom, adaptive",
    "base_mps": "base+MPS:\nlesion first, fixed 75%",
    "mps_ams": "MPS-AMS:\nlesion first, adaptive",
}
# Order -> what it is called, colour, dashes.
ORDERS = {
    "random": ("at random", BLACK, "-"),
    clusters.PAPER_SELECTORS[0]: (f"lesion first,\n{clusters.PAPER_SELECTORS[0].replace('-', ' ')}", VERMILLION, "-"),
    clusters.PAPER_SELECTORS[1]: (
        f"lesion first,\n{clusters.PAPER_SELECTORS[1].replace('-', ' ')}",
        ORANGE,
        (0, (4, 1.5)),
    ),
    "block": ("one square block", BLUE, (0, (1, 1))),
}
EPOCHS = (1, 10, 100, 800)  # ticks
LAST = 0.875  # the ratio at which curves end and are named, before they meet
APART = 0.17  # of the axis's height, between two names
# name, colour, dashes, x, mean and quartiles
Curve = tuple[str, str, str | tuple, Sequence[float], Mapping[str, Sequence[float]]]


def information(records: Mapping[str, Mapping]) -> Figure:
    """Draw a column per record, by what its data set is called; rows: bits left undecided by epoch, for the four
    variants of the method; bits shared by hidden and visible patches by ratio; and the same per hidden patch.

    Lines are means over images, bands their quartiles. The lower rows' shade is where adaptive masking goes, from its
    first epoch to its last. ValueError without a record.
    """
    if not records:
        raise ValueError("no record to draw; expected at least one, from python -m benchmarks.information")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.9 * len(records) + 1.75, 5.7), facecolor="white", layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05, wspace=0.04, hspace=0.05)
    grid = figure.subplots(3, len(records), sharey="row", squeeze=False)
    for column, (title, record) in enumerate(records.items()):
        by_epoch, by_ratio, per_patch = grid[:, column]
        names = column == len(records) - 1
        _draw(by_epoch, draw_undecided(record), names)
        _draw(by_ratio, draw_shared(record), names)
        _draw(per_patch, draw_shared(record, each=True), names)
        by_epoch.set_xscale("log")
        by_epoch.set_xticks(EPOCHS, [str(epoch) for epoch in EPOCHS])
        by_epoch.minorticks_off()
        by_epoch.set_xlim(1, EPOCHS[-1])
        for ax in (by_ratio, per_patch):
            ax.axvspan(*record["adaptive"], color=FAINT, alpha=0.35, linewidth=0, zorder=0)
            ax.set_xticks([0, 0.25, 0.5, 0.75], ["0", "25%", "50%", "75%"])
            ax.set_xlim(0, LAST)
        by_epoch.set_title(title, fontsize=NORMAL, color=INK, pad=5)
        by_epoch.set_xlabel("epoch", fontsize=SMALL, color=INK, labelpad=1.5)
        per_patch.set_xlabel("share of patches hidden", fontsize=SMALL, color=INK, labelpad=1.5)
    labels = (
        "bits that a mask\nleaves undecided",
        "bits shared by hidden\nand visible patches",
        "the same,\nper hidden patch",
    )
    for ax, letter, text in zip(grid[:, 0], "abc", labels, strict=True):
        ax.set_ylabel(text, fontsize=SMALL, color=INK, labelpad=3)
        ax.annotate(
            letter,
            (0, 1),
            xytext=(-30, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=NORMAL,
            fontweight="bold",
            color=INK,
        )
    low, high = (f"{100 * share:.0f}%" for share in next(iter(records.values()))["adaptive"])
    grid[1, 0].annotate(
        f"adaptive masking: {low} to {high}",
        (0.5, 0.03),
        xycoords="axes fraction",
        ha="center",
        fontsize=SMALL - 1,
        color=GREY,
    )
    _name_all(grid)
    return fix_layout(figure)


def draw_undecided(record: Mapping) -> list[Curve]:
    """Return the bits left undecided by epoch, a curve per variant, with the paper's first selector."""
    found = record["undecided"]["random"] | record["undecided"][clusters.PAPER_SELECTORS[0]]
    return [
        (words, LOOKS[name][0], LOOKS[name][2], record["epochs"], found[name]) for name, words in STRATEGIES.items()
    ]


def draw_shared(record: Mapping, each: bool = False) -> list[Curve]:
    """Return the bits shared by hidden and visible patches by ratio, a curve per order; each: per hidden patch."""
    ratios = np.array(record["ratios"])
    inside = (ratios > 0) & (ratios <= LAST)
    hidden = np.floor(ratios[inside] * record["patches"]) if each else 1.0
    return [
        (
            *look,
            ratios[inside],
            {key: np.array(values)[inside] / hidden for key, values in record["shared"][name].items()},  # type: ignore[misc]
        )
        for name, look in ORDERS.items()
    ]


def _draw(ax: Axes, drawn: Sequence[Curve], named: bool) -> None:
    """Draw the curves with their bands; ``named`` ones carry their names as labels, which ``_name_all`` writes."""
    for name, colour, dashes, x, values in drawn:
        ax.fill_between(x, values["low"], values["high"], color=colour, alpha=0.13, linewidth=0)
        ax.plot(x, values["mean"], color=colour, linestyle=dashes, linewidth=1.3, label=name if named else None)
    plain(ax)


def _name_all(grid: np.ndarray) -> None:
    """Write names beside the ends of the last column's lines, apart from each other; axes begin at 0."""
    for row in grid:
        top = 1.05 * max(float(np.max(line.get_ydata())) for ax in row for line in ax.lines)
        row[0].set_ylim(0, top)
        lines = sorted(row[-1].lines, key=lambda line: line.get_ydata()[-1])
        ends = [float(line.get_ydata()[-1]) / top for line in lines]
        for line, end, at in zip(lines, ends, draw_by_cluster(ends, APART), strict=True):
            leader = {
                "arrowstyle": "-",
                "color": line.get_color(),
                "linewidth": 1.0,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            }
            row[-1].annotate(
                line.get_label(),
                (line.get_xdata()[-1], end * top),
                xytext=(1.1, at),
                textcoords="axes fraction",
                va="center",
                fontsize=SMALL,
                color=INK,
                linespacing=1.05,
                annotation_clip=False,
                arrowprops=leader,
            )


def draw_by_cluster(values: Sequence[float], gap: float) -> list[float]:
    """Move rising values up until neighbours are ``gap`` apart, then move all down so that their mean stays."""
    moved = list(values)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    excess = (sum(moved) - sum(values)) / max(len(moved), 1)
    return [value - excess for value in moved]
