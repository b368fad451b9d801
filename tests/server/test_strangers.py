"""Requests of strangers: foreign hosts and origins, requests that make no sense, half requests, many connections; and
how the app begins and ends.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import re
import signal
import socket
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import h11
import httpx
import numpy as np
import pytest
from fastapi import HTTPException
from PIL import Image

from mpsams import splits
from mpsams.app.server import accounts, listen, sign_in_limits, uploads
from mpsams.app.server.guard import Guard
from mpsams.app.server.hosts import Hosts
from tests.support.http_client import FILE, call_error, upload  # noqa: F401
from tests.support.server import PASSWORD, ROOT, Swallow, _through, end_of, running
from tests.support.waiting import wait_until

# The Host header


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:7860",
        "localhost.",
        "127.0.0.1:7860",
        "127.5.6.7",
        "[::1]:7860",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "annotate.example.org",
        "Annotate.Example.Org.:443",
    ],
)
def test_hosts_that_are_allowed(host):
    assert host in Hosts(["127.0.0.1"], ["annotate.example.org"])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        " ",
        ":7860",
        "[",
        "[::1",
        "[evil]",
        "localhost:x",
        "localhost@evil.example",
        "192.168.1.5",
        "[fe80::1]",
        "xannotate.example.org",
        "annotate.example.org.evil",
        "0x7f000001",
        "evil.example\0localhost",
    ],
)
def test_hosts_that_are_refused(host):
    assert host not in Hosts(["127.0.0.1"], ["annotate.example.org"])


@pytest.mark.parametrize("bound, allowed, refused", [
    ("192.168.1.5", ("192.168.1.5:7860", socket.gethostname(), "localhost"), ("192.168.1.6", "evil.example")),
    ("0.0.0.0", ("192.168.1.6", "[fe80::1]:80", socket.gethostname().upper(), "localhost"), ("evil.example", "")),
    ("::", ("192.168.1.6", socket.gethostname()), ("evil.example",)),
    ("intranet", ("intranet", "INTRANET.:80"), ("evil.example", "192.168.1.6")),
])  # fmt: skip
def test_hosts_are_those_listened_on(bound, allowed, refused):
    hosts = Hosts([bound])
    assert all(host in hosts for host in allowed) and not any(host in hosts for host in refused)


def test_every_host_is_allowed_only_when_asked_for():
    assert "evil.example" in Hosts(["127.0.0.1"], ["*"]) and "" not in Hosts(["127.0.0.1"], ["*"])
    with pytest.raises(ValueError, match="'a b' is no host name"):
        Hosts([], ["a b"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/config",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/file=x",
        "/nowhere",
    ],
)
def test_a_page_whose_name_was_made_to_lead_here_reads_nothing(app_address, path):
    answer = httpx.get(app_address + path, headers={"Host": "evil.example:7860"})
    assert (
        answer.status_code == 421
        and "'evil.example:7860'" in answer.json()["detail"]
        and "--allowed-host" in answer.json()["detail"]
    )
    sent = httpx.post(
        f"{app_address}/gradio_api/upload", files={"files": ("x.png", b"x")}, headers={"Host": "evil.example"}
    )
    assert sent.status_code == 421


def test_a_request_without_host_is_refused_with_a_sentence(app_address):
    with socket.create_connection(("127.0.0.1", int(app_address.rpartition(":")[2])), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400") and b"has to name the host" in answer


# Other origins

EVIL = {"Origin": "http://evil.example"}


@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "garbage"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        EVIL | {"Sec-Fetch-Site": "same-origin"},
        EVIL | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/config"),
        ("GET", "/logout"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/queue/data?session_hash=x"),
        ("GET", "/healthz"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/login"),
        ("HEAD", "/"),
    ],
)
def test_requests_of_other_origins_are_refused_and_not_readable(app_address, method, path, headers):
    answer = httpx.request(method, app_address + path, headers=headers | {"Content-Length": "0"})
    assert answer.status_code == 403 and (method == "HEAD" or "Another site" in answer.json()["detail"])
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_requests_of_the_page_itself_are_answered_without_letting_others_read(app_address, headers, own):
    headers = headers if not own or "Origin" in headers else headers | {"Origin": app_address}
    for path in ("/config", "/healthz", "/gradio_api/info", "/", "/logout"):
        answer = httpx.get(app_address + path, headers=headers)
        assert answer.status_code in (200, 302, 404), path
        assert not [name for name in answer.headers if name.startswith("access-control")], path


@pytest.mark.parametrize(
    "origin, host, same",
    [
        ("http://a.example", "a.example", True),
        ("https://a.example", "A.example.:443", True),
        ("https://a.example", "a.example", True),
        ("http://a.example:80", "a.example", True),
        ("http://[::1]:7860", "[0::1]:7860", True),
        ("http://a.example:8080", "a.example", False),
        ("https://a.example", "a.example:80", False),
        ("file://", "a.example", False),
        ("http://a.example.evil", "a.example", False),
        ("http://", "", False),
        ("http://a.example@evil", "a.example", False),
        ("http://a.example:x", "a.example", False),
    ],
)
def test_an_origin_is_compared_with_the_host_and_its_port(tmp_path, origin, host, same):
    guard = Guard(Swallow(), 2**20, tmp_path)
    status, *_ = asyncio.run(
        _through(
            guard, "POST", "/gradio_api/queue/join", {"host": host, "origin": origin, "content-length": "1"}, [b"1"]
        )
    )
    assert (status == 200) is same


def test_a_link_from_another_site_leads_to_the_page_and_nowhere_else(app_address):
    followed = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Referer": "https://evil.example/",
    }
    assert httpx.get(f"{app_address}/?step=2", headers=followed).status_code == 200
    # over http no browser says more
    assert httpx.get(f"{app_address}/", headers={"Referer": "https://evil.example/"}).status_code == 200
    for path in ("/logout", "/config", "/gradio_api/info"):
        assert httpx.get(app_address + path, headers=followed).status_code == 403, path
    assert httpx.get(f"{app_address}/logout", headers={"Referer": "https://evil.example/"}).status_code == 403
    assert httpx.get(f"{app_address}/", headers=followed | {"Sec-Fetch-Dest": "iframe"}).status_code == 403


# Requests that make no sense


def raw(disposition: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\nabc\r\n--b--\r\n"


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "/gradio_api/queue/join", {"data": [], "fn_index": 99_999, "session_hash": "x"}),
        ("POST", "/gradio_api/queue/join", {"data": [], "fn_index": -1, "session_hash": "x"}),
        ("POST", "/gradio_api/queue/join", '{"data": [], "fn_index": 1e400, "session_hash": "x"}'),
        ("POST", "/gradio_api/queue/join", "[" * 100_000),
        ("POST", "/gradio_api/call/nothing", {"data": []}),
        ("POST", "/gradio_api/call/v2/nothing", {}),
        ("POST", "/gradio_api/call/v2/mask", {"epoch": 3}),
        ("POST", "/gradio_api/call/v2/mask", {"bogus": 3}),
        (
            "POST",
            "/gradio_api/component_server",
            {"session_hash": "x", "component_id": 99_999, "fn_name": "x", "data": 1},
        ),
        ("POST", "/gradio_api/component_server", "\0"),
        ("GET", "/assets/" + "x" * 5000, None),
        ("GET", "/static/" + "x" * 300, None),
        ("POST", "/login", "{}"),
    ],
)
def test_what_cannot_be_understood_is_no_fault_of_the_server(app_address, method, path, body):
    body = body if body is None or isinstance(body, str) else json.dumps(body)
    answer = httpx.request(method, app_address + path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500 and answer.json()["detail"]


@pytest.mark.parametrize(
    "path, words",
    [
        ({"epoch": 3}, "argument: image; /gradio_api/info"),
        ({"bogus": 3}, "`bogus` is not a valid key-word argument; /gradio_api/info"),
    ],
)
def test_named_arguments_that_are_wrong_are_named(app_address, path, words):
    assert words in httpx.post(f"{app_address}/gradio_api/call/v2/mask", json=path).json()["detail"]


@pytest.mark.parametrize(
    "ranges, status",
    [
        ("bytes=0-1,0-1", 200),
        ("bytes=" + ",".join(["0-1"] * 500), 200),
        ("bytes=0-,0-", 200),
        ("bytes=0-0,-1", 200),
        ("bytes=5-1", 200),
        ("bytes=a-b", 200),
        ("x=0-1", 200),
        ("bytes=" + "9" * 5000 + "-", 200),
        ("bytes=0-1", 206),
        ("bytes=-5", 206),
        ("bytes=2-", 206),
        ("bytes=999-", 416),
    ],
)
def test_many_ranges_are_answered_with_the_whole_file(app_address, ranges, status):
    http = httpx.Client(base_url=app_address)
    path = upload(http)["path"]
    for address, length in ((f"/gradio_api/file={path}", 32), ("/static/img/logo.svg", None)):
        answer = http.get(address, headers={"Range": ranges})
        assert answer.status_code == status or (status == 416 and length is None), address
        assert status != 200 or length is None or len(answer.content) == length


@pytest.mark.parametrize(
    "body, status",
    [
        (raw(b'form-data; name="files"'), 400),
        (raw(b'form-data; filename="x.png"'), 400),
        (raw(b'form-data; name="other"; filename="x.png"'), 400),
        (raw(b""), 400),
        (b"garbage", 400),
        (raw(b'form-data; name="files"; filename="x.png"')[:-8], 400),
        (raw(b'form-data; name="files"; filename=""'), 200),
        (raw(b'form-data; name="files"; filename=".."'), 200),
        (raw(b'form-data; name="files"; filename="/"'), 200),
        (raw(b'form-data; name="files"; filename="a\0b"'), 200),
        (raw(b'form-data; name="files"; filename="' + b"x" * 4000 + b'"'), 200),
    ],
)
def test_uploads_in_odd_forms_get_a_sentence_or_lie_in_the_folder_of_uploads(app_address, body, status):
    http = httpx.Client(base_url=app_address)
    folder = os.path.dirname(os.path.dirname(upload(http)["path"]))
    # gr.File makes an empty one of each that it is given
    before = {name for name in os.listdir(folder) if name.startswith("tmp")}
    answer = http.post("/gradio_api/upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == status and answer.text
    assert status != 200 or os.path.dirname(os.path.dirname(answer.json()[0])) == folder
    assert {name for name in os.listdir(folder) if name.startswith("tmp")} == before  # no part is left


WRONG = {
    "image": (
        None,
        7,
        "x",
        [],
        {"path": 7, **FILE},
        {"path": "x"},
        {"path": "", **FILE},
        {"path": "/etc/passwd", **FILE},
        {"path": "x\0", **FILE},
        [{"path": "x", **FILE}],
    ),
    "truth": (7, "x", {}, {"path": "/etc/passwd", **FILE}),
    "modality": (7, True, [], "x" * 10_000, "xray"),
    "epoch": (1e300, -1, 0, 0.5, 10**400, math.nan, math.inf, "ten", True, [], 8104),
    "threshold": (0, 1, -1, 1e300, math.nan, "half", {}),
    "seed": (-1, 1.5, 2**31, 10**400, math.nan, "x", [1]),
    "slice": (-1, 2, 1.5, 1e300, math.nan, "x", [1]),
    "selector": (7, "x", {}),
    "reading": (7, "x", {}),
    "weights": (7, "x", "../../x", {}),
    "format": (7, "x", {}),
    "boxes": (7, True, {}, "box", "[[1, 2, 3]]", "[[1, 2, NaN, 4]]", f"[[{10**400}, 2, 3, 4]]", "[[3, 2, 1, 4]]"),
    "points": (7, [], "{}", "[[1]]", "[[1, 2, 3]]", f"[[1, -{10**400}]]"),
}
MARKS = {"boxes": "[[8, 8, 24, 24]]", "points": "[[9, 9, 1]]"}  # what /prompt cannot do without


@pytest.mark.parametrize("endpoint", ["clusters", "mask", "reconstruct", "segment", "export", "prompt"])
def test_wrong_arguments_of_an_endpoint_are_named_with_what_is_allowed(app_address, endpoint):
    http, picture = httpx.Client(base_url=app_address, timeout=120), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)).save(picture, "PNG")
    parameters = http.get("/gradio_api/info").json()["named_endpoints"][f"/{endpoint}"]["parameters"]
    names = [one["parameter_name"] for one in parameters]
    assert set(names) <= set(WRONG)
    defaults = [MARKS.get(one["parameter_name"], one["parameter_default"]) for one in parameters[1:]]
    right = [upload(http, picture.getvalue()), *defaults]
    needed = 1 + sum(name in MARKS for name in names)  # the others have defaults
    assert [call_error(http, endpoint, values) for values in (right, right[:needed])] == ["", ""]
    assert call_error(http, endpoint, []).startswith("image is missing") and f"no more than {len(right)}" in call_error(
        http, endpoint, [*right, 1]
    )
    for place, name in enumerate(names):
        for value in WRONG[name]:
            message = call_error(http, endpoint, [*right[:place], value, *right[place + 1 :]])
            assert (
                name.removesuffix("es").removesuffix("s") in message
                or name == "reading"
                and "selector" in message
                or "uploaded" in message
                or "upload it again" in message
            ), (name, value, message)
            assert (
                "went wrong" not in message
                and len(message) < 400
                and ("allowed" in message or "uploaded" in message or " " in message)
            ), (name, value, message)


# Half requests and many connections


class Wire(asyncio.Transport):
    """A connection without a network: what was written to it, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed, self.written = False, b""

    def write(self, data) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


