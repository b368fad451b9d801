"""Figures for print: cases with outlines side by side (the paper's Figure 2), training curves, scores against labels.

All colours are of Okabe and Ito's palette, which people with any colour vision can tell apart; lines differ in their dashes
and points in their markers as well. Axes: H x W pixels. Nothing here touches matplotlib's global state but ``as_bytes``,
which sets how fonts are embedded while it writes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from mpsams import metrics

Figure = Axes = Any  # matplotlib's own, which is imported where it is used
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F",
)  # fmt: skip
TRUTH, SAID = SKY, ORANGE  # outlines
# Method -> colour, marker, dashes. The ablations share two hues with rivals and are dashed, with hollow markers.
LOOKS = {
    "scratch": (BLACK, "o", "-"), "simclr": (SKY, "^", "-"), "byol": (BLUE, "v", "-"), "swav": (PURPLE, "D", "-"),
    "mae": (ORANGE, "s", "-"), "simmim": (GREEN, "P", "-"), "base": (GREY, "X", "--"), "base_ams": (BLUE, "<", "--"),
    "base_mps": (GREEN, ">", "--"), "mps_ams": (VERMILLION, "*", "-"),
}  # fmt: skip
OTHER = (GREY, ".", ":")
CLASSES = ((BLUE, "o"), (VERMILLION, "^"), (GREEN, "s"), (PURPLE, "D"), (ORANGE, "v"))
INK, FAINT = "#222222", "#D9D9D9"
SMALL, NORMAL = 7.0, 8.5  # points
SUFFIXES = ("png", "pdf", "svg")
DASH = "–"


class Measured(Protocol):
    """What ``against_labels`` draws: a mean with its interval, such as ``tables.Cell``."""

    method: str
    labels: float
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """A case of ``comparison``. image_hw: floats in [0, 1]. truth_hw: bool (H, W), None if unknown. masks: name -> bool (H, W)."""

    title: str
    image_hw: np.ndarray
    truth_hw: np.ndarray | None
    masks: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        shape = np.shape(self.image_hw)
        if len(shape) != 2 or not 0 <= np.min(self.image_hw) <= np.max(self.image_hw) <= 1:
            raise ValueError(f"image of {self.title!r} has shape {shape}; expected one channel (H, W) of values in [0, 1]")
        for name, mask_hw in {"the truth": self.truth_hw, **self.masks}.items():
            if mask_hw is not None and np.shape(mask_hw) != shape:
                raise ValueError(f"{name} of {self.title!r} has shape {np.shape(mask_hw)}; its image has {shape}")


def colour(method: str) -> str:
    """The colour that stands for a method in every plot, as "#rrggbb"; grey for one of an unknown name."""
    return LOOKS.get(method, OTHER)[0]


def as_bytes(figure: Figure, suffix: str) -> bytes:
    """A figure as a file: "png" at 300 dpi, "pdf" or "svg" as vectors; the same figure gives the same bytes.

    Letters in a PDF stay text, in an embedded TrueType font; in an SVG they are paths.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is {suffix!r}; expected one of: {', '.join(SUFFIXES)}")
    import matplotlib

    file = io.BytesIO()
    silent = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "svg": {"Date": None, "Creator": None}}[suffix]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "mps-ams"}):
        figure.savefig(file, format=suffix, dpi=300, metadata=silent)
    return file.getvalue()


# --- Figure 2


