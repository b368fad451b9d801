"""A page in A4 to hand out: numbered panels, each a small picture beside one or two sentences. Axes: H x W pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpsams.plots.looks import BLUE, GREEN, GREY, INK, PREDICTED, TRUTH, Axes, Figure, plain

WIDTH, HEIGHT = 8.27, 11.69  # inches
LEFT, TOP, BOTTOM, GAP = 0.6, 1.62, 0.9, 0.3
PICTURE, BETWEEN = 1.4, 0.14
LETTERS, LINE = 7.6, 34  # points of the text, characters in a line of it
COLUMNS = 2
# what a mask or an outline shows -> its colour
OVER = {"truth": TRUTH, "predicted": PREDICTED, "lesion": PREDICTED, "hidden": "#31454F", "picked": GREEN}


@dataclass(frozen=True)
class Panel:
    """A picture and its text.

    image: floats in [0, 1], (H, W), or uint8 (H, W, 3). masks, outlines: (kind, bool (h, w)), kinds of ``OVER``; a mask
    may be coarser than the image.
    cells: lines are drawn between so many cells a side; 0 is none. curve: x, y and the index of the point to mark,
    instead of an image.
    """

    title: str
    text: str
    image: np.ndarray | None = None
    masks: Sequence[tuple[str, np.ndarray]] = ()
    outlines: Sequence[tuple[str, np.ndarray]] = ()
    cells: int = 0
    curve: tuple[Sequence[float], Sequence[float], int] | None = None


def handout(title: str, lines: Sequence[str], panels: Sequence[Panel], source: str, link: str) -> Figure:
    """Draw the page.

    lines: below the title. source: at the foot, as is the link, which a click in a PDF follows; "" is none.

    ValueError without a panel.
    """
    if not panels:
        raise ValueError("no panels to draw; expected at least one")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    _write(figure, LEFT, 0.55, title, 19, weight="bold", va="top")
    for number, line in enumerate(lines):
        _write(figure, LEFT, 0.99 + 0.2 * number, line, 9.5, va="top")
    rows = -(-len(panels) // COLUMNS)
    tall, wide = (HEIGHT - TOP - BOTTOM) / rows, (WIDTH - 2 * LEFT + GAP) / COLUMNS
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        _draw_panel(figure, panel, number + 1, LEFT + column * wide, TOP + row * tall)
    _write(
        figure,
        LEFT,
        HEIGHT - 0.8,
        "\n".join(textwrap.wrap(source, 120)),
        LETTERS,
        va="top",
        color=GREY,
        linespacing=1.32,
    )
    if link:
        _write(
            figure,
            LEFT,
            HEIGHT - 0.5,
            link,
            min(LETTERS, 115 * LETTERS / max(len(link), 1)),
            va="top",
            color=BLUE,
            url=link,
        )
    return figure


def _draw_panel(figure: Figure, panel: Panel, number: int, left: float, top: float) -> None:
    """Draw a panel with its upper left corner at a place, in inches from that of the page."""
    _write(figure, left, top, f"{number}  {panel.title}", 9.5, weight="bold", va="top")
    frame = (left / WIDTH, 1 - (top + 0.22 + PICTURE) / HEIGHT, PICTURE / WIDTH, PICTURE / HEIGHT)
    ax = figure.add_axes(frame)
    if panel.curve is None:
        _draw_image(ax, panel)
    else:
        _draw_curve(ax, panel)
    _write(
        figure,
        left + PICTURE + BETWEEN,
        top + 0.22,
        "\n".join(textwrap.wrap(panel.text, LINE)),
        LETTERS,
        va="top",
        linespacing=1.32,
    )


def _draw_image(ax: Axes, panel: Panel) -> None:
    """Draw the image, the masks over it and the outlines, from the lowest to the highest."""
    image = np.asarray(panel.image)
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent)
    for kind, mask in panel.masks:
        colours = np.zeros((*mask.shape, 4))
        colours[mask] = _colour(OVER[kind], 0.45 if kind == "lesion" else 1.0)
        ax.imshow(colours, extent=extent, interpolation="nearest")
    for k in range(1, panel.cells):
        ax.axvline(k * width / panel.cells, color="white", alpha=0.3, linewidth=0.3)
        ax.axhline(k * height / panel.cells, color="white", alpha=0.3, linewidth=0.3)
    for kind, mask in panel.outlines:
        if mask.any():
            # of cells, their corners
            fine = np.kron(mask, np.ones((max(1, height // mask.shape[0], 256 // mask.shape[0]),) * 2, bool))
            padded = np.pad(fine, 1).astype(float)
            x = (np.arange(padded.shape[1]) - 0.5) * width / fine.shape[1]
            y = (np.arange(padded.shape[0]) - 0.5) * height / fine.shape[0]
            ax.contour(
                x,
                y,
                padded,
                levels=[0.5],
                colors=[OVER[kind]],
                linewidths=1.0,
                linestyles=["-" if kind == "truth" else (0, (3.0, 1.4))],
            )
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_anchor("NW")
    ax.set_axis_off()


def _draw_curve(ax: Axes, panel: Panel) -> None:
    """Draw the curve with its marked point."""
    x, y, marked = panel.curve  # type: ignore[misc]
    ax.plot(x, y, color=BLUE, linewidth=1.5)
    ax.plot([x[marked]], [y[marked]], "o", color=BLUE, markersize=4.5)
    ax.annotate(
        f"{y[marked]:.0%}",
        (x[marked], y[marked]),
        xytext=(4, -10),
        textcoords="offset points",
        fontsize=LETTERS,
        color=INK,
    )
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    ax.set_xlabel("epoch", fontsize=LETTERS - 1, color=INK, labelpad=1)
    plain(ax)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    box = ax.get_position()
    ax.set_position((box.x0 + 0.045, box.y0 + 0.018, box.width - 0.05, box.height - 0.02))


def _colour(code: str, opacity: float) -> tuple[float, ...]:
    """Return a colour "#rrggbb" as four floats in [0, 1]."""
    return (*(int(code[k : k + 2], 16) / 255 for k in (1, 3, 5)), opacity)


def _write(figure: Figure, left: float, top: float, text: str, size: float, **options) -> None:
    """Write text of ``size`` points with its corner at a place, in inches from that of the page."""
    figure.text(left / WIDTH, 1 - top / HEIGHT, text, fontsize=size, **({"color": INK} | options))
