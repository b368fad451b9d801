"""The list of a project's images beside the canvas: its markup, the rows that it is sent, and what was done.

No gradio here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape

from mpsams.annotation import log
from mpsams.annotation.project import Item, Project
from mpsams.annotation.thumbnails import Thumbnails
from mpsams.app.components import html

LINES = 20  # of the log
# others as the log says
ACTIONS = {
    "proposed": "got a proposal",
    "recovered": "found changed",
    "missing": "lost its mask",
    "discarded": "lost its proposal",
    "classified": "has the class",
    "configured": "settings changed",
}
STATES = {"open": "Open", "accepted": "Accepted", "skipped": "Skipped", "all": "All"}
ORDERS = {
    "queue": "Most doubtful first",
    "sure": "Least doubtful first",
    "name": "By name",
    "added": "As added",
    "changed": "Last changed first",
    "seconds": "Longest time first",
    "class": "By class",
}
DOUBTS = {"": "Any doubt", "nothing": "Nothing found", "high": "High doubt", "low": "Low doubt"}
STEPS = """<div class="first-steps" hidden><h4>Three steps</h4><ol><li><b>Add images.</b> Choose files above: pictures,
volumes or DICOM, many at once. They stay on this computer.</li>
<li><b>Let the network propose.</b> Each image gets a mask, and the ones in doubt come first.</li>
<li><b>Correct and accept.</b> Mend what is wrong, press <kbd>Enter</kbd>, and the next one is there.</li></ol></div>"""
EMPTY = {
    "open": "<strong>All done.</strong> Every image is accepted or skipped. Download them under “Export”, or add more.",
    "accepted": "Nothing is accepted yet. Open an image, mend its mask, and press “Accept &amp; next”.",
    "skipped": "Nothing was skipped.",
}


def markup() -> str:
    """Return the list without images.

    The text must hold no backslash, backtick, dollar or double brace: gradio's templates read those.
    """
    states = "".join(
        f'<label><input type="radio" name="images-state" data-set="state" value="{name}"{" checked" * (name == "open")}'
        f' aria-label="{title}"><span>{title}</span> <i data-part="count-{name}"></i></label>'
        for name, title in STATES.items()
    )
    hints = " ".join(f'data-{name}="{escape(text)}"' for name, text in EMPTY.items())
    batch = "".join(
        f'<button type="button" data-batch="{name}">{name.capitalize()}</button>'
        for name in ("accept", "skip", "reopen", "delete")
    )
    return f"""<section class="images" aria-label="Images of the project">{STEPS}
