"""The page: its tabs, found by their files' names, under one header and beside one sidebar.

A tab is a file of ``mpsams/app/tabs`` with TITLE (its label), PLACE (a number; tabs are sorted by it) and
``build(session)``, which lays out the tab, registers what is to be redrawn with ``session.on_case`` and its named
endpoint with ``endpoint``. Tabs never import one another. To add a tab, add a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import gradio as gr

from mpsams.annotation.project import Project
from mpsams.app import tabs
from mpsams.app.address import Address
from mpsams.app.components.templates import read_scripts, render
from mpsams.app.gradio_compat.blocks import GuardedBlocks
from mpsams.app.server.budget import VISITOR, Budget
from mpsams.app.session import Session
from mpsams.app.sidebar import Sidebar
from mpsams.inference.registry import ModelRegistry

SCRIPTS = ("page", "theme", "address")


def scripts() -> str:
    """Return the scripts of the page itself, each in a block of its own."""
    return "".join(f"{{{read_scripts(name)}}}\n" for name in SCRIPTS)


def tab_names() -> list[str]:
    """Return the names of all tabs: the files of ``mpsams/app/tabs``."""
    return sorted(module.name for module in pkgutil.iter_modules(tabs.__path__))


def all_tabs() -> list[ModuleType]:
    """Return the modules of all tabs in the order they are shown in."""
    return sorted(
        (importlib.import_module(f"{tabs.__name__}.{name}") for name in tab_names()), key=lambda tab: tab.PLACE
    )


def tab_name(tab: ModuleType) -> str:
    """Return the name of a tab's file without its ending."""
    return tab.__name__.rpartition(".")[2]


def unusable_weights(registry: ModelRegistry) -> str:
    """Return a note on the files of weights that cannot be used, as HTML; empty when all can."""
    return render("unusable", files=registry.unusable_files().items())


def page(registry: ModelRegistry, project: Project | None = None, budget: Budget | None = None) -> gr.Blocks:
    """Build the whole page over a folder of weights and a project of annotations.

    It opens on Learn, with a project on Annotate. The sidebar and Learn show the first case from the start; the other
    tabs draw the case on screen when they are opened. budget: of memory and disk for all visitors; None is what fits
    this computer.
    """
    modules = all_tabs()
    with GuardedBlocks(
        title="MPS-AMS", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True, budget=budget
    ) as blocks:
        session = Session(registry, project, opens=tab_name(modules[0]) if project is None else "annotate")
        header = gr.HTML(render("header"), js_on_load=scripts(), elem_id="top")
        unusable = gr.HTML(unusable_weights(registry), elem_id="left-out", elem_classes="stage")
        session.on_open(lambda: unusable_weights(registry), [], unusable)
        with gr.Row(elem_id="workspace", equal_height=False):
            with gr.Column(scale=0, min_width=272, elem_id="side"):
                session.sidebar = Sidebar(session)
            with gr.Column(scale=1, min_width=300, elem_id="main"), session.tabs.render():
                for module in modules:
                    with gr.Tab(module.TITLE, id=tab_name(module), render_children=True) as tab, session.within(tab):
                        module.build(session)
        session.connect_listeners()
        gr.HTML(render("footer"), elem_id="end")
        session.sidebar.notice.render()
        Address(session, [tab_name(module) for module in modules]).register(header)
        blocks.unload(lambda: blocks.budget.close(VISITOR.get() or ""))
    return blocks
