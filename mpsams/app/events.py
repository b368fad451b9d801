"""Listeners and named endpoints of the page, and errors in a sentence for the user."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence

import gradio as gr

from mpsams.app import gradio_compat
from mpsams.app.gradio_compat import blocks
from mpsams.app.gradio_compat.fair_queue import Keys, Lane
from mpsams.app.server.lanes import PICTURE, SAVE


def user_error(sentence: object) -> gr.Error:
    """Return an error that shows a sentence to the user, or the caller of an endpoint, instead of a traceback."""
    return gr.Error(str(sentence), title="Not possible", print_exception=False)


def unless_error(check: Callable[[], object], fn: Callable, otherwise: object) -> Callable:
    """Return a listener that calls ``fn``, but returns ``otherwise`` where ``check`` raises an error for the user."""

    @functools.wraps(fn)
    def call(*values):
        try:
            check()
        except gr.Error:
            return otherwise
        return fn(*values)

    return call


def event_values(event: gr.EventData) -> dict:
    """Return the values that the page sent with an event. An error for the user where there are none."""
    values = gradio_compat.event_data(event)
    if not isinstance(values, dict):
        raise user_error("the page sent an event without values")
    return values


def on_event(
    listen: Callable,
    fn: Callable | None,
    inputs: Collection,
    outputs,
    may_lose: Sequence[gr.State] = (),
    lane: Lane = PICTURE,
    saves: bool = False,
    needs: Callable[..., Keys] | None = None,
    **options,
) -> gr.events.Dependency:
    """Attach a listener of the page itself: without a spinner, the last of many events wins, not in the API.

    The events of one visitor in one lane are answered one at a time in their order, so that the last result stays.
    may_lose: held inputs that are passed as None where the page's budget released them; the others raise an error then.
    lane: in which its events wait (``server.lanes``), or a function that says it of what the page sent. saves: True if
    they are let in as saves.
    needs: called with the inputs, as the page sent them, of an event that asks networks; returns the keys of the shared
    results that it needs, so that it does not wait for networks where they are all there; None where they are not
    known.
    """
    defaults: dict = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    if "show_progress" not in options:
        # else gradio's page tells each output the state of each event, shown or not, which takes longer than the answer
        defaults["show_progress_on"] = []
    listener = listen(fn=fn, inputs=inputs, outputs=outputs, **(defaults | options))
    page = gradio_compat.root_blocks()
    if fn is not None and isinstance(page, blocks.GuardedBlocks):
        page.exchange_token(page.fns[listener["id"]], may_lose)
        page.lanes[listener["id"]] = SAVE if saves else "", lane
        if needs is not None:
            page.needs[listener["id"]] = needs
        listener.update(page.fns[listener["id"]].get_config())
    return listener


def endpoint(name: str, fn: Callable, inputs: Sequence, outputs, lane: str = PICTURE) -> None:
    """Register a named endpoint without anything on the page; its caller gets the sentence of an error or a ValueError.

    lane: as ``on_event``.
    """

    @functools.wraps(fn)
    def answer(*values):
        try:
            return fn(*values)
        except ValueError as error:
            raise user_error(error) from None

    listener = gr.Button(visible=False).click(answer, inputs, outputs, api_name=name, show_progress="hidden")
    page = gradio_compat.root_blocks()
    if isinstance(page, blocks.GuardedBlocks):
        page.lanes[listener["id"]] = "", lane