@pytest.fixture
def connected(monkeypatch):
    """Makes connections to a server that does not answer, at a time that the test sets."""
    import uvicorn
    from uvicorn.server import ServerState

    clock = [1000.0]
    monkeypatch.setattr(listen.time, "monotonic", lambda: clock[0])
    loop = asyncio.new_event_loop()

    async def silent(scope, receive, send) -> None:
        await asyncio.Event().wait()

    config, state = uvicorn.Config(silent, http=listen.Connection, ws="none", log_config=None), ServerState()
    config.load()
    assert config.interface == "asgi3"  # and silent was not called to see if it makes an app

    def connect() -> listen.Connection:
        connection = listen.Connection(config, state, {}, _loop=loop)
        connection.connection_made(Wire())
        return connection

    yield connect, clock, state
    loop.run_until_complete(asyncio.sleep(0))
    for task in state.tasks:
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_connection_that_sends_no_whole_header_is_late_after_a_while(connected):
    connect, clock, _ = connected
    silent, half = connect(), connect()
    for _ in range(listen.HEADER_SECONDS):
        assert not silent.is_late(clock[0]) and not half.is_late(clock[0])
        clock[0] += 1
        half.data_received(b"G" if clock[0] == 1001 else b"E")  # a byte a second does not help
    clock[0] += 1
    assert silent.is_late(clock[0]) and half.is_late(clock[0])


