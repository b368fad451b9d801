"""docs/deploy/nginx.conf on loopback: TLS, one machine for each browser, time limits, events that are not held back,
compressed answers; an app that ends.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from benchmarks import clients, hall_guest
from tests.support.app_process import free_port
from tests.support.server import ROOT
from tests.support.waiting import wait_until

CONFIG = ROOT / "docs" / "deploy" / "nginx.conf"
SLIDER = hall_guest.SLIDERS["mask"]
pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl"
)


class Machine:
    """An app that says who it is, which headers came, and sends events one at a time."""

    def __init__(self, name: str) -> None:
        self.name, self.go = name, threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        kind = b"text/event-stream" if scope["path"] == "/events" else b"text/html"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", kind), (b"x-machine", self.name.encode())],
            }
        )
        if scope["path"] == "/events":
            await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
            await asyncio.to_thread(self.go.wait, 30)
        names = ("host", "x-forwarded-for", "x-forwarded-proto")
        page = f"{' '.join(str(headers.get(name)) for name in names)} {'word ' * 2000}"
        await send({"type": "http.response.body", "body": page.encode()})


def is_listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(machine: Machine):
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(machine, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    yield port
    machine.go.set()
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """The address of an nginx with the documented configuration, its certificate, and the machines behind it."""
    machines = [Machine("one"), Machine("two")]
    with (
        serving(machines[0]) as first,
        serving(machines[1]) as second,
        nginx(tmp_path_factory.mktemp("nginx"), first, second) as (port, trusted),
    ):
        yield port, trusted, machines


@contextmanager
def nginx(folder: Path, first: int, second: int):
    """An nginx with the documented configuration in front of two ports: its own port, and what
    trusts its certificate.
    """
    key, certificate, port = folder / "key", folder / "certificate", free_port()
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    text = CONFIG.read_text(encoding="utf-8")
    for old, new in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("10.0.0.11:7860", f"127.0.0.1:{first}"),
        ("10.0.0.12:7860", f"127.0.0.1:{second}"),
        ("/etc/ssl/annotate.example.org.pem", str(certificate)),
        ("/etc/ssl/annotate.example.org.key", str(key)),
        ("client_header_timeout 10s", "client_header_timeout 1s"),
        (
            "http {",
            (
                f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
                f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;"
            ),
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log {folder}/errors; user root;\n{text}")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or is_listening(port))
        assert process.poll() is None, process.stderr.read()
        yield port, ssl.create_default_context(cafile=str(certificate))
    finally:
        process.terminate()
        process.wait(30)


def browser(proxy) -> httpx.Client:
    port, trusted, _ = proxy
    return httpx.Client(base_url=f"https://localhost:{port}", verify=trusted, timeout=30)


def test_a_browser_stays_on_its_machine_and_browsers_are_spread(proxy):
    seen = []
    for _ in range(24):
        with browser(proxy) as client:
            first = client.get("/").headers["x-machine"]
            assert {client.get(f"/{number}").headers["x-machine"] for number in range(3)} == {first}
            seen.append(first)
    assert set(seen) == {"one", "two"}


def test_the_machine_gets_the_visitors_address_and_answers_are_compressed(proxy):
    with browser(proxy) as client:
        answer = client.get("/")
    assert (
        answer.text.startswith(f"localhost:{proxy[0]} 127.0.0.1 https") and answer.headers["content-encoding"] == "gzip"
    )
    assert (
        re.search("Secure; HttpOnly; SameSite=Lax", answer.headers["set-cookie"])
        and "max-age" in answer.headers["strict-transport-security"]
    )


def test_events_are_not_held_back(proxy):
    with browser(proxy) as client, client.stream("GET", "/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: first"  # while the machine has not ended its answer
        for machine in proxy[2]:
            machine.go.set()
        assert any("word" in line for line in lines)


def test_a_header_that_never_ends_is_cut_off_and_metrics_stay_inside(proxy):
    port, trusted, _ = proxy
    with (
        socket.create_connection(("localhost", port)) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as slow,
    ):
        slow.settimeout(30)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert slow.recv(1000) == b""
    with browser(proxy) as client:
        assert client.get("/metrics").status_code == 403


class App:
    """A real app on a port of its own. memory: its --memory, in GiB, by which it is known."""

    def __init__(self, weights: Path, folder: Path, memory: int) -> None:
        self.port, self.folder, self.memory = free_port(), folder, memory
        self.command = [
            sys.executable,
            "app.py",
            "--port",
            str(self.port),
            "--weights",
            str(weights),
            "--memory",
            str(memory),
        ]
        self.process = None

    def start(self) -> None:
        with (self.folder / f"printed{self.memory}").open("ab") as out:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=out, stderr=out)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or is_listening(self.port), 180)
        assert self.process.poll() is None


@contextmanager
def two_apps(weights: Path, folder: Path):
    apps = [App(weights, folder, memory) for memory in (1, 2)]
    try:
        for app in apps:
            app.start()
        for app in apps:
            app.wait_until_ready()
        yield apps
    finally:
        for app in apps:
            app.process.kill()
            app.process.wait(30)


def enter(port: int, trusted: ssl.SSLContext, plain: str, number: int) -> hall_guest.Guest:
    """A visitor who has opened the page through nginx. plain: an app's own address."""
    config = httpx.get(f"{plain}/config", timeout=60).json()
    guest = hall_guest.Guest(f"https://localhost:{port}", clients.Page(plain), number, config, "", same=False)
    guest.http = httpx.Client(base_url=guest.address, verify=trusted, timeout=120)
    guest.http.get("/").raise_for_status()
    return guest


def open_picture(guest: hall_guest.Guest) -> None:
    """Upload a visitor's picture and open it; its page keeps the token that came with it."""
    token, event = guest.find(SLIDER, "input")["inputs"][-1], guest.find(clients.PICTURE, "upload")
    outputs = guest.send(clients.PICTURE, "upload", {clients.PICTURE: [guest.upload()]})
    guest.parts[token]["props"]["value"] = outputs[event["outputs"].index(token)]


def app_of(guest: hall_guest.Guest) -> int:
    """The --memory of the app that answers a visitor."""
    return round(guest.http.get("/healthz").raise_for_status().json()["budget"]["memory"]["limit"] / 2**30)


@pytest.mark.filterwarnings("ignore")
def test_visitors_of_an_app_that_ends_get_a_message_and_come_back(small_weights, tmp_path):
    with two_apps(small_weights, tmp_path) as apps, nginx(tmp_path, apps[0].port, apps[1].port) as (port, trusted):
        of_app: dict[int, hall_guest.Guest] = {}
        for number in range(64):
            guest = enter(port, trusted, f"http://127.0.0.1:{apps[0].port}", number)
            of_app.setdefault(app_of(guest), guest)
            if len(of_app) == 2:
                break
        for memory, guest in of_app.items():
            open_picture(guest)
            assert guest.act("mask") and app_of(guest) == memory
        apps[0].process.kill()
        apps[0].process.wait(30)
        with pytest.raises(ValueError, match="no longer in memory"):
            of_app[1].act("mask")
        assert app_of(of_app[1]) == 2 and of_app[2].act("mask")
        open_picture(of_app[1])
        assert of_app[1].act("mask")  # at the other app
        apps[0].start()
        apps[0].wait_until_ready()
        wait_until(lambda: app_of(of_app[1]) == 1)
        open_picture(of_app[1])
        assert of_app[1].act("mask") and of_app[2].act("mask")
