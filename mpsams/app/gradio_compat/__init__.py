"""Everything of the app that relies on gradio's internals, tested with the version in requirements.txt.

blocks: the page's Blocks, which check every request. session_state: the state of a browser tab without a copy of the
page's settings. changed_outputs: the outputs of an event. import_gradio: the import of gradio itself. multipart: the
parser of uploads. Here: internals that other modules need, as functions.
"""

from __future__ import annotations

from mpsams.app.gradio_compat import import_gradio  # noqa: F401  must come before "import gradio"

# isort: split
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
from gradio import routes
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from jinja2 import ChoiceLoader, DictLoader

from mpsams.app.gradio_compat import multipart  # noqa: F401  which replaces gradio's parser of uploads
from mpsams.app.gradio_compat.session_state import use_lean_state

__all__ = ["add_to_head", "event_data", "page_query", "root_blocks", "save_to_cache", "upload_folder", "use_lean_state"]


def upload_folder() -> Path:
    """Return the folder that gradio keeps uploads and made files in."""
    return Path(get_upload_folder())


def add_to_head(html: str) -> None:
    """Put HTML at the start of the page's head, where a script runs before anything is painted. gradio's own ``head``
    runs when the page is there.
    """
    environment, name = routes.templates.env, "frontend/index.html"
    loader = environment.loader.loaders[-1] if isinstance(environment.loader, ChoiceLoader) else environment.loader
    source, _, _ = loader.get_source(environment, name)
    environment.loader = ChoiceLoader(
        [DictLoader({name: source.replace("<head>", f"<head>{{% raw %}}{html}{{% endraw %}}", 1)}), loader]
    )


def root_blocks() -> gr.Blocks | None:
    """Return the Blocks that are being built; None outside of any."""
    return gr.context.Context.root_block


def save_to_cache(data: bytes, name: str, component: gr.components.Component) -> str:
    """Write a file into gradio's cache, which is emptied by age; return its path, in a folder named by a hash of it."""
    return gr.processing_utils.save_bytes_to_cache(data, name, component.GRADIO_CACHE)


def event_data(event: gr.EventData) -> object:
    """Return the values that the page sent with an event."""
    return event._data


def page_query() -> Mapping[str, str]:
    """Return the query of the address of the page that sent the event being handled; empty outside of events."""
    return getattr(LocalContext.request.get(None), "query_params", None) or {}
