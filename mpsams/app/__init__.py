"""The web page: `page` puts the tabs together, `main` serves it (the only part of the package that uses gradio)."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is ever fetched or sent
os.environ["HF_HUB_OFFLINE"] = "1"

from mpsams.app import gradio_compat  # noqa: E402, F401  before any module of the app imports gradio
