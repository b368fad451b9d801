"""Connections handed to one of several processes: by cookie, address or turn, once their header has come."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from mpsams.app.server import dispatch
from mpsams.app.server.dispatch import Chooser, Dispatcher, StayWithWorker, read_ahead, stated_worker

PAGE = b"GET / HTTP/1.1\r\nHost: here\r\n"
CALL = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: here\r\n"


@pytest.mark.parametrize(
    "line, worker",
    [
        (b"Cookie: mpsams_worker=1", 1),
        (b"cookie: a=b; mpsams_worker=12; c=d", 12),
        (b"Cookie: access-token=x;mpsams_worker=0", 0),
        (b"Cookie: not_mpsams_worker=1", None),
        (b"Cookie: mpsams_worker=1x", None),
        (b"Cookie: mpsams_worker=-1", None),
        (b"X-Cookie: mpsams_worker=1", None),
        (b"Accept: */*", None),
    ],
)
def test_the_cookie_names_the_worker(line, worker):
    assert stated_worker(PAGE + line + b"\r\n\r\n") == worker


def test_a_status_of_a_worker_can_be_asked_for():
    assert stated_worker(b"GET /healthz?worker=3 HTTP/1.1\r\nCookie: mpsams_worker=1\r\n\r\n") == 3
    assert stated_worker(b"GET /metrics?worker=0 HTTP/1.1\r\n\r\n") == 0
    assert stated_worker(b"GET /config?worker=3 HTTP/1.1\r\n\r\n") is None


def test_a_browser_stays_a_program_stays_and_new_browsers_take_turns():
    chooser, ready = Chooser(4), [0, 1, 2, 3]
    assert {chooser.choose(PAGE + b"Cookie: mpsams_worker=2\r\n\r\n", "::1", ready) for _ in range(9)} == {2}
    assert {chooser.choose(PAGE + b"\r\n", "10.0.0.1", ready) for _ in range(4)} == {0, 1, 2, 3}
    programs = [{chooser.choose(CALL + b"\r\n", f"10.0.0.{each}", ready) for _ in range(5)} for each in range(40)]
    assert all(len(one) == 1 for one in programs) and set.union(*programs) == {0, 1, 2, 3}
    behind = CALL + b"X-Forwarded-For: 10.0.0.7\r\n\r\n"
    assert {chooser.choose(behind, "127.0.0.1", ready)} == programs[7]


def test_those_of_a_worker_that_is_not_there_go_to_another():
    chooser = Chooser(3)
    for stated in (b"1", b"9"):
        head = PAGE + b"Cookie: mpsams_worker=" + stated + b"\r\n\r\n"
        assert {chooser.choose(head, "::1", [0, 2]) for _ in range(4)} == {0, 2}


def peeked(*parts: bytes) -> tuple[bytes, bytes]:
    """Send parts to a connection; return the header seen ahead, and the bytes that can be read then."""

    async def main() -> tuple[bytes, bytes]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            looking = asyncio.create_task(read_ahead(theirs))
            for part in parts:
                await asyncio.sleep(0)
                ours.send(part)
            if not b"".join(parts).endswith(b"\r\n\r\n"):
                ours.shutdown(socket.SHUT_WR)
            head = await asyncio.wait_for(looking, 20)
            assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            return head, theirs.recv(2**20) if head else b""

    return asyncio.run(main())


def test_the_header_is_seen_and_left_to_be_read():
    assert peeked(PAGE + b"\r\n") == (PAGE + b"\r\n", PAGE + b"\r\n")
    assert peeked(PAGE[:9], PAGE[9:] + b"\r", b"\n")[1] == PAGE + b"\r\n"
    assert peeked() == (b"", b"") and peeked(b"GET")[0] == b"GET"


def test_connections_that_send_no_header_are_closed(monkeypatch):
    monkeypatch.setattr(dispatch, "HEADER_SECONDS", 0.05)
    monkeypatch.setattr(dispatch, "CONNECTIONS", 3)

    async def main() -> None:
        handed: asyncio.Queue[bytes] = asyncio.Queue()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = asyncio.create_task(Dispatcher(lambda connection, head: handed.put_nowait(head)).run([listener]))
            clients = [await asyncio.open_connection(*listener.getsockname()) for _ in range(5)]
            clients[-1][1].write(PAGE + b"\r\n")
            for reader, _ in clients[:-1]:
                assert await asyncio.wait_for(reader.read(), 20) == b""
            assert await asyncio.wait_for(handed.get(), 20) == PAGE + b"\r\n" and handed.empty()
            running.cancel()
            for _, writer in clients:
                writer.close()

    asyncio.run(main())


def test_the_page_brings_the_cookie_and_a_proxy_s_connection_ends():
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def headers(path: str, **given: str) -> httpx.Headers:
        transport = httpx.ASGITransport(StayWithWorker(app, 2))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (
                await client.get(path, headers={name.replace("_", "-"): value for name, value in given.items()})
            ).headers

    found = asyncio.run(headers("/"))
    assert found["set-cookie"].startswith("mpsams_worker=2;") and "HttpOnly" in found["set-cookie"]
    assert "connection" not in found
    assert "set-cookie" not in asyncio.run(headers("/", cookie="mpsams_worker=2"))
    moved = asyncio.run(headers("/", cookie="mpsams_worker=1"))
    assert "set-cookie" in moved and moved["connection"] == "close"
    assert "set-cookie" not in asyncio.run(headers("/config"))
    assert asyncio.run(headers("/metrics?worker=1"))["connection"] == "close"
    assert asyncio.run(headers("/config", x_forwarded_for="10.0.0.1"))["connection"] == "close"
