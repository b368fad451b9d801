"""The paper's Figure 2: cases with outlines side by side, and where methods disagree. Axes: H x W pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mpsams import metrics
from mpsams.plots.looks import BLACK, GREY, INK, NORMAL, PREDICTED, SMALL, TRUTH, Axes, Figure

DASH = "–"


@dataclass(frozen=True)
class Row:
    """A case of ``comparison``.

    image_hw: floats in [0, 1]. truth_hw: bool (H, W), None if unknown. masks: name -> bool (H, W).

    scores: name -> measures, "dsc" among them, where they are not those of the masks, because these are cropped.
    """

    title: str
    image_hw: np.ndarray
    truth_hw: np.ndarray | None
    masks: Mapping[str, np.ndarray]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.shape(self.image_hw)
        if len(shape) != 2 or not 0 <= np.min(self.image_hw) <= np.max(self.image_hw) <= 1:
            raise ValueError(
                f"image of {self.title!r} has shape {shape}; expected one channel (H, W) of values in [0, 1]"
            )
        for name, mask_hw in {"the truth": self.truth_hw, **self.masks}.items():
            if mask_hw is not None and np.shape(mask_hw) != shape:
                raise ValueError(f"{name} of {self.title!r} has shape {np.shape(mask_hw)}; its image has {shape}")


def comparison(
    rows: Sequence[Row], columns: Sequence[str], titles: Mapping[str, str] = {}, caption: str = ""
) -> Figure:
    """Draw rows of cases; columns image, truth, each method, and where the methods disagree (with two methods or more).

    columns: names of ``Row.masks`` in order; titles: what to write above them. Outlines: truth solid, method dashed;
    the number in a cell is its DSC. The last column is 4p(1 - p), p the share of the methods that call a pixel lesion:
    0 where all agree, 1 where they are split in halves. A method without a mask leaves its cell empty. caption:
    sentences below the cells.
    """
    if not rows:
        raise ValueError("no cases to compare; expected at least one row")
    from matplotlib.figure import Figure

    known = any(row.truth_hw is not None for row in rows)
    split = len(columns) > 1
    heads = [
        "Image",
        *(["Truth"] if known else []),
        *(titles.get(name, name) for name in columns),
        *(["Disagreement"] if split else []),
    ]
    cell, gap, left, top, bottom = min(max(9.5 / len(heads), 0.8), 1.4), 0.05, 0.34, 0.26, 0.27  # inches
    right = 0.56 if split else 0.08
    lines = textwrap.wrap(caption, max(30, int((left + len(heads) * (cell + gap) + right) / 0.056)))
    bottom += 0.13 * len(lines)
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
                axes[-1].set_title(head, fontsize=min(NORMAL, 72 * (cell + gap) / (0.6 * len(head))), color=INK, pad=4)
        _beside(figure, (left / 2 / width, 1 - (above + tall / 2) / height), row.title, tall)
        heat = _draw_row(row, axes, columns, known, split) or heat
        above += tall + gap
    if split:
        x = left + len(heads) * (cell + gap)
        bar = figure.add_axes(
            (x / width, 1 - (top + min(sum(heights), 2.5)) / height, 0.09 / width, min(sum(heights), 2.5) / height)
        )
        figure.colorbar(heat, cax=bar, ticks=[0, 0.5, 1])  # type: ignore[arg-type]
        bar.tick_params(labelsize=SMALL, length=2, color=INK, labelcolor=INK)
        bar.set_ylabel("4p(1 − p)", fontsize=SMALL, color=INK, labelpad=3)
        bar.spines[:].set_visible(False)
    _outline_legend(figure, known, 0.13 * len(lines) / height)
    if lines:
        figure.text(
            0.5, 0.05 / height, "\n".join(lines), ha="center", va="bottom", fontsize=SMALL, color=INK, linespacing=1.2
        )
    return figure


def _draw_row(row: Row, axes: Sequence[Axes], columns: Sequence[str], known: bool, split: bool):
    """Draw one case into its cells; return the heat map for the colour bar, None without one."""
    _show(axes[0], row.image_hw)
    if row.truth_hw is not None:
        _show(axes[1], row.image_hw, row.truth_hw)
    elif known:
        _nothing(axes[1], "unknown")
    for ax, name in zip(axes[1 + known :], columns, strict=False):
        predicted_hw = row.masks.get(name)
        if predicted_hw is None:
            _nothing(ax, DASH)
            continue
        _show(ax, row.image_hw, row.truth_hw, predicted_hw)
        if row.truth_hw is not None:
            pair = (torch.as_tensor(np.array(mask, bool))[None] for mask in (predicted_hw, row.truth_hw))
            dsc = row.scores[name]["dsc"] if name in row.scores else float(metrics.overlap(*pair)["dsc"])
            _badge(ax, f"{dsc:.2f}")
    if not split:
        return None
    there = [np.asarray(row.masks[name], bool) for name in columns if name in row.masks]
    share_hw = np.mean(there, axis=0) if there else np.zeros(np.shape(row.image_hw))
    if row.truth_hw is not None:
        _outline(axes[-1], row.truth_hw, TRUTH, "-", 0.5)
    return axes[-1].imshow(4 * share_hw * (1 - share_hw), cmap="magma", vmin=0, vmax=1, zorder=0)


def _show(
    ax: Axes, image_hw: np.ndarray, truth_hw: np.ndarray | None = None, predicted_hw: np.ndarray | None = None
) -> None:
    """Draw the image with the outlines that are known."""
    ax.imshow(image_hw, cmap="gray", vmin=0, vmax=1)
    if truth_hw is not None:
        _outline(ax, truth_hw, TRUTH, "-", 0.8)
    if predicted_hw is not None:
        _outline(ax, predicted_hw, PREDICTED, (0, (3.0, 1.4)), 0.8)


def _outline(ax: Axes, mask_hw: np.ndarray, colour: str, dashes: str | tuple, width: float) -> None:
    """Draw a mask's border, also along the image's own, over a thin dark line that sets it off from bright tissue."""
    from matplotlib.patheffects import Normal, Stroke

    mask_hw = np.asarray(mask_hw, bool)
    if not mask_hw.any():
        return
    x, y = np.arange(-1, mask_hw.shape[1] + 1), np.arange(-1, mask_hw.shape[0] + 1)
    lines = ax.contour(
        x, y, np.pad(mask_hw, 1).astype(float), levels=[0.5], colors=[colour], linewidths=width, linestyles=[dashes]
    )
    lines.set_path_effects([Stroke(linewidth=width + 0.7, foreground=BLACK, alpha=0.55), Normal()])
    ax.set_xlim(-0.5, mask_hw.shape[1] - 0.5)
    ax.set_ylim(mask_hw.shape[0] - 0.5, -0.5)


def _badge(ax: Axes, text: str) -> None:
    """Write white on black in the lower left corner."""
    box = {"boxstyle": "square,pad=0.18", "facecolor": BLACK, "edgecolor": "none", "alpha": 0.7}
    ax.text(0.03, 0.03, text, transform=ax.transAxes, ha="left", va="bottom", fontsize=SMALL, color="white", bbox=box)


def _nothing(ax: Axes, text: str) -> None:
    """Leave a cell without picture."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=SMALL, color=GREY)


