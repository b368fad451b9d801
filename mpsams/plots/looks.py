"""The style of all figures: colours, letters, axes; and writing a figure to a file.

All colours are of Okabe and Ito's palette, which people with any colour vision can tell apart; lines differ in their
dashes and points in their markers as well. Nothing touches matplotlib's global state but ``as_bytes``, which sets how
fonts are embedded while it writes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Figure = Axes = Any  # matplotlib's own, which is imported where it is used
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F",
)  # fmt: skip
TRUTH, PREDICTED = SKY, ORANGE  # outlines
# Method -> colour, marker, dashes. The ablations share two hues with rivals and are dashed, with hollow markers; other
# orders dash-dotted.
LOOKS = {
    "scratch": (BLACK, "o", "-"),
    "simclr": (SKY, "^", "-"),
    "byol": (BLUE, "v", "-"),
    "swav": (PURPLE, "D", "-"),
    "mae": (ORANGE, "s", "-"),
    "simmim": (GREEN, "P", "-"),
    "base": (GREY, "X", "--"),
    "base_ams": (BLUE, "<", "--"),
    "base_mps": (GREEN, ">", "--"),
    "mps_ams": (VERMILLION, "*", "-"),
    "base_descent": (ORANGE, "p", "-."),
    "descent_ams": (VERMILLION, "d", "-."),
    "base_oracle": (SKY, "8", "-."),
    "oracle_ams": (BLACK, "h", "-."),
}
OTHER = (GREY, ".", ":")
# Method -> colour and dashes of its outline on an image and of its curve on a page, light or dark. None is blue: the
# truth is.
OUTLINES = {
    "mps_ams": (VERMILLION, ""),
    "assist": (VERMILLION, "2 3"),
    "scratch": (GREY, ""),
    "mae": (ORANGE, ""),
    "simmim": (ORANGE, "7 4"),
    "simclr": (GREEN, ""),
    "byol": (GREEN, "7 4"),
    "swav": (GREEN, "2 3"),
    "base": (PURPLE, ""),
    "base_ams": (PURPLE, "7 4"),
    "base_mps": (PURPLE, "2 3"),
}
OTHER_OUTLINE = (GREY, "2 3")
CLASSES = ((BLUE, "o"), (VERMILLION, "^"), (GREEN, "s"), (PURPLE, "D"), (ORANGE, "v"))
INK, FAINT = "#222222", "#D9D9D9"
SMALL, NORMAL = 7.0, 8.5  # points
SUFFIXES = ("png", "pdf", "svg")


def colour(method: str) -> str:
    """Return the colour that stands for a method in every plot, as "#rrggbb"; grey for one of an unknown name."""
    return LOOKS.get(method, OTHER)[0]


def outline(method: str) -> tuple[str, str]:
    """Return colour, "#rrggbb", and dashes, "7 4" or "" for a whole line, of a method's outline."""
    return OUTLINES.get(method, OTHER_OUTLINE)


def as_bytes(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a file: "png" at 300 dpi, "pdf" or "svg" as vectors; the same figure gives the same bytes.

    Letters in a PDF stay text, in an embedded TrueType font; in an SVG they are paths.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is {suffix!r}; expected one of: {', '.join(SUFFIXES)}")
    import matplotlib

    file = io.BytesIO()
    silent = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }[suffix]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "mps-ams"}):
        figure.savefig(file, format=suffix, dpi=300, metadata=silent)
    return file.getvalue()


def fix_layout(figure: Figure) -> Figure:
    """Compute the layout of a figure once and keep it, so that all its files look the same; return the figure."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def head(ax: Axes, title: str, y: str, x: str = "epoch") -> None:
    """Write the title and the names of the axes around a panel."""
    ax.set_title(title, fontsize=NORMAL, color=INK, loc="left", pad=3)
    ax.set_xlabel(x, fontsize=SMALL, color=INK, labelpad=1.5)
    ax.set_ylabel(y, fontsize=SMALL, color=INK, labelpad=1.5)
    plain(ax)


def plain(ax: Axes) -> None:
    """Leave a panel two thin axes, faint level lines and small numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=INK, linewidth=0.6)
    ax.tick_params(labelsize=SMALL, labelcolor=INK, color=INK, width=0.6, length=2.5)
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.locator_params(axis="y", nbins=6)
    ax.set_axisbelow(True)