def comparison(rows: Sequence[Row], columns: Sequence[str], titles: Mapping[str, str] = {}) -> Figure:
    """Rows of cases; columns image, truth, each method, and where the methods disagree (with two methods or more).

    columns: names of ``Row.masks`` in order; titles: what to write above them. Outlines: truth solid, method dashed; the
    number in a cell is its DSC. The last column is 4p(1 - p), p the share of the methods that call a pixel lesion: 0 where all
    agree, 1 where they are split in halves. A method without a mask leaves its cell empty.
    """
    if not rows:
        raise ValueError("no cases to compare; expected at least one row")
    from matplotlib.figure import Figure

    known = any(row.truth_hw is not None for row in rows)
    split = len(columns) > 1
    heads = ["Image", *(["Truth"] if known else []), *(titles.get(name, name) for name in columns), *(["Disagreement"] if split else [])]
    cell, gap, left, top, bottom = min(max(9.5 / len(heads), 0.8), 1.4), 0.05, 0.34, 0.26, 0.27  # inches
    right = 0.56 if split else 0.08
    heights = [cell * np.shape(row.image_hw)[0] / np.shape(row.image_hw)[1] for row in rows]
    width, height = left + len(heads) * (cell + gap) + right, top + sum(heights) + gap * len(rows) + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    above = top
    heat = None
    for r, (row, tall) in enumerate(zip(rows, heights, strict=True)):
        axes = []
        for c, head in enumerate(heads):
            place = ((left + c * (cell + gap)) / width, 1 - (above + tall) / height, cell / width, tall / height)
            axes.append(figure.add_axes(place))
            axes[-1].set_axis_off()
            if r == 0:
                axes[-1].set_title(head, fontsize=NORMAL, color=INK, pad=4)
        _beside(figure, (left / 2 / width, 1 - (above + tall / 2) / height), row.title, tall)
        heat = _draw_row(row, axes, columns, known, split) or heat
        above += tall + gap
    if split:
        x = left + len(heads) * (cell + gap)
        bar = figure.add_axes((x / width, 1 - (top + min(sum(heights), 2.5)) / height, 0.09 / width, min(sum(heights), 2.5) / height))
        figure.colorbar(heat, cax=bar, ticks=[0, 0.5, 1])
        bar.tick_params(labelsize=SMALL, length=2, color=INK, labelcolor=INK)
        bar.set_ylabel("4p(1 − p)", fontsize=SMALL, color=INK, labelpad=3)
        bar.spines[:].set_visible(False)
    _outline_legend(figure, known)
    return figure


def _draw_row(row: Row, axes: Sequence[Axes], columns: Sequence[str], known: bool, split: bool):
    """One case into its cells; returns the heat map for the colour bar, None without one."""
    _show(axes[0], row.image_hw)
    if row.truth_hw is not None:
        _show(axes[1], row.image_hw, row.truth_hw)
    elif known:
        _nothing(axes[1], "unknown")
    for ax, name in zip(axes[1 + known :], columns):
        said_hw = row.masks.get(name)
        if said_hw is None:
            _nothing(ax, DASH)
            continue
        _show(ax, row.image_hw, row.truth_hw, said_hw)
        if row.truth_hw is not None:
            pair = (torch.as_tensor(np.array(mask, bool))[None] for mask in (said_hw, row.truth_hw))
            _badge(ax, f"{float(metrics.overlap(*pair)['dsc']):.2f}")
    if not split:
        return None
    there = [np.asarray(row.masks[name], bool) for name in columns if name in row.masks]
    share_hw = np.mean(there, axis=0) if there else np.zeros(np.shape(row.image_hw))
    if row.truth_hw is not None:
        _outline(axes[-1], row.truth_hw, TRUTH, "-", 0.5)
    return axes[-1].imshow(4 * share_hw * (1 - share_hw), cmap="magma", vmin=0, vmax=1, zorder=0)


def _show(ax: Axes, image_hw: np.ndarray, truth_hw: np.ndarray | None = None, said_hw: np.ndarray | None = None) -> None:
    """The image with the outlines that are known."""
    ax.imshow(image_hw, cmap="gray", vmin=0, vmax=1)
    if truth_hw is not None:
        _outline(ax, truth_hw, TRUTH, "-", 0.8)
    if said_hw is not None:
        _outline(ax, said_hw, SAID, (0, (3.0, 1.4)), 0.8)


def _outline(ax: Axes, mask_hw: np.ndarray, colour: str, dashes: str | tuple, width: float) -> None:
    """A mask's border, also along the image's own, over a thin dark line that sets it off from bright tissue."""
    from matplotlib.patheffects import Normal, Stroke

    mask_hw = np.asarray(mask_hw, bool)
    if not mask_hw.any():
        return
    x, y = np.arange(-1, mask_hw.shape[1] + 1), np.arange(-1, mask_hw.shape[0] + 1)
    lines = ax.contour(x, y, np.pad(mask_hw, 1).astype(float), levels=[0.5], colors=[colour], linewidths=width, linestyles=[dashes])
    lines.set_path_effects([Stroke(linewidth=width + 0.7, foreground=BLACK, alpha=0.55), Normal()])
    ax.set_xlim(-0.5, mask_hw.shape[1] - 0.5)
    ax.set_ylim(mask_hw.shape[0] - 0.5, -0.5)


