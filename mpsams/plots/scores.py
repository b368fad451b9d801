"""Training curves, scores against the share of labels, and a method's scores against another's, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from mpsams.plots.looks import (
    BLACK,
    CLASSES,
    FAINT,
    GREY,
    INK,
    LOOKS,
    OTHER,
    SMALL,
    Axes,
    Figure,
    fix_layout,
    head,
    plain,
)


class Measured(Protocol):
    """A mean with its interval, as ``against_labels`` draws it, such as ``tables.Cell``."""

    @property
    def method(self) -> str: ...
    @property
    def labels(self) -> float: ...
    @property
    def mean(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def curves(rows: Iterable[Mapping], titles: Mapping[str, str] = {}) -> Figure:
    """Draw losses of pretrainings, a panel per method (they measure different things), then a panel per recorded fact.

    rows: records of pretrainings: method, seed, loss per epoch, and facts, name -> value per epoch. One line per seed.
    """
    rows = [row for row in rows if row.get("loss")]
    if not rows:
        raise ValueError("no pretraining with a loss to draw; expected at least one record")
    from matplotlib.figure import Figure

    methods = sorted(dict.fromkeys(row["method"] for row in rows), key=_place)
    facts = list(dict.fromkeys(name for row in rows for name, values in row.get("facts", {}).items() if values))
    across = min(5 if len(methods) > 8 else 4, max(len(methods), len(facts)))
    down = [math.ceil(len(methods) / across), math.ceil(len(facts) / across)]
    figure = Figure(figsize=(max(2.1 * across, 4.5), 1.7 * sum(down) + 0.4), facecolor="white", layout="constrained")
    grid = figure.subplots(sum(down), across, squeeze=False)
    places = [*grid[: down[0]].flat], [*grid[down[0] :].flat]
    for ax, method in zip(places[0], methods, strict=False):
        _lines(ax, [(row["method"], row["loss"]) for row in rows if row["method"] == method], every=False)
        head(ax, titles.get(method, method), "loss")
    for ax, fact in zip(places[1], facts, strict=False):
        drawn = [(row["method"], row["facts"][fact]) for row in rows if row.get("facts", {}).get(fact)]
        _lines(ax, drawn, every=True)
        head(ax, fact.replace("_", " "), "")
    for ax in (*places[0][len(methods) :], *places[1][len(facts) :]):
        ax.set_axis_off()
    if facts:
        _legend(figure, methods, titles, "outside lower center", 5)
    return fix_layout(figure)


def against_labels(cells: Iterable[Measured], titles: Mapping[str, str] = {}, measure: str = "DSC") -> Figure:
    """Draw means against the share of labels, a line per method, with 95% intervals; shares are equally spaced.

    cells: of any methods and shares; those without a mean are left out. Methods are moved apart a little so that their
    intervals do not cover each other.
    """
    cells = [cell for cell in cells if cell.mean is not None]
    if not cells:
        raise ValueError("no mean to draw; expected at least one cell with a run")
    from matplotlib.figure import Figure

    methods = sorted(dict.fromkeys(cell.method for cell in cells), key=_place)
    shares = sorted({cell.labels for cell in cells})
    figure = Figure(figsize=(1.4 + 1.25 * max(len(shares), 2), 3.3), facecolor="white", layout="constrained")
    ax = figure.subplots()
    for method in methods:
        colour, marker, dashes = LOOKS.get(method, OTHER)
        own = sorted((cell for cell in cells if cell.method == method), key=lambda cell: cell.labels)
        x = np.array(
            [
                shares.index(cell.labels) + _aside(method, [c.method for c in cells if c.labels == cell.labels])
                for cell in own
            ]
        )
        mean = np.array([cell.mean for cell in own])
        low, high = (
            np.array([end if end is not None else cell.mean for cell, end in ((c, getattr(c, name)) for c in own)])
            for name in ("low", "high")
        )
        front = 3 + (method == "mps_ams")
        ax.vlines(x, low, high, colors=colour, linewidth=1.0, alpha=0.75, zorder=front)
        ax.plot(x, mean, color=colour, linestyle=dashes, linewidth=0.9, alpha=0.55, zorder=2)
        ax.plot(
            x,
            mean,
            color=colour,
            linestyle="",
            marker=marker,
            markersize=8 if marker == "*" else 5,
            zorder=front + 1,
            markerfacecolor="white" if dashes == "--" else colour,
            markeredgecolor=colour,
            markeredgewidth=0.9,
        )
    ax.set_xticks(range(len(shares)), [f"{100 * share:g}%" for share in shares])
    ax.set_xlim(-0.5, len(shares) - 0.5)
    for edge in np.arange(len(shares) - 1) + 0.5:
        ax.axvline(edge, color=FAINT, linewidth=0.6, zorder=0)
    head(ax, "", measure, "share of the training images that have labels")
    ax.tick_params(axis="x", length=0)
    _legend(figure, methods, titles, "outside right center")
    return fix_layout(figure)


def scatter(x: Mapping[str, float], y: Mapping[str, float], x_title: str, y_title: str) -> Figure:
    """Draw per-image DSC of one method against another's, a point per case; above the diagonal the second is better.

    x, y: case -> DSC, of the same cases. Cases named as in BUSI, "benign (1)", differ by kind in colour and marker.
    """
    if not x or set(x) != set(y):
        raise ValueError(
            f"{len(x)} and {len(y)} cases, {len(set(x) & set(y))} of them the same; expected the same cases, at"
            " least one"
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7, 3.6), facecolor="white", layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, zorder=1)
    kinds = {case: case.partition(" (")[0] if " (" in case else "" for case in x}
    for k, kind in enumerate(sorted(set(kinds.values()))):
        colour, marker = CLASSES[k % len(CLASSES)]
        own = [case for case in x if kinds[case] == kind]
        ax.scatter(
            [x[c] for c in own],
            [y[c] for c in own],
            s=22,
            marker=marker,
            facecolor=colour,
            edgecolor="white",
            linewidth=0.5,
            alpha=0.85,
            label=f"{kind} ({len(own)})",
            zorder=3,
            clip_on=False,
        )
    means = np.mean(list(x.values())), np.mean([y[case] for case in x])
    ax.plot(
        *means,
        marker="+",
        color=BLACK,
        markersize=9,
        markeredgewidth=1.2,
        linestyle="",
        zorder=4,
        label=f"mean ({means[0]:.3f}, {means[1]:.3f})",
    )
    better, worse = sum(y[case] > x[case] for case in x), sum(y[case] < x[case] for case in x)
    _corner(ax, 0.03, 0.97, f"{y_title} better\n{better} of {len(x)}", "left", "top")
    _corner(ax, 0.97, 0.03, f"{x_title} better\n{worse} of {len(x)}", "right", "bottom")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    head(ax, "", f"DSC, {y_title}", f"DSC, {x_title}")
    figure.legend(
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        handletextpad=0.2,
        columnspacing=1.0,
    )
    return fix_layout(figure)


def _lines(ax: Axes, drawn: Sequence[tuple[str, Sequence[float]]], every: bool) -> None:
    """Draw values per epoch, one line each; with a marker at the end when methods share a panel."""
    for method, values in drawn:
        colour, marker, dashes = LOOKS.get(method, OTHER)
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=colour, linestyle=dashes, linewidth=1.0, alpha=0.9)
        if every:
            ax.plot(
                epochs[-1:],
                values[-1:],
                color=colour,
                marker=marker,
                markersize=4,
                clip_on=False,
                markerfacecolor="white" if dashes == "--" else colour,
            )
    plain(ax)


def _legend(figure: Figure, methods: Sequence[str], titles: Mapping[str, str], where: str, columns: int = 1) -> None:
    """Draw a legend with colour, marker and dashes of each method."""
    from matplotlib.lines import Line2D

    handles = []
    for method in methods:
        colour, marker, dashes = LOOKS.get(method, OTHER)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                marker=marker,
                linestyle=dashes,
                linewidth=1.0,
                markersize=7 if marker == "*" else 4.5,
                markerfacecolor="white" if dashes == "--" else colour,
                label=titles.get(method, method),
            )
        )
    figure.legend(
        handles=handles, loc=where, ncols=columns, frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=2.2
    )


def _aside(method: str, others: Iterable[str]) -> float:
    """Return the horizontal offset of a method from the middle of a label share, among those that are there."""
    names = sorted(set(others), key=_place)
    return (names.index(method) - (len(names) - 1) / 2) * min(0.09, 0.7 / len(names))


def _corner(ax: Axes, x: float, y: float, text: str, ha: str, va: str) -> None:
    ax.text(x, y, text, transform=ax.transAxes, ha=ha, va=va, fontsize=SMALL, color=GREY, zorder=2)


def _place(method: str) -> tuple[int, str]:
    """Sort key: the order of ``LOOKS``, which is the paper's."""
    return (list(LOOKS).index(method) if method in LOOKS else len(LOOKS)), method
