"""A page that opens only what was uploaded to it.

gradio copies any path or address found in a request into its cache, unless it lies outside the upload folder;
that check rests while an app is mounted rather than launched (6.31). So a request could name a file of the
server, or have the server fetch an address. Here every request is checked before gradio sees it.
"""

from __future__ import annotations

import gradio as gr
from gradio.utils import abspath, get_upload_folder, is_in_or_equal
from gradio_client.utils import traverse


class UploadsOnly(gr.Blocks):
    """Blocks that refuse a request naming a file which was not uploaded here."""

    async def preprocess_data(self, block_fn, inputs, *others, **more):
        traverse(inputs, refuse_foreign, lambda part: isinstance(part, dict) and "path" in part)
        return await super().preprocess_data(block_fn, inputs, *others, **more)


def refuse_foreign(file: dict) -> dict:
    """The file as it is, or gr.Error when its path is not in the folder of uploads."""
    path = file["path"]
    if not isinstance(path, str) or "://" in path or not is_in_or_equal(abspath(path), get_upload_folder()):
        raise gr.Error("Only files uploaded to this page can be opened.", title="Not possible", print_exception=False)
    return file
