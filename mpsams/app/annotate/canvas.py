"""The drawing canvas of the Annotate tab as a gradio component."""

from __future__ import annotations

import gradio as gr

from mpsams.app.annotate.markup import markup
from mpsams.app.components.templates import read_scripts

# parts of one script, in this order
SCRIPTS = ("pixels", "view", "sync", "prompt", "pointer", "definition_sheet", "structures", "toolbar")


def canvas(value: str = "") -> gr.HTML:
    """Build the component, with the first ``answer`` as its value. Its event ``act`` carries the command as data."""
    return gr.HTML(
        value, html_template=markup(), js_on_load=read_scripts(*SCRIPTS), apply_default_css=False, elem_id="annotate"
    )
