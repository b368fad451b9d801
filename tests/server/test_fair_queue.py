"""The page's queue: visitors take turns, saves are let in whatever waits, and what was given up holds its place until
it ends.
"""

from __future__ import annotations

import asyncio
import json
import threading

import gradio as gr
import pytest
from gradio.queueing import Queue

from benchmarks import clients
from mpsams.app.events import on_event
from mpsams.app.gradio_compat import blocks
from mpsams.app.gradio_compat.blocks import GuardedBlocks
from mpsams.app.server import lanes
from mpsams.app.server.lanes import LONG, NETWORK, PICTURE, SAVE
from mpsams.app.tabs.annotate import lane_of
from mpsams.inference import shared
from tests.support.server import running


@pytest.fixture
def queue():
    with GuardedBlocks() as page:
        for lane in (PICTURE, NETWORK):
            listener = gr.Button(lane).click(lambda: None, [], [])
            page.lanes[listener["id"]] = "", lane
        listener = gr.Button("canvas").click(lambda: None, [], [])
        page.lanes[listener["id"]] = SAVE, lane_of
    return page.queue()._queue


def push(queue, fn: int, visitor: str | None, event_data: object = None, data: list | None = None) -> tuple:
    body = gr.data_classes.PredictBodyInternal(
        data=data or [], fn_index=fn, session_hash=visitor, event_data=event_data
    )
    return asyncio.run(queue.push(body, None, None))


def test_visitors_take_turns_and_saves_go_first(queue):
    queue.turns = lanes.Turns(cores=1)
    for _ in range(3):
        assert push(queue, 1, "greedy")[0]
    assert push(queue, 1, "other")[0] and push(queue, 0, "other")[0] and push(queue, 2, "third", {"action": "save"})[0]
    begun = []
    while queue.waiting():
        if (found := queue.get_events()) is None:
            ticket = next(iter(queue.turns.running))
            queue.turns.end(ticket, queue.waiting())
            queue._may_begin = True
            continue
        (event,), _, _ = found
        begun.append((event.session_hash, event.fn._id))
    assert begun[:3] == [("third", 2), ("other", 0), ("greedy", 1)] and begun[3] == ("other", 1)


def test_one_visitor_fills_no_queue_for_others_and_no_save_is_refused(queue):
    results = [push(queue, 1, "greedy") for _ in range(40)]
    assert [one[0] for one in results] == [True] * lanes.MAX_OWN + [False] * 8 and results[-1][1:] == (
        lanes.OWN.format(lanes.MAX_OWN),
        "queue_full",
    )
    assert push(queue, 2, "greedy", {"action": "propagate_all"})[0] and push(queue, 1, "other")[0]
    assert queue.usage()[NETWORK] == {"running": 0, "waiting": lanes.MAX_OWN + 2, "done": 0, "refused": 8}


def test_commands_that_ask_a_network_leave_the_room_of_saves(queue):
    assert lane_of({"action": "save"}) == lane_of({"action": "accept"}) == SAVE
    assert lane_of({"action": "propagate_all"}) == lane_of({"action": "go"}) == lane_of(None) == lane_of([1]) == NETWORK


def test_a_listener_says_what_it_needs_from_networks(monkeypatch):
    monkeypatch.setattr(shared, "results", shared.Store())
    with GuardedBlocks() as page:
        held, number, button = gr.State("image"), gr.Number(), gr.Button()
        page.hold([held])
        for needs in (lambda image, value: ((image, value),), lambda image, value: 1 / 0, None):
            on_event(
                button.click,
                lambda image, value: (image, value),
                [held, number],
                [held, number],
                lane=NETWORK,
                needs=needs,
            )
    queue = page.queue()._queue
    numbers = [fn for fn in page.fns if fn in page.lanes]
    for fn in numbers:
        assert push(queue, fn, f"visitor {fn}", data=[None, 5, ""])[0]
    tickets = {ticket.visitor: ticket for ticket in queue.waiting()}
    keys = [tickets[f"visitor {fn}"].keys for fn in numbers]
    assert keys == [(("image", 5),), None, None]
    page.budget.put("visitor with another image", held._id, "other")
    assert push(queue, numbers[0], "visitor with another image", data=[None, 6])[0]  # from a page that sends no token
    first, last = tickets[f"visitor {numbers[0]}"], queue.waiting()[1]
    assert last.keys == (("other", 6),) and queue.turns.lane_now(last) == NETWORK
    shared.results.get(("image", 5), lambda: "result")
    assert queue.turns.lane_now(first) == PICTURE


