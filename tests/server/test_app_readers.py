"""The readers' part of Annotate as the page calls it: what a damaged file does to it, and what its addresses show."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest

from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import CONSENSUS, ReaderViews
from mpsams.app import page as panels
from mpsams.app.annotate import readers_panel
from mpsams.inference.registry import ModelRegistry
from tests.support.annotate_tab import Tab
from tests.support.annotation_page import picture

pytestmark = pytest.mark.filterwarnings("ignore")
DAMAGED = "0.png was left out: The file of this image was damaged or removed outside of this program."


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path / "project") as opened:
        for seed in range(3):
            opened.add(picture(tmp_path, seed), "ultrasound")
        yield opened


def visit(project: Project, weights, reader: str) -> Tab:
    """A tab on the page of a reader."""
    tab = Tab(panels.page(ModelRegistry(weights), project))
    tab.request = gr.Request(query_params={"reader": reader})
    return tab


def texts(outputs: dict) -> str:
    return " ".join(map(str, outputs.values()))


def outline(project: Project, column: int) -> None:
    for item in project.items():
        mask_xyz = np.zeros(item.shape_xyz, bool)
        mask_xyz[column : column + 8, 4:12] = True
        project.accept(item.id, mask_xyz)


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_damaged_image_is_named_and_the_other_images_are_compared(project, small_weights, is_removed):
    outline(project, 2)
    outline(ReaderViews(project).join("Clara", True).project, 4)
    damaged = project.items()[0].id
    for path in project.folder.rglob(f"images/{damaged}*"):
        path.unlink() if is_removed else path.write_bytes(b"rotten")
    project.close()
    with Project(project.folder) as again:
        tab = visit(again, small_weights, CONSENSUS)
        shown = texts(tab.call(tab.named("add_images", readers_panel)))
        assert DAMAGED in shown and shown.count(DAMAGED) == 1 and "2 images" in shown
        assert DAMAGED in texts(tab.call(tab.named("_measure", readers_panel), {"pair": 0}))
