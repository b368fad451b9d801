"""The query of the page's address: the tab in front, the image on screen and the tab's settings.

Written by static/page.js, read here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

import gradio as gr
from markupsafe import Markup

from mpsams.app.components import html
from mpsams.app.events import event_values, on_event
from mpsams.app.learn.state import MAX_LENGTH, OLD_KEYS, SLICE_KEYS, SliceLink
from mpsams.app.session import Session
from mpsams.inference.case import Case

OPENED = "query => window.address?.opened(query)"
FIRST_TAB = "learn"  # of links that name no tab, which are those of earlier versions


class Address:
    """Opens what a query names, when the page is opened and when the browser goes back or forward."""

    def __init__(self, session: Session, tab_names: Sequence[str]) -> None:
        self.session, self.tab_names = session, tuple(tab_names)
        self.accepted = gr.Textbox("", visible=False, label="query that was opened")

    def register(self, header: gr.HTML) -> None:
        """Connect the listeners; all tabs must be built. header: sends ``visit`` with the query to go back to."""
        session = self.session
        outputs = {*session.sidebar.all_outputs, session.tabs, session.open_tab, self.accepted}
        outputs |= {session.epoch} | {
            component for one in session.settings.values() for component in one.components.values()
        }
        opened = session.on_open(self.visit_first, [], outputs)
        visited = on_event(header.visit, self.visit, [session.case], outputs, may_lose=[session.case])
        for listener in (opened, visited):
            listener.then(fn=None, inputs=[self.accepted], js=OPENED)

    def visit_first(self, request: gr.Request) -> dict:
        """Return updates for the query that the page is opened with."""
        return self.open(dict(request.query_params))

    def visit(self, case: Case | None, event: gr.EventData) -> dict:
        """Return updates for a query that the page sends."""
        query = str(event_values(event).get("query", ""))
        return self.open(dict(parse_qsl(query.lstrip("?"), keep_blank_values=True)), case)

    def open(self, query: Mapping[str, str], current: Case | None = None) -> dict:
        """Return updates that show what a query names; a message, and the page unchanged, where it cannot be opened.

        current: the case on screen; None when the page is opened.
        """
        known = {"tab", *SLICE_KEYS, *(key for one in self.session.settings.values() for key in one.components)}
        values = {OLD_KEYS.get(name, name): str(value)[:MAX_LENGTH] for name, value in query.items()}
        values = {name: value for name, value in values.items() if name in known}
        if not values:
            return {self.accepted: ""}
        try:
            return self._updates(values, current) | {self.accepted: urlencode(values)}
        except ValueError as error:
            return {
                self.session.sidebar.notice: html.toast(
                    Markup("<strong>This link cannot be opened.</strong> {}.").format(error)
                ),
                self.accepted: "",
            }

    def _updates(self, values: Mapping[str, str], current: Case | None) -> dict:
        session, tab = self.session, values.get("tab", FIRST_TAB)
        if tab not in self.tab_names:
            raise ValueError(f"tab {tab!r}; allowed are {', '.join(self.tab_names)}")
        link = SliceLink(**{name: values[name] for name in SLICE_KEYS if name in values})
        case = current or session.first
        shown: dict = {session.version: str(time.monotonic_ns())}
        if link != SliceLink() and (current is None or link != session.sidebar.link_to(current)):
            shown = session.sidebar.open_link(link)
            case = shown[session.case]
        settings = session.settings.get(tab)
        return shown | session.in_front(tab) | (settings.read(values, case) if settings else {})
