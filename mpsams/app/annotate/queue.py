"""The project beside the canvas as HTML: how far it is, which image to correct first, what was done. No gradio here."""

from __future__ import annotations

from html import escape

from mpsams.annotation.index import OPEN
from mpsams.annotation.project import Item, Project
from mpsams.app.components import html

SHOWN = 50  # rows
LINES = 20  # of the log
FILTERS = {"open": "Open", "accepted": "Accepted", "skipped": "Skipped", "all": "All"}
ACTIONS = {"proposed": "got a proposal", "recovered": "found changed", "missing": "lost its mask", "discarded": "lost its proposal"}  # others as the log says
CLICK = """
element.addEventListener('click', event => {
    const row = event.target.closest('[data-item]');
    if (row) trigger('pick', {item: row.dataset.item});
});
const find = () => requestAnimationFrame(() => {
    const row = element.querySelector('[aria-current]'), box = row && row.parentElement;
    if (row) box.scrollTop = row.offsetTop - box.offsetTop - (box.clientHeight - row.offsetHeight) / 2;
});
watch('value', find);
find();"""
STEPS = """<div class="first-steps"><h4>Three steps</h4><ol><li><b>Add images.</b> Choose files above: pictures, volumes or DICOM, many at once. They stay on this computer.</li>
<li><b>Let the network propose.</b> Each image gets a mask, and the ones in doubt come first.</li>
<li><b>Correct and accept.</b> Mend what is wrong, press <kbd>Enter</kbd>, and the next one is there.</li></ol></div>"""
EMPTY = {
    "open": "<strong>All done.</strong> Every image is accepted or skipped. Download them under “Export”, or add more.",
    "accepted": "Nothing is accepted yet. Open an image, mend its mask, and press “Accept &amp; next”.", "skipped": "Nothing was skipped.",
}  # fmt: skip


def progress(project: Project) -> str:
    """How many images are accepted, in words and as a bar."""
    counts = project.counts()
    total, done = sum(counts.values()), counts["accepted"]
    if not total:
        return ""
    more = ", ".join(f"{count} {status}" for status, count in counts.items() if count and status != "accepted")
    return f'{bar(done / total, f"{done} of {total} accepted", "Images accepted")}<p class="small">{more}</p>'


def bar(share: float, says: str, what: str) -> str:
    """How far something is, from 0 to 1, with words in it. what: is on its way, for those who do not see it."""
    return (
        f'<div class="going" role="progressbar" aria-label="{what}" aria-valuenow="{100 * share:.0f}"><i style="width:{100 * share:.1f}%"></i>'
        f"<span>{escape(says)}</span></div>"
    )


def listed(project: Project, current: str, which: str = "open") -> str:
    """The images of a filter as buttons, the most urgent first; current: the id of the one on screen. ValueError for an unknown filter."""
    if which not in FILTERS:
        raise ValueError(f"filter {which!r}; allowed are {', '.join(FILTERS)}")
    places = {item.id: number for number, item in enumerate(project.items(), start=1)}
    items = project.queue() if which == "open" else project.items(None if which == "all" else which)
    top = max((item.priority or 0 for item in items), default=0)
    rows = "".join(_row(project, item, places[item.id], current, top) for item in items[:SHOWN])
    rest = f'<p class="small">and {len(items) - SHOWN} more</p>' if len(items) > SHOWN else ""
    if not places:
        return STEPS
    return f'<div class="queue">{rows}</div>{rest}' if items else html.note(EMPTY[which])


def _row(project: Project, item: Item, number: int, current: str, top: float) -> str:
    name = escape(project.name(item.id) or f"Image {number}")
    share = 100 * (item.priority or 0) / top if top and item.status in OPEN else 0
    says = "" if item.priority is None else f"In doubt: {share:.0f} of 100, next to the image most in doubt"
    here = ' aria-current="true"' if item.id == current else ""
    return (
        f'<button type="button" data-item="{item.id}"{here} title="{says}"><b>{number}</b><span>{name}</span>'
        f'<em class="chip" data-status="{item.status}">{item.status}</em><s><i style="width:{share:.0f}%"></i></s></button>'
    )


def done(project: Project) -> str:
    """The last lines of the log, the newest first."""
    rows = project.last_lines(LINES)[::-1]
    numbers = {item.id: number for number, item in enumerate(project.items(), start=1)}
    places = {id: project.name(id) or f"image {numbers[id]}" for row in rows if (id := row.get("item")) in numbers}
    lines = "".join(f"<li>{_line(row, places)}</li>" for row in rows)
    return f'<ul class="done">{lines}</ul>' if rows else html.note("Nothing was done yet.")


def _line(row: dict, places: dict[str, str]) -> str:
    """A line of the log in words: when, which image, what, by whom, and how much."""
    time, action = str(row.get("time"))[5:16].replace("T", " "), row.get("action")
    changed = f"+{row['pixels_added']} −{row['pixels_removed']} px" if {"pixels_added", "pixels_removed"} <= set(row) else ""
    seconds = f"{row['seconds']:.0f} s" if isinstance(row.get("seconds"), int | float) and row["seconds"] else ""
    what = f"{places.get(row.get('item'), '')} {ACTIONS.get(action, action)}".strip()
    said = escape(", ".join(filter(None, (what, str(row.get("user") or ""), changed, seconds))))
    return f"<time>{escape(time)}</time> {said}"
