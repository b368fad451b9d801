"""The drawing canvas of the Annotate tab as HTML: its tools, their icons (drawn here) and the sheet of shortcuts."""

from __future__ import annotations

from markupsafe import Markup

from mpsams.app.components.templates import render
from mpsams.transforms import CT_WINDOWS

ANSWER_TIMEOUT = 20_000  # milliseconds without an answer, after which the page tries again

ICONS = {
    "brush": (
        "M20.5 3.5 10.3 13.7M20.5 3.5c-1.6-.6-9.2 5.9-12 9.2M20.5 3.5c.6 1.6-5.9 9.2-9.2 12M8.3 12.7c2.2 0 3 .8 3 3 0"
        " 3.4-3.4 4.8-8.3 4.3 2-1 1.4-2.1 2-4.3.4-1.8 1.5-3 3.3-3z"
    ),
    "eraser": (
        "M9 20.5 3.8 15.3a1.5 1.5 0 0 1 0-2.1l9-9a1.5 1.5 0 0 1 2.1 0l5.2 5.2a1.5 1.5 0 0 1 0 2.1l-9 9zM8.3 8.7l7.3"
        " 7.3M8 20.5h12.5"
    ),
    "polygon": (
        "M6.5 8.2 11.6 5M14.3 5l4.2 5M18.7 12.6 16.4 18M13.6 19H8.4M6.3 17.2 5.2 10.7M13 2.6v3.6M11.2 4.4h3.6M17.8"
        " 11.3h3.4M19.5 9.6V13M15.2 17.2v3.6M13.4 19H17M7 17.2v3.6M5.2 19h3.6M5 7.2v3.6M3.2 9h3.6"
    ),
    "fill": (
        "M10.5 3.5 18.5 11.5l-6.6 6.6a1.6 1.6 0 0 1-2.3 0L3.9 12.4a1.6 1.6 0 0 1 0-2.3zM8 3.5l2.5 0M3.7 11.5h14.8M20"
        " 15c1.7 2.3 2 3.2 2 4a2 2 0 0 1-4 0c0-.8.3-1.7 2-4z"
    ),
    "box": (
        "M4 8V5.5A1.5 1.5 0 0 1 5.5 4H8M16 4h2.5A1.5 1.5 0 0 1 20 5.5V8M20 16v2.5a1.5 1.5 0 0 1-1.5 1.5H16M8 20H5.5A1.5"
        " 1.5 0 0 1 4 18.5V16M8.5 12a3.5 3.5 0 1 0 7 0 3.5 3.5 0 0 0-7 0z"
    ),
    "point": "M12 2.5v5M12 16.5v5M2.5 12h5M16.5 12h5M10.5 12a1.5 1.5 0 1 0 3 0 1.5 1.5 0 0 0-3 0z",
    "lesion": "M2.5 17.5C4 8 6.5 6 7.5 8.5S6 17.5 8.5 17.5 11 6 13.5 6s.5 7 2.5 7M19 14.5v7M15.5 18h7",
    "background": "M2.5 17.5C4 8 6.5 6 7.5 8.5S6 17.5 8.5 17.5 11 6 13.5 6s.5 7 2.5 7M15.5 18h7",
    "window": "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17v17M12 7.5l6.5 0M12 11.8h8.3M12 16.2h7",
    "undo": "M8.5 5 4 9.5 8.5 14M4.5 9.5H14a5.5 5.5 0 0 1 0 11H9",
    "redo": "M15.5 5 20 9.5 15.5 14M19.5 9.5H10a5.5 5.5 0 0 0 0 11h5",
    "hide": "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
    "outline": "M12 4.5c5.5-1 8.5 3 8 7.5s-3.5 8-8.5 7.5S3.5 16 4 11.5s3-6.2 8-7z",
    "proposal": (
        "M9 5.3l2.5-.8M15 4.6l2.5 1.3M19.4 8.4l.6 2.8M19.7 14.2l-1.3 2.5M15.8 18.7l-2.7.8M10 19.4l-2.6-1M5.3 16.3 4.2"
        " 13.8M4.2 10.6l1-2.7"
    ),
    "truth": "M12 4.5c5.5-1 8.5 3 8 7.5s-3.5 8-8.5 7.5S3.5 16 4 11.5s3-6.2 8-7zM8.5 12l2.5 2.5 4.5-5",
    "readers": (
        "M9 5c3.5-.6 5.5 1.8 5.2 5s-2.3 5.2-5.5 4.8S3.5 12.2 4 9.3s2-3.9 5-4.3zM15.5 9.2c3 0 4.8 2 4.5 4.9s-2.2 5-5.3"
        " 4.7-4.8-2-4.7-4.3"
    ),
    "out": "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3 20.5 20.5M7.5 10.5h6",
    "in": "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3 20.5 20.5M7.5 10.5h6M10.5 7.5v6",
    "fit": "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5M9 9.5h6v5H9z",
    "strokes": "M2.5 15.5C4 7 6.5 5 7.5 7.5S6 15.5 8.5 15.5 11 5 13.5 5s.5 5.5 2 6M15.5 15.5l5.5 5.5M21 15.5 15.5 21",
    "side": "M4 5h16v14H4zM9.5 5v14M6.5 8.5h.5M6.5 11.5h.5",
    "exact": "M4.5 4.5h15v15h-15zM4.5 12h15M12 4.5v15",
    "previous": "M14.5 6 8.5 12l6 6",
    "after": "M9.5 6l6 6-6 6",
    "back": "M6 14.5 12 8.5l6 6",
    "on": "M6 9.5l6 6 6-6",
}
TOOLS = (
    ("box", "Box: drag it around an object, the network outlines it", "B"),
    ("point", "Point: click on an object, with Alt or the right button beside it", "P"),
    ("brush", "Brush", "R or 2"),
    ("eraser", "Eraser: of the chosen structure, others stay", "E or 1"),
    ("polygon", "Polygon", "G or 3"),
    ("fill", "Fill a hole", "F or 4"),
    ("lesion", "Scribble on lesion, the mask follows", "S"),
    ("background", "Scribble on what is no lesion", "D"),
    ("window", "Brightness and contrast: drag", "W"),
)
SHORT = {
    "box": "Box",
    "point": "Point",
    "brush": "Brush",
    "eraser": "Eraser",
    "polygon": "Polygon",
    "fill": "Fill",
    "lesion": "Lesion",
    "background": "Not lesion",
    "window": "Window",
}
SHORTCUTS = {
    "Draw": (
        ("R or 2", "brush"),
        ("E or 1", "eraser"),
        ("X", "swap brush and eraser, or add and remove"),
        ("G or 3", "polygon: click its corners"),
        ("Enter", "close the polygon; a double click does too"),
        ("Backspace", "remove its last corner"),
        ("Escape", "cancel it"),
        ("F or 4", "fill the enclosed hole under the pointer"),
        ("Shift", "with polygon or fill: remove instead"),
        ("[ ]", "size, also Shift and wheel"),
        ("Q C J \u2026", "choose a structure, by its key in the bar"),
        ("Ctrl Z", "undo"),
        ("Ctrl Y", "redo, also Ctrl Shift Z"),
    ),
    "Ask the network": (
        ("B", "box: drag it around an object"),
        ("P", "point: click on an object to outline or refine it"),
        ("Alt", "with a click: this does not belong to it; the right button too"),
        ("Escape", "done with this object"),
        ("S", "scribble on lesion, the mask follows"),
        ("D", "scribble on what is no lesion"),
        ("M", "show or hide its proposal"),
    ),
    "See": (
        ("H", "hide all drawing; hold to peek"),
        ("O", "only the outline"),
        ("I", "pixels as squares or smooth"),
        ("T", "the true outline, where there is one"),
        ("V", "the outlines of other readers, where there are any"),
        ("+ \u2212", "zoom, also Ctrl and wheel"),
        ("0", "fit"),
        ("Space", "hold and drag to pan, also the middle button"),
        ("W", "window and level: drag; also the right button"),
        ("Right\u00a0button\u00a0twice", "the first window again"),
    ),
    "Go on": (
        ("Enter or A", "accept and go to the next"),
        ("Shift Enter", "accept as an image without lesion"),
        ("Ctrl Z", "right after accept or skip: take it back"),
        ("N", "skip, or the next"),
        (",", "the image before"),
        (".", "the next image, without skipping this one"),
        ("Wheel or \u2191 \u2193", "slices, also PageUp and PageDown"),
        ("?", "this sheet"),
    ),
    "On a touch screen": (("One\u00a0finger", "draws"), ("Two\u00a0fingers", "zoom and pan")),
}


def markup() -> Markup:
    """Return the HTML of the canvas with its tools, without an image.

    The text must hold no backslash, backtick, dollar or double brace: gradio's templates read those.
    """
    return render(
        "annotate/canvas",
        answer_timeout=ANSWER_TIMEOUT,
        icons=ICONS,
        tools=TOOLS,
        short=SHORT,
        shortcuts=SHORTCUTS,
        windows=CT_WINDOWS,
    )
