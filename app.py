"""The web app: opens the weights, mounts the panels, serves."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is ever fetched or sent
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
import uvicorn
from fastapi import FastAPI

from mpsams import panels
from mpsams.annotations.project import Project

VERSION = "1.0"
ABOUT = "The MPS-AMS web app: see how patches are chosen and hidden, filled in, and how a lesion is outlined."
EXAMPLES = """
examples:
  python app.py                           open http://127.0.0.1:7860 in a browser
  python app.py --weights runs/mine       other checkpoints (*.safetensors); without any, Masking still works
  python app.py --results runs/table1     other records (*.jsonl) for the Results tab
  python app.py --project breasts         annotate the images of a project, a folder that is made if need be
  python app.py --host 0.0.0.0 --port 80  let other computers in; put a proxy with a password before it

The page fetches nothing from the internet and sends nothing there. /healthz answers when the app is up.
"""


def create(weights: Path, results: Path | None = None, project: Project | None = None) -> FastAPI:
    """The application over a folder of weights, one of records and a project: the page at /, a sign of life at /healthz."""
    library = panels.Library(weights, results)
    app = FastAPI(title="MPS-AMS", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def healthz() -> dict:
        return {"ok": True, "version": VERSION, "weights": library.names()}

    page = panels.page(library, project).queue(max_size=32, default_concurrency_limit=2)
    return gr.mount_gradio_app(
        app, page, path="/", show_error=False, max_file_size="1gb", ssr_mode=False, enable_monitoring=False,
        footer_links=["api"], **panels.look(),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and serve until interrupted."""
    parser = argparse.ArgumentParser(description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).parent
    parser.add_argument(
        "--weights", type=Path, default=beside / "weights", metavar="DIR", help="folder of checkpoints (default: weights/ beside app.py)"
    )
    parser.add_argument(
        "--results", type=Path, default=beside / "results", metavar="DIR", help="folder of records (default: results/ beside app.py)"
    )
    parser.add_argument("--project", type=Path, metavar="DIR", help="folder of annotations for the Annotate tab; whoever can open the page can work on it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    options = parser.parse_args(argv)
    if not 0 < options.port < 65536:
        parser.error(f"port {options.port} must lie between 1 and 65535")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        project = None if options.project is None else Project(options.project)
    except (ValueError, OSError) as error:
        parser.error(f"--project: {error}")
    app = create(options.weights, options.results, project)
    print(f"MPS-AMS is at http://{options.host}:{options.port} (Ctrl+C stops it)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
