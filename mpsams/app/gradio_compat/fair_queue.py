"""gradio's queue of events, in which visitors take turns (``mpsams.app.server.lanes``)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress

import gradio as gr
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue

from mpsams.app.server.guard import CLIENT
from mpsams.app.server.lanes import NETWORK, PICTURE, PROGRAM, Ticket, Turns, lane_of_file
from mpsams.imaging import cost
from mpsams.inference import shared

Lane = str | Callable[[object], str]  # of a listener; a function is given what the page sent with the event
Keys = tuple[Hashable, ...] | None  # of shared results; None where they are not known


class FairQueue(Queue):
    """A queue whose next event is the one that ``Turns`` says, whatever listener it is for."""

    def __init__(
        self,
        page: gr.Blocks,
        lanes: Mapping[int, tuple[str, Lane]],
        files_of: Callable[[object], list],
        keys_of: Callable[[PredictBodyInternal], Keys],
    ) -> None:
        """page: whose events wait.

        lanes: by the numbers of listeners, the lane by which they are let in ("" for their own) and their own; PICTURE
        for the others. files_of: the uploaded files that a request's data names.
        keys_of: the shared results that a request needs from networks.
        """
        super().__init__(True, page.max_threads, 1, None, page, None)
        self.turns, self.lanes, self.files_of, self.keys_of = Turns(is_known=shared.is_known), lanes, files_of, keys_of
        self._tickets: dict[str, Ticket] = {}  # of the events that wait or are worked on, by id
        self._costs: dict[str, tuple[int, int]] = {}
        self._overtime: dict[str, asyncio.Future] = {}
        self._may_begin = True
        self.ANALYTICS_MAX_EVENTS = 1

    def waiting(self) -> list[Ticket]:
        """Return the requests that wait."""
        return [
            self._tickets[event._id] for queue in self.event_queue_per_concurrency_id.values() for event in queue.queue
        ]

    def usage(self) -> dict[str, dict[str, int]]:
        """Return how many requests of each lane are worked on, wait, were done and were refused, as ``Turns.usage``."""
        return self.turns.usage(self.waiting())

    def cost_of(self, event_id: str | None) -> tuple[int, int] | None:
        """Return the bytes of memory and disk that the files of an event take; None where that is not known."""
        return self._costs.get(event_id or "")

    def hold_place(self, event_id: str | None, work: asyncio.Future) -> None:
        """Let an event that was given up hold its place until its work ends, for a thread cannot be stopped."""
        self._overtime[event_id or ""] = work

    async def push(self, body, request, username):
        admission, lane = self.lanes.get(body.fn_index, ("", PICTURE))
        lane = lane if isinstance(lane, str) else lane(body.event_data)
        found = None
        with suppress(Exception):  # whatever is wrong with them is said when the event is worked on
            files = self.files_of(body.data)
            found = await asyncio.to_thread(cost.estimate, files) if files else None
        lane = lane_of_file(lane, found[1]) if found else lane
        keys = await asyncio.to_thread(self.keys_of, body) if lane == NETWORK else None
        ticket = Ticket(body.session_hash or f"{PROGRAM}{username or CLIENT.get()}", lane, admission, keys)
        if refusal := self.turns.refusal(ticket, self.waiting()):
            return False, refusal, "queue_full"
        pushed, event_id, state = await super().push(body, request, username)
        if pushed:
            self._tickets[event_id], self._may_begin = ticket, True
            if found:
                self._costs[event_id] = found
        return pushed, event_id, state

    def get_events(self):
        if not self._may_begin:
            return None
        queues = [queue for queue in self.event_queue_per_concurrency_id.values() if queue.queue and _has_room(queue)]
        events = {self._tickets[event._id]: (event, queue) for queue in queues for event in queue.queue}
        ticket = self.turns.next(sorted(events, key=lambda ticket: events[ticket][0].enqueue_time))
        if ticket is None:
            self._may_begin = False
            return None
        event, queue = events[ticket]
        queue.queue.remove(event)
        self.turns.begin(ticket)
        return [event], False, event.concurrency_id

    async def process_events(self, events, batch, begin_time, fn) -> None:
        try:
            await super().process_events(events, batch, begin_time, fn)
        finally:
            for event in events:
                work = self._overtime.pop(event._id, None)
                if work is None or work.done():
                    self._end(event)
                else:
                    work.add_done_callback(functools.partial(self._on_work_done, event))
            self._may_begin = True

    def _on_work_done(self, event: Event, work: asyncio.Future) -> None:
        self._end(event)

    def _end(self, event: Event) -> None:
        self.turns.end(self._tickets.pop(event._id), self.waiting())
        self._costs.pop(event._id, None)
        self._may_begin = True

    async def remove_from_queue(self, event_id: str) -> None:
        await super().remove_from_queue(event_id)
        self._forget_removed()

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        self._forget_removed()

    def _forget_removed(self) -> None:
        """Forget the events that were taken out of the queue before they were worked on."""
        for event_id in set(self._tickets) - set(self.event_ids_to_events):
            if self._tickets[event_id] not in self.turns.running:
                self._tickets.pop(event_id)
                self._costs.pop(event_id, None)

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Send nothing: gradio would send each waiting request its place whenever one comes or begins, which is not its
        place here and takes more time of the event loop the more requests wait.
        """

    def compute_analytics_summary(self, records):
        """Compute nothing: gradio would tabulate the last 10,000 events after each, for a page that is switched off."""
        return self.cached_event_analytics_summary


def _has_room(queue) -> bool:
    """Return True if a listener with a limit of its own may be called once more."""
    return queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit
