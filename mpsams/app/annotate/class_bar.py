"""The classes of a project beside the canvas: which the image on screen has, how many images have each, and their
editing.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import gradio as gr

from mpsams.annotation import classes, disk
from mpsams.annotation.classes import ImageClass
from mpsams.annotation.project import Project
from mpsams.app.components.templates import read_scripts, render
from mpsams.app.events import event_values, user_error

SCRIPTS = ("definition_sheet", "classes", "initials")


def component() -> gr.HTML:
    """Build the bar; its event is ``act``, see ``handle``."""
    return gr.HTML("", js_on_load=read_scripts(*SCRIPTS), elem_id="annotate-classes")


def show(project: Project, current: str, can_edit: bool = True) -> str:
    """Return the bar as HTML; "" while the project is empty.

    current: id of the image on screen, "" for none of the project's. can_edit: the definition.
    """
    items, defined = project.items(), classes.defined(project)
    if not items:
        return ""
    counts = {one.name: one for one in classes.count(project)}
    item = next((one for one in items if one.id == current), None)
    others = sum(count.images for name, count in counts.items() if name and name not in {one.name for one in defined})
    can_undo = item is not None and item.image_class != item.class_before and not project.read_only
    suggested = defined or classes.make(classes.DEFAULTS.get(items[0].modality, ()))
    return render(
        "class_bar",
        item=item,
        classes=defined,
        counts=counts,
        others=others,
        can_undo=can_undo,
        read_only=project.read_only,
        can_edit=can_edit and not project.read_only,
        defined=json.dumps([asdict(one) for one in suggested]),
        free_keys=classes.free_class_keys(project),
    )


def handle(project: Project, event: gr.EventData, user: str, can_edit: bool = True) -> None:
    """Handle an event of the page: give the image a class, undo that, or define the classes; errors are shown to
    the user.
    """
    values = event_values(event)
    action, item, image_class = (values.get(name) for name in ("action", "item", "image_class"))
    edited, edited_from = (_classes(values.get(name)) for name in ("classes", "edited_from"))
    try:
        if action == "define" and can_edit and edited is not None:
            classes.define(project, edited, user, edited_from=edited_from)
        elif action == "classify" and isinstance(image_class, str):
            classes.classify(project, str(item), image_class, user)
        elif action == "undo":
            classes.undo(project, str(item), user)
        else:
            raise ValueError(f"action {str(action)[:40]!r}; allowed are classify, undo and define")
    except (ValueError, OSError) as error:
        raise user_error(disk.as_sentence(error)) from None


def _classes(rows: object) -> list[ImageClass] | None:
    """Return the classes that the page sent; None for anything else."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    return [ImageClass(*(str(row.get(name, "")) for name in ("name", "colour", "key"))) for row in rows]