def _badge(ax: Axes, text: str) -> None:
    """White on black in the lower left corner."""
    box = {"boxstyle": "square,pad=0.18", "facecolor": BLACK, "edgecolor": "none", "alpha": 0.7}
    ax.text(0.03, 0.03, text, transform=ax.transAxes, ha="left", va="bottom", fontsize=SMALL, color="white", bbox=box)


def _nothing(ax: Axes, text: str) -> None:
    """A cell without picture."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=SMALL, color=GREY)


def _beside(figure: Figure, at_xy: tuple[float, float], title: str, inches: float) -> None:
    """A case's title, upwards, in up to two lines of words; in smaller letters where a line is too long."""
    import textwrap

    lines = textwrap.wrap(title, max(10, int(inches / 0.06)), max_lines=2, placeholder=" …", break_long_words=False, break_on_hyphens=False)
    size = min(SMALL, inches * 72 / (0.62 * max(map(len, lines), default=1)))
    figure.text(*at_xy, "\n".join(lines), rotation=90, ha="center", va="center", fontsize=size, color=INK, linespacing=1.1)


def _outline_legend(figure: Figure, known: bool) -> None:
    """What the outlines and numbers are, below the cells."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=SAID, linestyle=(0, (3.0, 1.4)), linewidth=1.4, label="method")]
    if known:
        lines.insert(0, Line2D([], [], color=TRUTH, linewidth=1.4, label="truth"))
        lines.append(Line2D([], [], color=INK, linestyle="", marker="$0.85$", markersize=15, markeredgewidth=0, label="DSC"))
    figure.legend(handles=lines, loc="lower center", ncols=len(lines), frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=2.4,
                  borderaxespad=0.2)  # fmt: skip


# --- curves, scores


def curves(rows: Iterable[Mapping], titles: Mapping[str, str] = {}) -> Figure:
    """Losses of pretrainings, a panel per method (they measure different things), then a panel per recorded fact.

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
    for ax, method in zip(places[0], methods):
        _lines(ax, [(row["method"], row["loss"]) for row in rows if row["method"] == method], every=False)
        _head(ax, titles.get(method, method), "loss")
    for ax, fact in zip(places[1], facts):
        drawn = [(row["method"], row["facts"][fact]) for row in rows if row.get("facts", {}).get(fact)]
        _lines(ax, drawn, every=True)
        _head(ax, fact.replace("_", " "), "")
    for ax in (*places[0][len(methods) :], *places[1][len(facts) :]):
        ax.set_axis_off()
    if facts:
        _legend(figure, methods, titles, "outside lower center", 5)
    return _settled(figure)


