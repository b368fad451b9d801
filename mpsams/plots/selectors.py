"""The figure of how well selectors rank lesion patches, from records of ``benchmarks.lesion_ranking``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpsams.plots.looks import BLUE, FAINT, GREY, INK, NORMAL, SMALL, VERMILLION, Figure, fix_layout, plain

# what it is called, what chance gives
MEASURES = {"auc": ("AUC of the ranking", 0.5), "lift_top": ("lift of the first 15%", 1.0)}


def ranking(
    records: Mapping[str, Mapping[str, Mapping]],
    names: Sequence[str],
    titles: Mapping[str, str] = {},
    marked: str = "",
    mark: str = "",
) -> Figure:
    """Draw a row per selector, a column per data set and measure: means as dots, bootstrap intervals as bars.

    records: data set, as it is to be called -> selector -> measure -> [mean, low, high]. names: selectors, from above;
    titles: what to write for them. marked: the one to be told from the others; mark: the one whose mean runs down as a
    line. ValueError without a record.
    """
    if not records:
        raise ValueError("no record to draw; expected at least one, from python -m benchmarks.lesion_ranking")
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(2.2 + 1.15 * len(records) * len(MEASURES), 0.9 + 0.19 * len(names)),
        facecolor="white",
        layout="constrained",
    )
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04, wspace=0.03)
    grid = figure.subplots(1, len(records) * len(MEASURES), sharey=True, squeeze=False)[0]
    columns = [(measure, title, record) for measure in MEASURES for title, record in records.items()]
    for ax, (measure, title, record) in zip(grid, columns, strict=True):
        axis_label, chance = MEASURES[measure]
        ax.axvline(chance, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        if mark in record:
            ax.axvline(record[mark][measure][0], color=BLUE, linewidth=0.8, linestyle=(0, (4, 2)))
        for place, name in enumerate(names):
            if name not in record:
                continue
            mean, low, high = record[name][measure]
            own = VERMILLION if name == marked else INK
            ax.plot([low, high], [place, place], color=own, linewidth=1.4, solid_capstyle="butt")
            ax.plot(
                mean, place, marker="D" if name == marked else "o", color=own, markersize=3.6 if name == marked else 3
            )
        plain(ax)
        ax.grid(axis="y", color=FAINT, linewidth=0.5)
        ax.set_title(title, fontsize=SMALL, color=INK, pad=4)
        ax.set_xlabel(axis_label, fontsize=SMALL, color=INK, labelpad=2)
        ax.tick_params(axis="y", length=0)
        if measure == "auc":
            ax.set_xlim(0.2, 1)
            ax.set_xticks([0.25, 0.5, 0.75, 1], ["¼", "½", "¾", "1"])
        else:
            ax.set_xlim(0, None)
    grid[0].set_yticks(range(len(names)), [titles.get(name, name) for name in names], fontsize=SMALL)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    for label, name in zip(grid[0].get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == marked else "normal")
        label.set_fontsize(NORMAL if name == marked else SMALL)
    return fix_layout(figure)
