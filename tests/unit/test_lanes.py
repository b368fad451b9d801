"""The order of requests: fair between visitors, quick ones first, one visitor's in turn; and who is refused."""

from __future__ import annotations

import pytest

from mpsams.app.server import lanes
from mpsams.app.server.lanes import LONG, NETWORK, PICTURE, SAVE, Ticket, Turns


def begin_all(turns: Turns, waiting: list[Ticket]) -> list[Ticket]:
    """Begin with as many requests as there is room for; they no longer wait."""
    begun = []
    while (ticket := turns.next(waiting)) is not None:
        waiting.remove(ticket)
        turns.begin(ticket)
        begun.append(ticket)
    return begun


def test_one_visitor_is_answered_in_turn_and_others_beside():
    turns, waiting = Turns(cores=2), [Ticket("a", PICTURE), Ticket("a", PICTURE), Ticket("b", PICTURE)]
    first, second, other = waiting
    assert begin_all(turns, waiting) == [first, other] and waiting == [second]
    turns.end(first, waiting)
    assert begin_all(turns, waiting) == [second]


def test_who_asks_for_everything_gets_no_more_than_every_second_turn_beside_one_other():
    turns, order = Turns(cores=1), []
    waiting = (
        [Ticket("greedy", NETWORK) for _ in range(20)]
        + [Ticket("greedy", LONG) for _ in range(20)]
        + [Ticket("other", NETWORK) for _ in range(4)]
    )
    while any(ticket.visitor == "other" for ticket in waiting):
        begun = begin_all(turns, waiting)
        order += [ticket.visitor for ticket in begun if ticket.lane == NETWORK]
        for ticket in begun:
            turns.end(ticket, waiting)
    assert order.count("other") == 4 and order.count("greedy") <= 4


def test_each_lane_has_room_that_others_cannot_take():
    turns = Turns(cores=2)
    waiting = [Ticket(f"{lane} {number}", lane) for lane in (LONG, NETWORK, PICTURE, SAVE) for number in range(9)]
    assert [ticket.lane for ticket in begin_all(turns, waiting[:9])] == [LONG]
    assert [ticket.lane for ticket in begin_all(turns, waiting[9:])] == [SAVE] * lanes.SAVES_AT_ONCE + [PICTURE] * 2 + [
        NETWORK
    ] * 2
    turns.end(next(ticket for ticket in turns.running if ticket.lane == NETWORK))
    assert [
        ticket.lane for ticket in begin_all(turns, [Ticket(f"{lane} again", lane) for lane in (LONG, PICTURE, NETWORK)])
    ] == [NETWORK]


def test_what_networks_have_answered_before_does_not_wait_for_them():
    there = {"old"}
    turns = Turns(cores=1, is_known=there.__contains__)
    asks, waits, drawn, none = (
        Ticket(str(number), NETWORK, keys=keys) for number, keys in enumerate([("new",), None, ("old",), ()])
    )
    assert begin_all(turns, [asks, waits, drawn]) == [drawn, asks]  # the first has the room of pictures
    assert turns.usage([waits])[PICTURE]["running"] == turns.usage([waits])[NETWORK]["running"] == 1
    turns.end(drawn)
    assert begin_all(turns, [none]) == [none]
    there.add("new")
    turns.end(asks)
    assert turns.usage([])[NETWORK] == {"running": 0, "waiting": 0, "done": 1, "refused": 0}


def test_requests_for_one_result_take_one_room_until_it_is_there():
    there: set = set()
    turns = Turns(cores=2, is_known=there.__contains__)
    first, same, other = (
        Ticket(str(number), NETWORK, keys=keys) for number, keys in enumerate([("a", "b"), ("b",), ("c",)])
    )
    assert begin_all(turns, waiting := [first, same, other]) == [first, other] and waiting == [same]
    there |= {"a", "b"}
    assert turns.lane_now(same) == PICTURE and begin_all(turns, waiting) == [same]


def test_one_visitors_requests_stay_in_order_whether_networks_are_asked_or_not():
    turns = Turns(cores=2, is_known={"old"}.__contains__)
    asks, drawn = Ticket("a", NETWORK, keys=("new",)), Ticket("a", NETWORK, keys=("old",))
    assert begin_all(turns, waiting := [asks, drawn]) == [asks] and waiting == [drawn]
    turns.end(asks)
    assert begin_all(turns, waiting) == [drawn]


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
def test_no_lane_is_ever_shut(cores):
    turns = Turns(cores)
    for lane in (LONG, NETWORK, PICTURE, SAVE):
        assert begin_all(turns, [Ticket(f"{lane} {number}", lane) for number in range(100)])


def test_one_visitors_requests_fill_no_common_queue_and_a_save_is_let_in():
    turns, waiting, greedy = Turns(), [], Ticket("greedy", NETWORK)
    while not turns.refusal(greedy, waiting):
        waiting.append(Ticket("greedy", NETWORK))
    assert len(waiting) == lanes.MAX_OWN and "You have 32 requests" in turns.refusal(greedy, waiting)
    assert not turns.refusal(Ticket("greedy", SAVE), waiting) and not turns.refusal(Ticket("other", NETWORK), waiting)
    waiting += [Ticket(f"visitor {number}", PICTURE) for number in range(lanes.MAX_WAITING)]
    assert turns.refusal(Ticket("visitor 0", PICTURE), waiting) == lanes.BUSY.format(len(waiting))
    assert not turns.refusal(Ticket("new", PICTURE), waiting)  # who has none waiting is let in
    assert not turns.refusal(Ticket("visitor 0", SAVE), waiting) and not turns.refusal(
        Ticket("visitor 0", NETWORK, admission=SAVE), waiting
    )


def test_programs_of_one_address_share_two_places():
    turns = Turns(cores=8)
    begun = begin_all(turns, [Ticket("program 10.0.0.1", PICTURE) for _ in range(9)])
    assert len(begun) == 2


def test_the_round_forgets_visitors_who_left():
    turns = Turns(cores=2)
    for number in range(1000):
        ticket = Ticket(f"visitor {number}", PICTURE)
        turns.begin(ticket)
        turns.end(ticket)
    assert (
        not turns.running
        and not turns._served
        and turns.usage([])[PICTURE] == {"running": 0, "waiting": 0, "done": 1000, "refused": 0}
    )


def test_files_that_take_much_disk_are_long():
    assert lanes.lane_of_file(PICTURE, lanes.LARGE + 1) == LONG and lanes.lane_of_file(PICTURE, lanes.LARGE) == PICTURE
    assert lanes.lane_of_file(NETWORK, 1) == LONG and lanes.lane_of_file(NETWORK, 0) == NETWORK
    with pytest.raises(ValueError, match="allowed are save, picture, network, long"):
        Ticket("a", "other")