def against_labels(cells: Iterable[Measured], titles: Mapping[str, str] = {}, measure: str = "DSC") -> Figure:
    """Means against the share of labels, a line per method, with 95% intervals; the shares stand at equal distances.

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
        x = np.array([shares.index(cell.labels) + _aside(method, [c.method for c in cells if c.labels == cell.labels]) for cell in own])
        mean = np.array([cell.mean for cell in own])
        low, high = (np.array([end if end is not None else cell.mean for cell, end in ((c, getattr(c, name)) for c in own)]) for name in ("low", "high"))
        front = 3 + (method == "mps_ams")
        ax.vlines(x, low, high, colors=colour, linewidth=1.0, alpha=0.75, zorder=front)
        ax.plot(x, mean, color=colour, linestyle=dashes, linewidth=0.9, alpha=0.55, zorder=2)
        ax.plot(x, mean, color=colour, linestyle="", marker=marker, markersize=8 if marker == "*" else 5, zorder=front + 1,
                markerfacecolor="white" if dashes == "--" else colour, markeredgecolor=colour, markeredgewidth=0.9)  # fmt: skip
    ax.set_xticks(range(len(shares)), [f"{100 * share:g}%" for share in shares])
    ax.set_xlim(-0.5, len(shares) - 0.5)
    for edge in np.arange(len(shares) - 1) + 0.5:
        ax.axvline(edge, color=FAINT, linewidth=0.6, zorder=0)
    _head(ax, "", measure, "share of the training images that have labels")
    ax.tick_params(axis="x", length=0)
    _legend(figure, methods, titles, "outside right center")
    return _settled(figure)


def scatter(x: Mapping[str, float], y: Mapping[str, float], x_title: str, y_title: str) -> Figure:
    """Per-image DSC of one method against another's, a point per case; above the diagonal the second is better.

    x, y: case -> DSC, of the same cases. Cases named as in BUSI, "benign (1)", differ by kind in colour and marker.
    """
    if not x or set(x) != set(y):
        raise ValueError(f"{len(x)} and {len(y)} cases, {len(set(x) & set(y))} of them the same; expected the same cases, at least one")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7, 3.6), facecolor="white", layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, zorder=1)
    kinds = {case: case.partition(" (")[0] if " (" in case else "" for case in x}
    for k, kind in enumerate(sorted(set(kinds.values()))):
        colour, marker = CLASSES[k % len(CLASSES)]
        own = [case for case in x if kinds[case] == kind]
        ax.scatter([x[c] for c in own], [y[c] for c in own], s=22, marker=marker, facecolor=colour, edgecolor="white", linewidth=0.5, alpha=0.85,
                   label=f"{kind} ({len(own)})", zorder=3, clip_on=False)  # fmt: skip
    means = np.mean(list(x.values())), np.mean([y[case] for case in x])
    ax.plot(*means, marker="+", color=BLACK, markersize=9, markeredgewidth=1.2, linestyle="", zorder=4, label=f"mean ({means[0]:.3f}, {means[1]:.3f})")
    better, worse = sum(y[case] > x[case] for case in x), sum(y[case] < x[case] for case in x)
    _corner(ax, 0.03, 0.97, f"{y_title} better\n{better} of {len(x)}", "left", "top")
    _corner(ax, 0.97, 0.03, f"{x_title} better\n{worse} of {len(x)}", "right", "bottom")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    _head(ax, "", f"DSC, {y_title}", f"DSC, {x_title}")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL, labelcolor=INK, handletextpad=0.2, columnspacing=1.0)
    return _settled(figure)


def _settled(figure: Figure) -> Figure:
    """With its layout found once and for all, so that every file of it looks the same."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _lines(ax: Axes, drawn: Sequence[tuple[str, Sequence[float]]], every: bool) -> None:
    """Values per epoch, one line each; with a marker at the end when methods share a panel."""
    for method, values in drawn:
        colour, marker, dashes = LOOKS.get(method, OTHER)
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=colour, linestyle=dashes, linewidth=1.0, alpha=0.9)
        if every:
            ax.plot(epochs[-1:], values[-1:], color=colour, marker=marker, markersize=4, clip_on=False, markerfacecolor="white" if dashes == "--" else colour)
    _plain(ax)


def _head(ax: Axes, title: str, y: str, x: str = "epoch") -> None:
    """Words around a panel."""
    ax.set_title(title, fontsize=NORMAL, color=INK, loc="left", pad=3)
    ax.set_xlabel(x, fontsize=SMALL, color=INK, labelpad=1.5)
    ax.set_ylabel(y, fontsize=SMALL, color=INK, labelpad=1.5)
    _plain(ax)


def _plain(ax: Axes) -> None:
    """Two thin axes, faint level lines, small numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=INK, linewidth=0.6)
    ax.tick_params(labelsize=SMALL, labelcolor=INK, color=INK, width=0.6, length=2.5)
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.locator_params(axis="y", nbins=6)
    ax.set_axisbelow(True)


def _legend(figure: Figure, methods: Sequence[str], titles: Mapping[str, str], where: str, columns: int = 1) -> None:
    """Colour, marker and dashes of each method."""
    from matplotlib.lines import Line2D

    handles = []
    for method in methods:
        colour, marker, dashes = LOOKS.get(method, OTHER)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle=dashes, linewidth=1.0, markersize=7 if marker == "*" else 4.5,
                              markerfacecolor="white" if dashes == "--" else colour, label=titles.get(method, method)))  # fmt: skip
    figure.legend(handles=handles, loc=where, ncols=columns, frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=2.2)


def _aside(method: str, others: Iterable[str]) -> float:
    """How far a method stands from the middle of a label share, among those that are there."""
    names = sorted(set(others), key=_place)
    return (names.index(method) - (len(names) - 1) / 2) * min(0.09, 0.7 / len(names))


def _corner(ax: Axes, x: float, y: float, text: str, ha: str, va: str) -> None:
    ax.text(x, y, text, transform=ax.transAxes, ha=ha, va=va, fontsize=SMALL, color=GREY, zorder=2)


def _place(method: str) -> tuple[int, str]:
    """Sort key: the order of ``LOOKS``, which is the paper's."""
    return (list(LOOKS).index(method) if method in LOOKS else len(LOOKS)), method