def test_a_body_is_late_when_it_stops_or_trickles_and_not_while_it_comes(connected):
    connect, clock, _ = connected
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"
    stops, trickles, comes = connect(), connect(), connect()
    for one in (stops, trickles, comes):
        one.data_received(head)
    for _ in range(2 * listen.BODY_SECONDS):
        clock[0] += 1
        trickles.data_received(b"x")
        comes.data_received(bytes(4096))
        comes.flow.resume_reading()  # as an app that reads does
        assert not comes.is_late(clock[0])
    assert stops.is_late(clock[0]) and trickles.is_late(clock[0])


def test_a_request_that_is_whole_may_be_worked_on_for_as_long_as_it_takes(connected):
    connect, clock, _ = connected
    whole = connect()
    whole.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert whole.conn.their_state is h11.DONE
    clock[0] += 3600
    assert not whole.is_late(clock[0])
    whole.pause_writing()
    clock[0] += listen.BODY_SECONDS + 1
    assert whole.is_late(clock[0])  # for its client reads no answer


def test_the_connection_that_has_waited_longest_makes_room(connected, monkeypatch):
    connect, clock, state = connected
    monkeypatch.setattr(listen, "CONNECTIONS", 5)
    busy = connect()
    busy.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    halves = []
    for _ in range(20):
        clock[0] += 1
        halves.append(connect())
        assert len(state.connections) < 5 and busy in state.connections
    assert [one.transport.closed for one in halves] == [True] * 17 + [False] * 3 and not busy.transport.closed