def _beside(figure: Figure, at_xy: tuple[float, float], title: str, inches: float) -> None:
    """Write a case's title, upwards, in up to two lines of words; in smaller letters where a line is too long."""
    lines = textwrap.wrap(
        title,
        max(10, int(inches / 0.06)),
        max_lines=2,
        placeholder=" …",
        break_long_words=False,
        break_on_hyphens=False,
    )
    size = min(SMALL, inches * 72 / (0.62 * max(map(len, lines), default=1)))
    figure.text(
        *at_xy, "\n".join(lines), rotation=90, ha="center", va="center", fontsize=size, color=INK, linespacing=1.1
    )


def _outline_legend(figure: Figure, known: bool, above: float) -> None:
    """Draw the legend of outlines and numbers below the cells. above: share of the height left below it."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=PREDICTED, linestyle=(0, (3.0, 1.4)), linewidth=1.4, label="method")]
    if known:
        lines.insert(0, Line2D([], [], color=TRUTH, linewidth=1.4, label="truth"))
        lines.append(
            Line2D([], [], color=INK, linestyle="", marker="$0.85$", markersize=15, markeredgewidth=0, label="DSC")
        )
    figure.legend(
        handles=lines,
        loc="lower center",
        bbox_to_anchor=(0.5, above),
        ncols=len(lines),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        handlelength=2.4,
        borderaxespad=0.2,
    )
