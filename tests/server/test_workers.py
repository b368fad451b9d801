"""The app in two processes: who is answered by which, one project for both, a process that ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from benchmarks import clients, hall_guest
from mpsams.annotation.project import Project
from mpsams.app import main
from mpsams.app.server import accounts, sign_in_limits, workers
from tests.support.server import PASSWORD, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not workers.POSSIBLE, reason="this system hands no connections to other processes")


@pytest.fixture(scope="module")
def two(tmp_path_factory, small_weights):
    """An app with two workers and a project: address, process, what it prints, its folder, two images."""
    folder = tmp_path_factory.mktemp("workers")
    with Project(folder / "project") as project:
        for number in range(2):
            (folder / f"{number}.png").write_bytes(clients.picture(number)[0])
            project.add(folder / f"{number}.png", "ultrasound")
        ids = [item.id for item in project.items()]
    options = ("--weights", str(small_weights), "--project", str(folder / "project"), "--workers", "2", "--metrics")
    with running(folder, *options, before=("env",), GRADIO_TEMP_DIR=str(folder / "gradio")) as (
        address,
        process,
        printed,
    ):
        yield address, process, printed, folder, ids
    assert process.returncode == -signal.SIGTERM
    assert not [left for place in folder.glob("gradio-*") for left in place.iterdir() if left.is_dir()]
    assert "Traceback" not in printed.read_text()


def asked(http: httpx.Client) -> int:
    """The number of the worker that a client is with."""
    return http.get("/healthz").raise_for_status().json()["worker"]


def test_new_browsers_take_turns_and_stay(two):
    address, *_ = two
    browsers = [httpx.Client(base_url=address) for _ in range(4)]
    for browser in browsers:
        assert browser.get("/").status_code == 200
    found = [{asked(browser) for _ in range(3)} for browser in browsers]
    assert sorted(map(tuple, found)) == [(0,), (0,), (1,), (1,)]
    assert len({asked(httpx.Client(base_url=address)) for _ in range(4)}) == 1  # a program, by its address
    states = [httpx.get(f"{address}/healthz", params={"worker": worker}).json() for worker in (0, 1)]
    assert [state["worker"] for state in states] == [0, 1]
    assert states[0]["budget"]["memory"]["limit"] == states[1]["budget"]["memory"]["limit"] > 0
    with httpx.Client(base_url=address) as watching:  # one connection after another, each to the right one
        found = [watching.get("/metrics", params={"worker": worker}).text for worker in (0, 1, 0)]
    assert all("mpsams_requests_done_total" in text for text in found)


def test_visitors_of_both_workers_use_all_tabs_and_one_project(two):
    address, _, _, folder, ids = two
    page, config = clients.Page(address), httpx.get(f"{address}/config").json()
    guests = [hall_guest.Guest(address, page, number, config, ids[number], same=False) for number in range(2)]
    for guest in guests:
        guest.begin()
    assert {asked(guest.http) for guest in guests} == {0, 1}
    digests = [{guest.act("mask") for guest in guests} for _ in range(2)]
    assert all(len(each) == 2 for each in digests)
    for guest in guests:
        for action in ("segment", "save", "save", "open", "save"):
            guest.act(action)  # raises where a drawing was not saved
    lines = (folder / "project" / "log.jsonl").read_text().splitlines()
    assert sum('"saved"' in line for line in lines) == 6
    # what one saved the other opens
    guests[0].item = ids[1]
    guests[0].act("open")
    guests[0].act("save")
    assert len((folder / "project" / "log.jsonl").read_text().splitlines()) > len(lines)


def test_a_worker_that_is_killed_is_started_again_and_the_other_answers_on(two):
    address, process, printed, *_ = two
    browsers = {}
    while len(browsers) < 2:
        browser = httpx.Client(base_url=address)
        browser.get("/")
        browsers[asked(browser)] = browser
    _, *children = clients.processes(process.pid)
    # the other is the one in which multiprocessing keeps its books
    works = [child for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(works) == 2
    os.kill(works[0], signal.SIGKILL)
    wait_until(lambda: "is started again" in printed.read_text(), 120)
    gone = int(printed.read_text().rpartition("worker ")[2].split()[0])
    assert asked(browsers[1 - gone]) == 1 - gone
    wait_until(lambda: asked(browsers[gone]) == gone, 120)  # the other one answers until it is back
    assert browsers[gone].get("/").status_code == 200


def test_attempts_to_sign_in_are_counted_over_all_workers(tmp_path, small_weights):
    accounts.add(tmp_path / "people", "anne", PASSWORD)
    options = ("--weights", str(small_weights), "--login", str(tmp_path / "people"), "--workers", "2")
    with running(tmp_path, *options, before=("env",), GRADIO_TEMP_DIR=str(tmp_path / "gradio")) as (address, *_):
        browsers = [httpx.Client(base_url=address, timeout=60) for _ in range(2)]
        for browser in browsers:
            browser.get("/")
        assert {browser.cookies["mpsams_worker"] for browser in browsers} == {"0", "1"}
        sent = {"username": "anne", "password": "a guess"}
        codes = [browsers[k % 2].post("/login", data=sent).status_code for k in range(sign_in_limits.FREE + 1)]
        assert codes[:-1] == [400] * sign_in_limits.FREE  # each took a second; after the last, two have to pass
        assert [browser.post("/login", data=sent).status_code for browser in browsers] == [429, 429]


def test_numbers_of_workers_that_are_not_allowed(capsys):
    for number in ("0", "-1", "65"):
        with pytest.raises(SystemExit):
            main.main(["--workers", number])
        assert "allowed are 1 to 64" in capsys.readouterr().err
