"""The readers of a project beside the canvas: who reads, how far two of them agree, and their consensus."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import gradio as gr

from mpsams.annotation import disk, readers
from mpsams.annotation.reader_views import CONSENSUS, ReaderView
from mpsams.annotation.readers import ReaderAgreement
from mpsams.app import gradio_compat
from mpsams.app.annotate import queue
from mpsams.app.annotate.retrain_panel import author
from mpsams.app.components import html
from mpsams.app.components.templates import read_scripts, render
from mpsams.app.events import event_values, on_event, user_error
from mpsams.app.server.lanes import LONG
from mpsams.app.session import Session

MOST_ROWS = 300  # of the table of agreement; the CSV file has all
OFTEN = 10  # after this many images of a consensus its bar is shown anew
METHOD_TITLES = {"majority": "majority", "staple": "STAPLE"}


class ReadersPanel:
    """The components, and what happens when they are touched."""

    def __init__(self, session: Session, user: gr.Textbox, ready: gr.DownloadButton) -> None:
        self.session, self.user, self.ready = session, user, ready
        self.readers = _component("readers", "annotate-readers")
        self.agreement = _component("agreement", "annotate-agreement")

    def listen(self) -> None:
        """Connect the events, except those that put an image on screen."""
        opened = self.session.on_open(self.show, [], [self.readers, self.agreement])
        on_event(opened.success, self.add_images, [self.user], [self.agreement], lane=LONG)
        on_event(self.readers.join, self._join, [self.user], [self.readers], lane=LONG)
        on_event(self.readers.compare, self._compare, [self.user], [self.readers], lane=LONG)
        on_event(self.agreement.measure, self._measure, [], [self.agreement], lane=LONG)
        sent = on_event(self.agreement.csv, self._csv, [], [self.ready], lane=LONG)
        sent.success(None, js="() => setTimeout(() => document.querySelector('#annotate-file').click(), 200)")

    def show(self) -> dict:
        """Update the panel when the page is opened; the agreement follows."""
        view = self.session.require_view()
        return {
            self.readers: self._show(),
            self.agreement: html.note("Comparing the masks…") if view.is_consensus else "",
        }

    def add_images(self, user: str) -> dict:
        """Add the images that a reader's project lacks; then compare the readers on the page of their consensus."""
        view = self.session.require_view()
        notes: list[str] = []
        if view.name:
            self._add_images(view.name, user, notes)
        if view.is_consensus:
            return {self.agreement: self._show_agreement(view, notes=notes)}
        return {self.agreement: html.notes(notes)} if notes else {}

    def make(self, event: gr.EventData) -> Iterator[str]:
        """Make the consensus of all images; yields a bar, then a sentence."""
        method, view, done = str(event_values(event).get("method")), self.session.require_view(), 0
        notes: list[str] = []
        try:
            for done, count in self.session.require_views().make_consensus(method, notes=notes):
                if done % OFTEN == 0:
                    yield queue.bar(done / count, f"Consensus: {done} of {count}. You can go on working.", "Consensus")
        except (ValueError, OSError) as error:
            raise user_error(disk.as_sentence(error)) from None
        made = sum(item.reader == readers.AUTHOR.format(method) for item in view.project.items())
        yield html.note(
            f"{made} image{'s' * (made != 1)} of {done} {'have' if made != 1 else 'has'} a consensus by"
            f" {METHOD_TITLES[method]} now. Look at each, or accept them from the list."
        ) + html.notes([*view.notes, *notes])

    def _join(self, user: str, event: gr.EventData) -> str:
        values = event_values(event)
        try:
            name, is_blind = str(values.get("name", "")), values.get("blind") is not False
            view = self.session.require_views().join(name, is_blind, author(user))
        except (ValueError, OSError) as error:
            raise user_error(disk.as_sentence(error)) from None
        return self._show(view.name)

    def _compare(self, user: str) -> str:
        self._add_images(CONSENSUS, user)
        return self._show(CONSENSUS)

    def _add_images(self, name: str, user: str, notes: list[str] | None = None) -> None:
        try:
            self.session.require_views().update(name, author(user), notes)
        except (ValueError, OSError) as error:
            raise user_error(disk.as_sentence(error)) from None

    def _measure(self, event: gr.EventData) -> str:
        return self._show_agreement(self._require_consensus(), event_values(event).get("pair", 0))

    def _csv(self, event: gr.EventData) -> str:
        one, other = _choose_pair(_pairs(self._require_consensus()), event_values(event).get("pair", 0))
        try:
            data = self.session.require_views().measure(one[1], other[1]).csv()
        except ValueError as error:
            raise user_error(error) from None
        return gradio_compat.save_to_cache(data, f"agreement {one[0]} and {other[0]}.csv", self.ready)

    def _require_consensus(self) -> ReaderView:
        """Return the view of all readers. An error on the page of one of them, who may be blind."""
        view = self.session.require_view()
        if not view.is_consensus:
            raise user_error("readers are compared on the page of their consensus")
        return view

    def _show(self, go: str | None = None) -> str:
        """Return the readers as HTML. go: the reader whose page is opened next."""
        view, views = self.session.require_view(), self.session.require_views()
        others, notes = ([], view.notes) if view.name else views.open_all()
        found = [(one.project.counts(), one) for one in others]
        names = [
            {"name": one.name, "is_blind": one.is_blind, "accepted": counts["accepted"], "images": sum(counts.values())}
            for counts, one in found
        ]
        return render("readers", view=view, names=names, notes=notes, go=go, read_only=views.project.read_only)

    def _show_agreement(self, view: ReaderView, pair: object = 0, notes: Sequence[str] = ()) -> str:
        """Return the agreement of two readers as HTML; the images on which they agree least become the first of the
        consensus' queue. notes: sentences to be shown with it.
        """
        pairs = _pairs(view)
        if not pairs:
            return html.note("Masks are compared as soon as there is a second reader.") + html.notes(notes)
        (_, first), (_, second) = chosen = _choose_pair(pairs, pair)
        found = self.session.require_views().measure(first, second)
        doubts = {str(row["id"]): round(1 - float(str(row["dsc"])), 4) for row in found.rows if row["unit"]}
        changed = {
            item.id: doubts[item.id]
            for item in view.project.items()
            if item.id in doubts and item.priority != doubts[item.id]
        }
        if changed and not view.project.read_only:
            view.project.set_priorities(changed)
        rows = [_row(row) for row in found.rows[:MOST_ROWS]]
        return render(
            "agreement",
            found=found,
            notes=dict.fromkeys([*notes, *found.notes]),
            overall=_overall(found),
            rows=rows,
            left=len(found.rows) - len(rows),
            pair=pairs.index(chosen),
            pairs=[(one[0], other[0]) for one, other in pairs],
            read_only=view.project.read_only,
        )


