"""What a panel is, how panels are found by name, and the page that holds them.

A panel is a file of this folder with TITLE (the tab's words), PLACE (a number; tabs stand in this order) and
``build(session)``, which lays out the tab, registers what is to be redrawn with ``session.on_case`` and its
named endpoint with ``endpoint``. Panels never import one another; what they share is exported here. Adding a
panel is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from html import escape
from types import ModuleType

import gradio as gr

from mpsams.annotation.project import Project
from mpsams.panels import _answers as answers
from mpsams.panels import _volume as volume
from mpsams.panels import _words as words
from mpsams.panels._budget import VISITOR, Budget
from mpsams.panels._case import MODALITIES, NAMES, SIDE, Case, with_truth
from mpsams.panels._library import Library, seen
from mpsams.panels._look import look
from mpsams.panels._session import SAVES, Session, endpoint, in_turn, private, refused
from mpsams.panels._uploads import UploadsOnly

__all__ = [
    "MODALITIES", "NAMES", "SAVES", "SIDE", "Budget", "Case", "Library", "Session", "answers", "available", "endpoint", "in_turn", "look", "page", "panels",
    "private", "refused", "seen", "volume", "with_truth", "words",
]  # fmt: skip

HEADER = """<header><h1>MPS-AMS</h1><p>How a network learns from medical images without labels: hide the patches that may be
lesion, hide more of them each epoch, and have it fill them in. Then a few labelled images are enough to outline lesions.</p></header>"""
FOOTER = """<footer>After Wang et al., <cite>MPS-AMS: Masked patches selection and adaptive masking strategy based self-supervised
medical image segmentation</cite>. For research and teaching; not a medical device. Nothing you open leaves the computer that runs this page.</footer>"""


def available() -> list[str]:
    """Names of all panels: the files of this folder that do not begin with an underscore."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def panels() -> list[ModuleType]:
    """All panels in the order of their tabs."""
    return sorted((importlib.import_module(f"{__name__}.{name}") for name in available()), key=lambda panel: panel.PLACE)


def name_of(panel: ModuleType) -> str:
    """A panel's file without its ending."""
    return panel.__name__.rpartition(".")[2]


def left_out(library: Library) -> str:
    """A note on the weights that cannot be used, as HTML; empty when all can."""
    found = [f"<br><code>{escape(name)}</code>: {escape(why)}" for name, why in library.left_out().items()]
    return words.note(f"<strong>Weights that cannot be used were left out.</strong>{''.join(found)}", "care") if found else ""


def page(library: Library, project: Project | None = None, budget: Budget | None = None) -> gr.Blocks:
    """The whole page over a folder of weights and a project of annotations, with the first case already drawn.

    It opens on Learn, with a project on Annotate. budget: of memory and disk for all visitors; None is what fits this computer.
    """
    found = panels()
    with UploadsOnly(title="MPS-AMS", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True, budget=budget) as blocks:
        session = Session(library, project, opens=name_of(found[0]))
        gr.HTML(HEADER, elem_id="top")
        left = gr.HTML(left_out(library), elem_id="left-out", elem_classes="stage")
        session.on_open(lambda: left_out(library), [], left)
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=0, min_width=272, elem_id="side"):
                session.sidebar()
            with gr.Column(scale=1, min_width=300, elem_id="main"), session.tabs.render():
                for panel in found:
                    with gr.Tab(panel.TITLE, id=name_of(panel), render_children=True) as tab, session.within(tab):
                        panel.build(session)
        gr.HTML(FOOTER, elem_id="end")
        blocks.unload(lambda: blocks.budget.close(VISITOR.get() or ""))
    return blocks