def test_events_that_are_taken_back_are_forgotten(queue):
    pushed = [push(queue, 0, "a")[1], push(queue, 0, "b")[1]]
    asyncio.run(queue.remove_from_queue(pushed[0]))
    asyncio.run(queue.clean_events(session_hash="b"))
    assert not queue.waiting() and not queue._tickets and queue.get_events() is None


def test_what_is_given_up_holds_its_place_until_it_ends(queue, monkeypatch):
    async def check() -> None:
        work = asyncio.get_running_loop().create_future()

        async def give_up(self, events, *_) -> None:
            self.hold_place(events[0]._id, work)
            self.event_ids_to_events.pop(events[0]._id)

        monkeypatch.setattr(Queue, "process_events", give_up)
        body = gr.data_classes.PredictBodyInternal(data=[], fn_index=0, session_hash="a")
        await queue.push(body, None, None)
        events, batch, _ = queue.get_events()
        await queue.process_events(events, batch, 0.0, events[0].fn)
        await queue.clean_events(session_hash="a")
        assert queue.usage()[PICTURE]["running"] == 1
        work.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert queue.usage()[PICTURE]["running"] == 0 and not queue._tickets

    asyncio.run(check())


def test_files_decide_the_lane_and_what_is_wrong_with_them_is_reported_later(queue, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.nii").write_bytes(b"n+1")
    monkeypatch.setattr("mpsams.imaging.cost.estimate", lambda files: (5, lanes.LARGE + 1))
    file = {"path": str(tmp_path / "a" / "x.nii"), "meta": {"_type": "gradio.FileData"}}
    _, event_id, _ = push(queue, 0, "a", data=[file])
    assert (
        queue.usage()[LONG]["waiting"] == 1
        and queue.cost_of(event_id) == (5, lanes.LARGE + 1)
        and queue.cost_of("other") is None
    )
    monkeypatch.setattr("mpsams.imaging.cost.estimate", lambda files: 1 / 0)
    assert (
        push(queue, 0, "b", data=[file])[0]
        and push(queue, 0, "c", data=[{"path": "\0"}])[0]
        and queue.usage()[PICTURE]["waiting"] == 2
    )


def test_a_request_that_takes_too_long_is_given_up_with_a_sentence(monkeypatch):
    end, held = threading.Event(), []
    monkeypatch.setattr(blocks, "uploaded_files", lambda inputs: ["file"])
    monkeypatch.setattr(blocks.cost, "estimate", lambda files: (0, 0))
    with GuardedBlocks() as page:
        gr.Button().click(lambda: end.wait(30), [], [])
    page.queue()
    page.longest = 0.01
    page._queue.hold_place = lambda event_id, work: held.append((event_id, work.done()))

    async def ask() -> None:
        with pytest.raises(gr.Error, match="given up"):
            await page.process_api(page.fns[0], [], session_hash="a", event_id="b")
        end.set()

    asyncio.run(ask())
    assert held == [("b", False)]


@pytest.mark.filterwarnings("ignore")
def test_a_visitor_who_asks_for_everything_lets_others_through(small_weights, tmp_path):
    with running(tmp_path, "--weights", str(small_weights)) as (address, _, _):
        page = clients.Page(address)
        greedy, other = (clients.Visitor(address, page, number) for number in (1, 2))
        file = greedy.upload()
        data = [file, *(about.get("parameter_default") for about in page.takes["mask"][1:])]
        answers = [
            greedy.http.post("/gradio_api/call/mask", json={"data": data, "session_hash": "greedy"}) for _ in range(60)
        ]
        assert {answer.status_code for answer in answers} <= {200, 503} and answers[0].status_code == 200
        refusals = [json.loads(answer.text)["detail"] for answer in answers if answer.status_code == 503]
        assert all("You have 32 requests" in refusal for refusal in refusals)
        assert other.own("mask", other.call("mask", other.upload()))
