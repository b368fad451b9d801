"""Figures for print, as PNG, PDF or SVG: what they show is in one file each, how they all look in ``looks``."""

from mpsams.plots.bits import information
from mpsams.plots.cases import Row, comparison
from mpsams.plots.handout import Panel, handout
from mpsams.plots.looks import LOOKS, OUTLINES, SUFFIXES, Figure, as_bytes, colour, outline
from mpsams.plots.scores import against_labels, curves, scatter
from mpsams.plots.selectors import ranking

__all__ = [
    "LOOKS",
    "OUTLINES",
    "SUFFIXES",
    "Figure",
    "Panel",
    "Row",
    "against_labels",
    "as_bytes",
    "colour",
    "comparison",
    "curves",
    "handout",
    "information",
    "outline",
    "ranking",
    "scatter",
]
