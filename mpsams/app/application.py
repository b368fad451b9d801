"""The web app as a FastAPI application: the page at /, /healthz and /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import PlainTextResponse

from mpsams import __version__
from mpsams.annotation.project import Project
from mpsams.app import gradio_compat
from mpsams.app.components.templates import read_scripts, render
from mpsams.app.components.theme import look
from mpsams.app.page import page
from mpsams.app.server import accounts, metrics, uploads
from mpsams.app.server.budget import Budget
from mpsams.app.server.dispatch import StayWithWorker
from mpsams.app.server.guard import Guard
from mpsams.app.server.hosts import Hosts
from mpsams.app.server.sign_in_limits import Guesses
from mpsams.inference import shared
from mpsams.inference.registry import ModelRegistry

COMPRESSION = 4  # of 9, of answers
MAX_UPLOAD = 2**30  # bytes of all files of an upload
SHARED_PART = 8  # of the memory for visitors, that results shared by all of them take beside it, at most
KEPT, SWEPT_EVERY = 86_400, 300  # seconds


@dataclass(frozen=True)
class ServerOptions:
    """Access to the app. people: names and hashed passwords of those who may sign in, as ``accounts.read`` gives them;
    None lets anyone in.

    hosts: the names it answers to; None is this computer's own, localhost. max_upload: bytes of all files of an upload.
    with_metrics: whether /metrics answers. guesses: limits on attempts to sign in; None is new ones.
    worker: number of this process among several that answer; None for the only one.
    """

    people: Mapping[str, str] | None = None
    hosts: Hosts | None = None
    max_upload: int = MAX_UPLOAD
    with_metrics: bool = False
    guesses: Guesses | None = None
    worker: int | None = None


def create(
    weights: Path,
    results: Path | None = None,
    project: Project | None = None,
    budget: Budget | None = None,
    server: ServerOptions | None = None,
) -> FastAPI:
    """Create the application over folders of weights, records and a project: the page at /, its health at /healthz.

    budget: of memory and disk for all visitors; None is what fits this computer. server: None is the defaults.
    """
    server = server or ServerOptions()
    learnt = () if project is None else (project.folder / "checkpoints",)
    registry, folder = ModelRegistry(weights, results, learnt), gradio_compat.upload_folder()
    gradio_compat.add_to_head(render("head", event_stream=read_scripts("event_stream")))
    blocks = page(registry, project, budget)
    shared.results.limit = min(shared.LIMIT, blocks.budget.limits[0] // SHARED_PART)

    @asynccontextmanager
    async def tidied(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(folder))
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping

    app = FastAPI(title="MPS-AMS", docs_url=None, redoc_url=None, openapi_url=None, lifespan=tidied)
    # not of events, and not once more what gradio compressed
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=COMPRESSION)
    app.add_middleware(Guard, max_upload=server.max_upload, folder=folder, hosts=server.hosts or Hosts())
    if server.worker is not None:
        app.add_middleware(StayWithWorker, number=server.worker)
    _add_status(app, blocks, registry, project, server.worker)
    if server.with_metrics:
        _add_metrics(app, blocks)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        show_error=False,
        max_file_size=server.max_upload,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api"],
        auth=accounts.checker(server.people, server.guesses) if server.people else None,
        auth_message=accounts.SIGN_IN,
        **look(),
    )
    gradio_compat.use_lean_state(app, blocks)
    return app


def _add_status(
    app: FastAPI, blocks: gr.Blocks, registry: ModelRegistry, project: Project | None, worker: int | None
) -> None:
    """Add /healthz, the state of the app as JSON."""

    @app.get("/healthz")
    def healthz() -> dict:
        status = {
            "ok": True,
            "version": __version__,
            "weights": registry.names(),
            "left_out": registry.unusable_files(),
            "budget": blocks.budget.usage(),
            "shared_results": shared.results.usage(),
            "requests": blocks._queue.usage(),
        }
        if worker is not None:
            status["worker"] = worker
        if project is not None:
            status["project"] = "writable" if os.access(project.folder, os.W_OK) else "read-only"
        return status


def _add_metrics(app: FastAPI, blocks: gr.Blocks) -> None:
    """Add /metrics, in Prometheus' text format."""

    @app.get("/metrics")
    def prometheus() -> PlainTextResponse:
        text = metrics.render(blocks.budget.usage(), blocks._queue.usage(), shared.results.usage())
        return PlainTextResponse(text, media_type=metrics.CONTENT_TYPE)


async def _sweep(folder: Path) -> None:
    """Delete from the folder of uploads what is too old, again and again."""
    while True:
        await asyncio.sleep(SWEPT_EVERY)
        await asyncio.to_thread(uploads.sweep, folder, KEPT)
