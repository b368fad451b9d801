"""The drawing canvas of the Annotate tab as a gradio component."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from mpsams.app.annotate.markup import markup

SCRIPTS = ("pixels", "view", "sync", "prompt", "pointer", "toolbar")  # parts of one script, in this order


def canvas(value: str = "") -> gr.HTML:
    """The component, with the first ``answer`` as its value. Its event is ``act``; the wish is in the event's data."""
    static = Path(__file__).parents[1] / "static"
    parts = [(static / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return gr.HTML(value, html_template=markup(), js_on_load="\n".join(parts), apply_default_css=False, elem_id="annotate")
