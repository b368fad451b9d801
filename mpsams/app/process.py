"""The app in one process: its settings, its folder of uploads, its part of memory and disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from mpsams.annotation.project import Project
from mpsams.app.application import ServerOptions, create
from mpsams.app.server import listen, uploads
from mpsams.app.server.budget import Budget


@dataclass(frozen=True)
class Settings:
    """Settings of one process of the app.

    weights, results: folders of checkpoints and of records. uploads: the folder wanted for uploads. memory, disk:
    bytes for all visitors; None is what fits this computer.
    """

    weights: Path
    results: Path
    uploads: Path
    memory: int | None
    disk: int | None
    server: ServerOptions


def default_uploads(port: int) -> Path:
    """Return the folder for uploads: that of the environment variable GRADIO_TEMP_DIR, else a temporary one."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / f"mpsams-{user}-{port}")


@contextmanager
def open_app(settings: Settings, project: Project | None) -> Iterator[FastAPI]:
    """Yield the application; SIGTERM ends what is inside, and its uploads are deleted afterwards."""
    with listen.ended_by_signal(), uploads.uploads_folder(settings.uploads) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        budget = Budget(settings.memory, settings.disk)
        yield create(settings.weights, settings.results, project, budget, settings.server)
