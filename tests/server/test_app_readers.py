"""The readers' part of Annotate as the page calls it: what a damaged file does to it, and what its addresses show."""

from __future__ import annotations

import errno

import gradio as gr
import numpy as np
import pytest

from mpsams.annotation import lock
from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import CONSENSUS, ReaderViews
from mpsams.app import page as panels
from mpsams.app.annotate import readers_panel
from mpsams.inference.registry import ModelRegistry
from tests.support.annotate_tab import Tab
from tests.support.annotation_page import picture

pytestmark = pytest.mark.filterwarnings("ignore")
DAMAGED = "picture 0.png was left out: The file of this image was damaged or removed outside of this program."


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
        views, notes = ReaderViews(again), []
        assert list(views.make_consensus("majority", notes=notes))[-1] == (2, 2) and notes == [DAMAGED]
        assert len(views.join("Dora", True).project.items()) == 2
        tab.request = gr.Request(query_params={"reader": "Dora"})
        assert DAMAGED in texts(tab.call(tab.named("add_images", readers_panel)))


def test_a_damaged_reader_is_named_and_the_page_loads(project, small_weights):
    views = ReaderViews(project)
    for column, name in enumerate(("Anna", "Clara")):
        outline(views.join(name, True).project, column)
    outline(project, 2)
    project.close()
    (project.folder / "readers" / "Anna" / "project.json").write_text("{")
    with Project(project.folder) as again:
        tab = visit(again, small_weights, "")
        shown = texts(tab.call(tab.named("show", readers_panel)))
        sentence = "project of reader &#39;Anna&#39; cannot be opened"
        assert sentence in shown and "Open the page of Clara" in shown and str(again.folder) not in shown
        tab.request = gr.Request(query_params={"reader": CONSENSUS})
        shown = texts(tab.call(tab.named("show", readers_panel)))
        assert sentence in shown and str(again.folder) not in shown
        assert "3 images" in texts(tab.call(tab.named("add_images", readers_panel)))
        tab.request = gr.Request(query_params={"reader": "Anna"})
        with pytest.raises(gr.Error, match="The project of reader 'Anna' cannot be opened") as refusal:
            tab.call(tab.named("show", readers_panel))
        assert str(again.folder) not in str(refusal.value)


def test_a_read_only_project_without_a_consensus_says_so(project, small_weights, monkeypatch):
    ReaderViews(project).join("Clara", True)
    project.close()

    def refuse(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "hold", refuse)
    with Project(project.folder) as looked:
        tab = visit(looked, small_weights, CONSENSUS)
        with pytest.raises(gr.Error, match="There is no consensus yet, and none can be made"):
            tab.call(tab.named("show", readers_panel))
        assert not (looked.folder / "readers" / CONSENSUS).exists()


def test_an_error_of_the_disk_while_a_reader_is_opened_is_a_sentence(project, small_weights, monkeypatch):
    ReaderViews(project).join("Clara", True)
    tab = visit(project, small_weights, CONSENSUS)

    def refuse(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "hold", refuse)
    with pytest.raises(gr.Error, match="The disk could not be read or written"):
        tab.call(tab.named("show", readers_panel))