<div data-for="images" hidden><div class="going" role="progressbar" aria-label="Images accepted" aria-valuemin="0"
aria-valuemax="100"><i data-part="share"></i><span data-part="done"></span></div><p class="small"
data-part="rest"></p></div>
<div class="states" role="radiogroup" aria-label="Status" data-for="images" hidden>{states}</div>
<div class="find" data-for="images" hidden><input type="search" data-set="search" placeholder="Search by name"
aria-label="Search by name">
{_select("order", "Order", ORDERS)}<select data-set="image_class" aria-label="Class"
hidden></select>{_select("doubt", "Doubt", DOUBTS)}</div>
<div class="picked" data-part="picked" hidden><b data-part="selected" role="status"></b><span>{batch}</span><button
type="button" data-action="none" aria-label="Select none" title="Select none (Escape)">×</button></div>
<div class="queue" role="listbox" aria-label="Images" aria-multiselectable="true" tabindex="0"><div
class="rows"></div></div>
<div data-part="none" {hints} hidden><p class="note"></p></div>
<p class="small below" data-for="images" hidden><span data-part="total"></span><button type="button" data-action="reset"
data-part="reset" hidden>Show all</button><button type="button" data-action="all"
title="Select all that are shown (Ctrl A)">Select all</button></p>
<dialog data-part="confirm" aria-labelledby="images-question"><form method="dialog"><h4 id="images-question"
data-part="question"></h4><p data-part="explanation"></p><div><button value="no">Cancel</button><button value="yes"
data-part="yes"></button></div></form></dialog>
</section>"""  # noqa: E501


def _select(name: str, label: str, options: dict[str, str]) -> str:
    choices = "".join(f'<option value="{value}">{title}</option>' for value, title in options.items())
    return f'<select data-set="{name}" aria-label="{label}">{choices}</select>'


def server_functions(project: Project, project_of: Callable[[str], Project] | None = None) -> list[Callable]:
    """Return the functions that the list calls; what it sends them may be anything.

    project_of: the project of a reader, by name.
    """
    made = Thumbnails(project)

    def items(request: object) -> dict | None:
        """Return the ``news`` of a reader's project; None where it cannot be opened, which the readers' panel says."""
        since, reader = (
            (request.get("since"), str(request.get("reader") or "")) if isinstance(request, dict) else (request, "")
        )
        try:
            return news(project if project_of is None or not reader else project_of(reader), since)
        except ValueError:
            return None

    def thumbnails(ids: object) -> dict[str, str]:
        return made.get([id for id in ids if isinstance(id, str) and len(id) == 16] if isinstance(ids, list) else [])

    return [items, thumbnails]


def version(project: Project) -> int:
    """Return a number that grows with everything that is done to the project: the size of its log in bytes."""
    path = project.folder / "log.jsonl"
    return path.stat().st_size if path.exists() else 0


def pointer(project: Project, current: str) -> str:
    """Return the value of the list as JSON.

    current: id of the image on screen. The list asks for rows when the version is new to it.
    """
    return json.dumps({"version": version(project), "current": current})


def news(project: Project, since: object) -> dict:
    """Return the images that changed since a version, or all of them.

    since: a version that ``news`` returned; for any other value all images are sent. ``items`` are rows as
    ``images.js`` reads them, ``removed`` the ids of images that are no longer in the project.
    """
    now = version(project)
    if type(since) is not int or not 0 <= since <= now:
        return {
            "version": now,
            "is_complete": True,
            "items": [_row(item, number) for number, item in enumerate(project.items(), start=1)],
            "removed": [],
        }
    rows, end = log.read(project.folder / "log.jsonl", since)
    changed = {row["item"] for row in rows if "item" in row}
    if not changed:
        return {"version": end, "is_complete": False, "items": [], "removed": []}
    found = {item.id: _row(item, number) for number, item in enumerate(project.items(), start=1)}
    return {
        "version": end,
        "is_complete": False,
        "items": [found[id] for id in changed if id in found],
        "removed": sorted(changed - set(found)),
    }


def _row(item: Item, number: int) -> list:
    return [
        item.id,
        number,
        item.name,
        item.status,
        item.priority,
        item.image_class,
        round(item.seconds, 1),
        item.changed,
        int(item.is_nothing_found),
        int(item.shape_xyz[2] > 1),
    ]


def bar(share: float, text: str, label: str) -> str:
    """Return a progress bar from 0 to 1 with words in it. label: its name for screen readers."""
    return (
        f'<div class="going" role="progressbar" aria-label="{label}" aria-valuenow="{100 * share:.0f}"><i'
        f' style="width:{100 * share:.1f}%"></i><span>{escape(text)}</span></div>'
    )


def done(project: Project) -> str:
    """Return the last lines of the log, the newest first."""
    rows = project.last_lines(LINES)[::-1]
    items = {item.id: (number, item.name) for number, item in enumerate(project.items(), start=1)}
    places = {id: items[id][1] or f"image {items[id][0]}" for row in rows if (id := row.get("item")) in items}
    lines = "".join(f"<li>{_line(row, places)}</li>" for row in rows)
    return f'<ul class="done">{lines}</ul>' if rows else html.note("Nothing was done yet.")


def _line(row: dict, places: dict[str, str]) -> str:
    """Return a line of the log in words: when, which image, what, by whom, and how much."""
    time, action = str(row.get("time"))[5:16].replace("T", " "), str(row.get("action"))
    changed = (
        f"+{row['pixels_added']} −{row['pixels_removed']} px" if {"pixels_added", "pixels_removed"} <= set(row) else ""
    )
    seconds = f"{row['seconds']:.0f} s" if isinstance(row.get("seconds"), int | float) and row["seconds"] else ""
    named = str(row["image_class"] or "none") if "image_class" in row else ""
    event = f"{places.get(str(row.get('item')), '')} {ACTIONS.get(action, action)} {named}".strip()
    details = escape(", ".join(filter(None, (event, str(row.get("user") or ""), changed, seconds))))
    return f"<time>{escape(time)}</time> {details}"
