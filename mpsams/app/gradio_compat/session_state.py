"""State of each browser tab without gradio's copy of the whole page's configuration, which takes 20 ms and 300 KB a
tab.
"""

from __future__ import annotations

import datetime
from copy import copy
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

SESSIONS = 5000  # tabs whose small states are kept; of more, those not used for longest begin anew


class LeanState(SessionState):
    """The states and the changed components of a tab. gradio's copy of all settings serves its links to a page as it
    is, which we do not have.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, tuple[float | None, datetime.datetime]] = {}
        self.is_closed, self.STATE_TTL_WHEN_CLOSED = False, 3600

    def __setitem__(self, key: int, value: object) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            self._state_ttl[key] = block.time_to_live, datetime.datetime.now()
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Update nothing, since no configuration is kept."""

    def _update_value_in_config(self, key: int, value: object) -> None:
        """Update nothing, since no configuration is kept."""


class LeanStates(StateHolder):
    """The tabs, by their session's hash."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LeanState(self.blocks)
        return super().__getitem__(session_id)


def use_lean_state(app: FastAPI, blocks: gr.Blocks) -> None:
    """Let the page that is mounted on an app keep no more of each tab than it needs."""
    for route in app.routes:
        app_of_page = getattr(route, "app", None)
        if isinstance(app_of_page, App):
            app_of_page.state_holder = LeanStates()
            app_of_page.state_holder.set_blocks(blocks)
