"""The list of a project's images beside the canvas: its markup, the rows that it is sent, and what was done.

No gradio here.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from markupsafe import Markup

from mpsams.annotation import log
from mpsams.annotation.project import Item, Project
from mpsams.annotation.thumbnails import Thumbnails
from mpsams.app.components.templates import pieces, render

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
EMPTY = {
    "open": "<strong>All done.</strong> Every image is accepted or skipped. Download them under “Export”, or add more.",
    "accepted": "Nothing is accepted yet. Open an image, correct its mask, and press “Accept &amp; next”.",
    "skipped": "Nothing was skipped.",
}


def markup() -> Markup:
    """Return the list without images.

    The text must hold no backslash, backtick, dollar or double brace: gradio's templates read those.
    """
    return render("annotate/images", states=STATES, orders=ORDERS, doubts=DOUBTS, empty=EMPTY)


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
        int(min(item.shape_xyz) > 1),
    ]


def bar(share: float, text: str, label: str) -> Markup:
    """Return a progress bar from 0 to 1 with words in it. label: its name for screen readers."""
    return pieces().going(share, text, label)


def done(project: Project) -> Markup:
    """Return the last lines of the log, the newest first."""
    rows = project.last_lines(LINES)[::-1]
    items = {item.id: (number, item.name) for number, item in enumerate(project.items(), start=1)}
    places = {id: items[id][1] or f"image {items[id][0]}" for row in rows if (id := row.get("item")) in items}
    return render("annotate/done", lines=[_line(row, places) for row in rows])


def _line(row: dict, places: dict[str, str]) -> tuple[str, str]:
    """Return a line of the log: when, and in words which image, what, by whom, and how much."""
    time, action = str(row.get("time"))[5:16].replace("T", " "), str(row.get("action"))
    changed = (
        f"+{row['pixels_added']} −{row['pixels_removed']} px" if {"pixels_added", "pixels_removed"} <= set(row) else ""
    )
    seconds = f"{row['seconds']:.0f} s" if isinstance(row.get("seconds"), int | float) and row["seconds"] else ""
    named = str(row["image_class"] or "none") if "image_class" in row else ""
    event = f"{places.get(str(row.get('item')), '')} {ACTIONS.get(action, action)} {named}".strip()
    return time, ", ".join(filter(None, (event, str(row.get("user") or ""), changed, seconds)))