def test_a_thousand_half_requests_keep_nobody_out(tmp_path, small_weights):
    """They hold their connections open while others are answered, and are closed when their time is over."""
    sooner = {"mpsams.app.server.listen.HEADER_SECONDS": 6}
    with (
        running(tmp_path, "--weights", str(small_weights), constants=sooner) as (address, process, printed),
        ExitStack() as open_,
    ):
        port = int(address.rpartition(":")[2])
        halves = []
        for number in range(1_010):
            halves.append(open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            halves[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: " if number % 2 else b"")
        for _ in range(5):
            assert httpx.get(f"{address}/healthz", timeout=60).status_code == 200
        assert all(half.recv(1) == b"" for half in halves[-10:])  # waits until the server closes them


# Beginning and ending


def failed(folder: Path, *options: str) -> str:
    """The sentence with which an app that cannot start ends."""
    code, printed = end_of(folder / "printed", *options)
    assert code == 2 and "MPS-AMS is at" not in printed and "Traceback" not in printed
    return printed.strip().rpartition("\n")[2]


def test_a_port_in_use_is_refused_before_anything_is_printed(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use by another program; choose another with --port" in failed(
            tmp_path, "--port", str(port)
        )


@pytest.mark.parametrize(
    "options, words",
    [
        (("--host", "203.0.113.1"), "'203.0.113.1' is no address of this computer"),
        (("--host", "no such host"), "'no such host' is no address or name"),
        (("--host", "x" * 300), "is no address or name"),
        (("--allowed-host", "a b"), "'a b' is no host name; allowed are"),
    ],
)
def test_hosts_that_cannot_be_listened_on_are_refused(tmp_path, options, words):
    assert words in failed(tmp_path, *options, "--port", "7999")


def test_a_port_that_may_not_be_opened_is_a_sentence():
    for error in (
        PermissionError(13, "Permission denied"),
        OSError(98, "in use"),
        OSError(99, "not available"),
        OSError(24, "Too many open files"),
    ):
        message = listen.why(error, "127.0.0.1", 80)
        assert "80" in message or "127.0.0.1" in message
    assert (
        "may not be opened by this user" in listen.why(PermissionError(13, "x"), "127.0.0.1", 80)
        and "Too many open files" in message
    )


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_folder_of_uploads_is_empty_when_the_app_was_ended(tmp_path, small_weights, end):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running(tmp_path, "--weights", str(small_weights), TMPDIR=str(temporary), GRADIO_TEMP_DIR="") as (
        address,
        process,
        _,
    ):
        path = upload(httpx.Client(base_url=address))["path"]
        assert path.startswith(str(temporary))
        process.send_signal(end)
        process.wait(60)
    assert [file for file in temporary.rglob("*") if file.is_file() and file.name != uploads._MARK] == []


def test_a_broken_off_upload_leaves_no_part(tmp_path, small_weights):
    temporary = tmp_path / "gradio"
    with running(tmp_path, "--weights", str(small_weights), GRADIO_TEMP_DIR=str(temporary)) as (address, _, printed):
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
            head = (
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Type: multipart/form-data;"
                " boundary=b\r\nContent-Length: 9000000\r\n\r\n"
            )
            client.sendall(
                head.encode()
                + b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
                + bytes(200_000)
            )
            wait_until(lambda: any(file.name.startswith("tmp") and file.stat().st_size for file in temporary.iterdir()))
        wait_until(lambda: not any(file.name.startswith("tmp") for file in temporary.iterdir()))
        assert "rror" not in printed.read_text()


def test_what_killed_apps_left_is_removed_and_what_runs_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(uploads.tempfile, "tempdir", str(tmp_path))
    for name in ("mpsams-0-7861", "mpsams-x7"):  # of another port, and one made where the usual one was taken
        (tmp_path / name / "abc").mkdir(parents=True)
        (tmp_path / name / "abc" / "patient.png").write_bytes(b"x")
        (tmp_path / name / uploads._MARK).touch()
    (tmp_path / "mpsams-thesis").mkdir()
    (tmp_path / "mpsams-thesis" / "thesis.txt").write_text("not ours")
    running_app = uploads.own_folder(tmp_path / "mpsams-0-7862")
    (running_app / "seen.png").write_bytes(b"x")
    with uploads.uploads_folder(tmp_path / "mpsams-0-7860") as folder:
        assert folder == tmp_path / "mpsams-0-7860"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mpsams-0-7860", "mpsams-0-7862", "mpsams-thesis"]
        assert (running_app / "seen.png").is_file() and (tmp_path / "mpsams-thesis" / "thesis.txt").is_file()
        with uploads.uploads_folder(tmp_path / "mpsams-0-7860") as second:  # for the first is held
            assert second != folder and second.is_dir()
        assert not second.exists() and folder.is_dir()


# Passwords


class Slow(sign_in_limits.Guesses):
    """Guesses by a clock that the test sets."""

    def __init__(self, names=("anne", "bob")) -> None:
        self.now = 0.0
        super().__init__(names, lambda: self.now)

    def tries(self, name: str, address: str, seconds: int) -> int:
        """Number of tries of a name that are allowed to one that tries once a second."""
        allowed = 0
        for _ in range(seconds):
            allowed += not self.ask(name, address)
            self.now += 1
        return allowed


@pytest.mark.parametrize("name", ["anne", "nobody"])
def test_tries_of_a_name_from_an_address_wait_longer_and_longer(name):
    guesses = Slow()
    assert [guesses.ask(name, "1.2.3.4") for _ in range(sign_in_limits.FREE)] == [0] * sign_in_limits.FREE
    waits = []
    for _ in range(14):
        waits.append(guesses.ask(name, "1.2.3.4"))
        assert guesses.ask(name, "1.2.3.4") == waits[-1]  # to ask too early is no try
        guesses.now += waits[-1]
        assert guesses.ask(name, "1.2.3.4") == 0
    assert waits[:4] == [1, 2, 4, 8] and waits[-1] == sign_in_limits.LONGEST
    assert guesses.tries(name, "1.2.3.4", 86_400) <= 86_400 / sign_in_limits.LONGEST + 1
    guesses.now += sign_in_limits.FORGOTTEN + 1
    assert [guesses.ask(name, "1.2.3.4") for _ in range(sign_in_limits.FREE + 1)] == [0] * sign_in_limits.FREE + [1]


def test_others_are_not_locked_out():
    guesses = Slow()
    assert guesses.tries("anne", "1.2.3.4", 600) < 20
    assert guesses.ask("bob", "1.2.3.4") == guesses.ask("anne", "1.2.3.5") == guesses.ask("bob", "1.2.3.5") == 0


def test_a_right_password_lets_one_begin_anew():
    guesses = Slow()
    for _ in range(10 * sign_in_limits.FREE_OF_A_NAME):
        assert guesses.ask("anne", "1.2.3.4") == 0
        guesses.right("anne", "1.2.3.4")


def test_a_name_that_is_tried_from_everywhere_is_delayed_but_where_it_signed_in_before():
    guesses = Slow()
    guesses.ask("anne", "1.2.3.4")
    guesses.right("anne", "1.2.3.4")
    allowed = sum(not guesses.ask("anne", f"10.0.{number >> 8}.{number & 255}") for number in range(5000))
    assert allowed == sign_in_limits.FREE_OF_A_NAME
    assert 0 < guesses.ask("anne", "9.9.9.9") <= sign_in_limits.LONGEST_OF_A_NAME
    assert guesses.ask("anne", "1.2.3.4") == guesses.ask("bob", "10.0.0.1") == 0


def test_strangers_cannot_crowd_out_what_is_remembered_nor_fill_the_memory(monkeypatch):
    guesses = Slow()
    while not guesses.ask("anne", "1.2.3.4"):
        pass
    for number in range(sign_in_limits.KEPT + 100):
        guesses.ask(f"name{number}", "1.2.3.4")
    assert guesses.ask("anne", "1.2.3.4") > 0
    assert len(guesses._pairs[False]) == len(guesses._of_names[False]) == sign_in_limits.KEPT


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("1.2.3.4", "1.2.3.5", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:1.2.3.4", "1.2.3.4", True),
        ("", "", True),
        ("x" * 100, "x" * 200, True),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    assert (sign_in_limits.network(one) == sign_in_limits.network(other)) is same


def test_a_refused_try_and_an_unknown_name_cost_no_hash(monkeypatch):
    hashes = []
    monkeypatch.setattr(accounts, "_matches", lambda stated, password: hashes.append(password) or password == PASSWORD)
    monkeypatch.setattr(accounts, "_REFUSAL_SECONDS", 0.0)
    allowed = accounts.checker({"anne": "", "bob": ""}, Slow())

    def answer(name: str, password: str) -> object:
        try:
            return asyncio.run(allowed(name, password))
        except HTTPException as refusal:
            assert "try again in 1 seconds" in refusal.detail and refusal.headers == {"Retry-After": "1"}
            return refusal.status_code

    assert answer("bob", "x" * (accounts.LONGEST + 1)) is answer("nobody", PASSWORD) is False and hashes == []
    assert [answer("anne", f"guess {number}") for number in range(9)] == [False] * sign_in_limits.FREE + [429] * (
        9 - sign_in_limits.FREE
    )
    assert len(hashes) == sign_in_limits.FREE
    assert answer("anne", PASSWORD) == 429 and len(hashes) == sign_in_limits.FREE
    assert answer("bob", PASSWORD) is True


def test_a_password_that_is_too_long_is_refused_though_its_beginning_is_right():
    longest = "x" * accounts.LONGEST
    allowed = accounts.checker({"anne": accounts.hashed(longest)})
    assert asyncio.run(allowed("anne", longest)) and not asyncio.run(allowed("anne", longest + "x"))


def test_accounts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    people = tmp_path / "people"
    accounts.add(people, "anne", PASSWORD)
    before = people.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        accounts.add(people, "bob", PASSWORD)
    assert people.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["people"]


def test_a_right_password_is_quick_while_two_hundred_guess(tmp_path, small_weights):
    for name in ("anne", "bob"):
        accounts.add(tmp_path / "people", name, PASSWORD)
    ends: list[tuple[int, str]] = []

    async def guess(http: httpx.AsyncClient, number: int, enough: asyncio.Event, over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(httpx.TransportError):
                answer = await http.post(
                    "/login",
                    data={"username": "anne" if number % 2 else f"name{number}", "password": f"guess {len(ends)}"},
                )
                ends.append((answer.status_code, answer.headers.get("Retry-After", "")))
            if len(ends) >= 400:
                enough.set()
            await asyncio.sleep(1)  # time must pass: each guesses once a second

    async def attacked(address: str) -> None:
        enough, over, plain = asyncio.Event(), asyncio.Event(), {"base_url": address, "timeout": 120, "verify": False}
        async with AsyncExitStack() as clients:
            # a client for each: the pool of one searches all its connections at every request
            bob, *attackers = [await clients.enter_async_context(httpx.AsyncClient(**plain)) for _ in range(201)]
            attack = asyncio.gather(*(guess(http, number, enough, over) for number, http in enumerate(attackers)))
            await asyncio.wait_for(enough.wait(), 120)
            assert (await bob.post("/login", data={"username": "bob", "password": PASSWORD})).json() == {
                "success": True
            }
            still = await bob.post("/login", data={"username": "anne", "password": PASSWORD})
            assert still.status_code == 429 and "Too many wrong passwords" in still.json()["detail"]
            over.set()
            await attack

    with running(tmp_path, "--weights", str(small_weights), "--login", str(tmp_path / "people")) as (
        address,
        _,
        printed,
    ):
        asyncio.run(attacked(address))
        # for the login page shows no refusal of this kind
        assert f"After {sign_in_limits.FREE} wrong passwords" in httpx.get(address).text
        elsewhere = httpx.Client(base_url=address, timeout=60, transport=httpx.HTTPTransport(local_address="127.0.0.2"))
        assert elsewhere.post("/login", data={"username": "anne", "password": PASSWORD}).json() == {"success": True}
        assert "rror" not in printed.read_text()
    refused = [after for status, after in ends if status == 429]
    assert len(refused) > 100 and all(after.isdigit() and int(after) > 0 for after in refused)


# Files that are written


WRITERS = re.compile(r"""\.write_text\(|\.write_bytes\(|open\([^)\n]*["']w|\bsavez|json\.dump\(""")
WHOLE = (
    "temporary.write_",
    "unfinished.write_",
    "(images / file).write_bytes",
    "(masks / file).write_bytes",
    "image.write_bytes",
    "mask.write_bytes",
    "(folder / f",
    "(folder / COCO_FILE)",
    "(folder / TABLE_FILE)",
    "(folder / DATASET_FILE)",
    "(folder / SIZES_FILE)",
)


def test_what_is_written_under_its_own_name_is_written_whole_or_not_at_all():
    """Everything goes through a temporary name or checkpoint.write; exports are written into a folder that takes its
    name when it is full.
    """
    found = []
    for path in [ROOT / "app.py", *ROOT.glob("mpsams/**/*.py"), *ROOT.glob("train/**/*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            exempt = (
                line.strip().startswith(WHOLE)
                or "os.devnull" in line
                or path.name == "archive.py"
                or "file.open(entry" in line
            )
            if WRITERS.search(line) and not exempt and "os.fdopen" not in line:
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    assert found == []


def test_a_split_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path, split = tmp_path / "split.json", splits.Split("x", 0, True, ("a",), ("b",), ("c",))
    splits.save(split, path)
    before, real = path.read_text(), Path.write_text

    def full(self, text, *others, **more) -> None:
        real(self, text[: len(text) // 2], *others, **more)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        splits.save(split, path)
    monkeypatch.undo()
    assert path.read_text() == before