def _component(script: str, elem_id: str) -> gr.HTML:
    return gr.HTML("", js_on_load=read_scripts(script), elem_id=elem_id)


def _pairs(view: ReaderView) -> list:
    """Return each two readers, with name and project; the first reader with each other ones first."""
    return list(itertools.combinations(view.visible, 2))


def _choose_pair(pairs: list, number: object) -> tuple:
    """Return a pair by its number. An error for the user where there is none of that number."""
    if type(number) is not int or not 0 <= number < len(pairs):
        raise user_error(f"pair {str(number)[:20]!r} of readers; there are {len(pairs)}, counted from 0")
    return pairs[number]


def _overall(found: ReaderAgreement) -> dict[str, object]:
    """Return the table of the whole: the number of images, rows with mean and median, and a sentence on classes."""
    numbers = found.overall
    rows = [("DSC", _number(numbers["dsc"], 3), _number(numbers["dsc_median"], 3))]
    for unit in ("mm", "px"):
        if numbers[f"hd95_{unit}"] is not None:
            rows.append(
                (f"HD95 in {unit}", _number(numbers[f"hd95_{unit}"], 1), _number(numbers[f"hd95_{unit}_median"], 1))
            )
    for name, each in found.structures.items():
        rows.append((f"DSC {name}", _number(each["dsc"], 3), _number(each["dsc_median"], 3)))
        for unit in ("mm", "px"):
            if each[f"hd95_{unit}"] is not None:
                hd95 = _number(each[f"hd95_{unit}"], 1), _number(each[f"hd95_{unit}_median"], 1)
                rows.append((f"HD95 {name} in {unit}", *hd95))
    images, classified = int(numbers["images"] or 0), int(numbers["classified"] or 0)
    agreement = "No image has a class of both readers."
    if classified:
        kappa = (
            "not defined while both gave one class only" if numbers["kappa"] is None else _number(numbers["kappa"], 2)
        )
        agreement = (
            f"Same class in {round(classified * (numbers['same_class'] or 0))} of {classified}; Cohen’s kappa {kappa}."
        )
    return {"images": f"{images} image{'s' * (images != 1)}", "rows": rows, "classes": agreement}


def _row(row: dict[str, object]) -> dict[str, object]:
    """Return a row of the table as text."""
    one, other = str(row["class_1"]), str(row["class_2"])
    same = one.casefold() == other.casefold()
    has_masks, hd95 = bool(row["unit"]), row["hd95"]
    return {
        "id": row["id"],
        "name": row["name"],
        "dsc": f"{row['dsc']:.2f}" if has_masks else "–",
        "hd95": "–" if not has_masks else "not measured" if hd95 is None else f"{hd95:.1f} {row['unit']}",
        "same": "–" if not (one and other) else "same" if same else "differs",
        "kind": "differs" if one and other and not same else "",
        "title": f"{one or 'none'} and {other or 'none'}",
    }


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
