"""The app as a server among strangers: limits, login, headers, logs, a read-only disk, hostile uploads over HTTP, many
clients.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks import clients
from mpsams.app import main
from mpsams.app.server import accounts, logs, uploads
from mpsams.app.server.guard import HEADERS, MAX_BODY, Guard
from tests.support import made_hostile
from tests.support.browser import CHROMIUM, FLAGS, idle
from tests.support.hostile_checks import plain
from tests.support.made_hostile import SECRET
from tests.support.server import PASSWORD, ROOT, Swallow, _through, running  # noqa: F401

MEMORY = 2304  # MiB of the app at its peak under hostile uploads


@pytest.fixture(scope="module")
def open_app(tmp_path_factory, small_weights):
    """An app that lets anyone in, with a folder of uploads in which an earlier run left something."""
    folder = tmp_path_factory.mktemp("open")
    temporary = folder / "gradio"
    (temporary / "abc").mkdir(parents=True)
    (temporary / "abc" / "left.png").write_bytes(b"of an earlier run")
    (temporary / uploads._MARK).touch()
    with running(
        folder,
        "--weights",
        str(small_weights),
        "--max-upload",
        "32mb",
        GRADIO_TEMP_DIR=str(temporary),
        TMPDIR=str(temporary),
    ) as (address, process, printed):
        yield address, process, printed, temporary


@pytest.fixture(scope="module")
def locked_app(tmp_path_factory, small_weights):
    """An app with a login and a project."""
    folder = tmp_path_factory.mktemp("locked")
    accounts.add(folder / "people", "anne", PASSWORD)
    options = ("--weights", str(small_weights), "--login", str(folder / "people"), "--project", str(folder / "project"))
    with running(folder, *options, GRADIO_TEMP_DIR=str(folder / "gradio")) as (address, _, printed):
        yield address, printed


# Uploads over HTTP


def resident(pid: int, field: str = "VmHWM") -> float:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def test_hostile_uploads_over_http_get_a_sentence_or_a_result_and_leave_nothing(open_app):
    address, process, printed, temporary = open_app
    page, http, ends = clients.Page(address), httpx.Client(base_url=address, timeout=120), {}
    visitor = clients.Visitor(address, page, 1)
    kinds = len(made_hostile.FAMILIES)
    for index in range(5, 5 + kinds * 17, 17):  # one of each kind
        family, (name, data) = made_hostile.family(index), made_hostile.one(1, index)
        sent = http.post("/gradio_api/upload", files={"files": (name or "x", data)})
        if sent.status_code != 200:
            assert sent.status_code in (400, 413), sent.text
            ends[family] = "not taken"
            continue
        (path,) = sent.json()
        assert Path(path).resolve().is_relative_to(temporary.resolve()) and Path(path).parent.parent == temporary
        try:
            answer = visitor.call("segment", {"path": path, "meta": {"_type": "gradio.FileData"}})
        except ValueError as refusal:
            sentence = json.loads(str(refusal).partition("data: ")[2])["error"]
            assert plain(sentence) and "went wrong" not in sentence, (index, family, sentence)
            ends[family] = "refused"
        else:
            assert answer["width"] >= 16 and SECRET not in json.dumps(answer)
            ends[family] = "opened"
        os.unlink(path)  # as delete_cache does after a day
    assert len(ends) == kinds
    assert [family for family in made_hostile.NO_IMAGES if ends[family] == "opened"] == []
    assert [family for family in made_hostile.IMAGES if ends[family] != "opened"] == []
    left = [file for file in temporary.rglob("*") if file.is_file() and file.name != uploads._MARK]
    # gr.File makes an empty one of each that it is given
    assert all(file.parent == temporary and file.stat().st_size == 0 for file in left)
    uploads.sweep(temporary, age=3600, age_of_parts=-1)  # as a few minutes later
    assert [entry.name for entry in temporary.iterdir()] == [uploads._MARK]
    assert resident(process.pid) < MEMORY
    assert SECRET not in printed.read_text() and "Traceback" not in printed.read_text()


def test_planted_names_are_in_no_log(open_app):
    address, _, printed, temporary = open_app
    visitor = clients.Visitor(address, clients.Page(address), 2)
    gone = visitor.upload()
    planted = temporary / Path(gone["path"]).parent.name / f"{SECRET}.png"
    for path, words in (
        (str(planted), "upload it again"),
        (f"/etc/{SECRET}", "uploaded to this page"),
        (f"{SECRET}\0", "uploaded to this page"),
        (7, "uploaded to this page"),
    ):
        with pytest.raises(ValueError, match=words):
            visitor.call("mask", {"path": path, "meta": {"_type": "gradio.FileData"}})
    with pytest.raises(ValueError):
        visitor.call("mask", {"no": SECRET})
    data = made_hostile.valid()["dicom slice"].replace(b"1.2.3.4.9\0", b"SECRET.UID")
    sent = visitor.http.post("/gradio_api/upload", files={"files": (f"{SECRET}.dcm", data)}).json()
    # pydicom would warn of the UID, and quote it
    visitor.call("mask", {"path": sent[0], "meta": {"_type": "gradio.FileData"}})
    for address_ in (f"/gradio_api/file={temporary}/{SECRET}", f"/{SECRET}", f"/gradio_api/call/mask/{SECRET}"):
        with suppress(httpx.RemoteProtocolError):  # gradio breaks off where there is no such event
            visitor.http.get(address_)
    assert printed.read_text().startswith("MPS-AMS is at") and SECRET not in printed.read_text()


def test_an_upload_is_readable_only_by_who_knows_its_path_and_by_nobody_as_a_page(open_app):
    address, _, _, temporary = open_app
    visitor = clients.Visitor(address, clients.Page(address), 3)
    path = visitor.upload()["path"]
    folder = Path(path).parent.name
    assert re.fullmatch(r"[0-9a-f]{64}", folder) and oct(temporary.stat().st_mode)[-3:] == "700"
    assert httpx.get(f"{address}/gradio_api/file={path}").content == visitor.picture
    for guess in (
        temporary,
        temporary / folder,
        temporary / "*",
        temporary / uploads._MARK / "..",
        temporary / ("0" * 64) / "3.png",
    ):
        assert httpx.get(f"{address}/gradio_api/file={guess}").status_code in (403, 404), guess
    sent = visitor.http.post("/gradio_api/upload", files={"files": ("page.html", b"<script>alert(1)</script>")}).json()
    answer = httpx.get(f"{address}/gradio_api/file={sent[0]}")
    assert (
        answer.headers["content-disposition"].startswith("attachment")
        and answer.headers["content-type"] == "application/octet-stream"
    )


def test_what_an_earlier_run_left_is_gone(open_app):
    assert not (open_app[3] / "abc").exists()


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/gradio_api/file=http://127.0.0.1:9/x", 404),
        ("GET", "/gradio_api/file=HTTPS://example.com/", 404),
        ("GET", "/gradio_api/proxy=https://a.hf.space/", 404),
        ("POST", "/gradio_api/run/mask", 404),
        ("GET", "/gradio_api/token", 404),
        ("GET", "/gradio_api/openapi.json", 404),
        ("GET", "/monitoring", 404),
        ("GET", "/docs", 404),
        ("GET", "/gradio_api/vibe-code", 404),
        ("POST", "/gradio_api/process_recording", 404),
        ("PUT", "/", 404),
        ("OPTIONS", "/gradio_api/upload", 404),
        ("GET", "/gradio_api/file=/etc/passwd", 403),
        ("GET", "/assets/../../../../etc/passwd", 404),
        ("GET", "/static/%2e%2e/%2e%2e/routes.py", 403),
    ],
)
def test_only_the_pages_own_addresses_are_answered(open_app, method, path, status):
    answer = httpx.request(method, open_app[0] + path, headers={"Content-Length": "0"})
    assert answer.status_code in (status, 403 if status == 403 else 404) and "root:" not in answer.text


def test_every_answer_has_the_headers(open_app):
    for path in ("/", "/healthz", "/config", "/theme.css", "/nowhere", "/gradio_api/file=/etc/passwd"):
        answer = httpx.get(open_app[0] + path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS and "server" not in answer.headers, path


def test_uploads_beyond_the_limit_are_refused(open_app):
    address, _, _, temporary = open_app
    before = set(temporary.rglob("*"))
    large = httpx.post(f"{address}/gradio_api/upload", files={"files": ("x.png", bytes(33 * 2**20))}, timeout=60)
    assert large.status_code == 413
    many = httpx.post(
        f"{address}/gradio_api/upload", files=[("files", (f"{k}.png", bytes(10 * 2**20))) for k in range(4)], timeout=60
    )
    assert many.status_code == 413 and "32 MiB together" in many.text
    assert set(temporary.rglob("*")) == before


@contextmanager
def browser_page():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 700})
        page.messages, page.failed, page.outside = [], [], []
        page.on(
            "console",
            lambda message: page.messages.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on(
            "response", lambda answer: page.failed.append((answer.status, answer.url)) if answer.status >= 400 else None
        )
        page.on(
            "request",
            lambda request: (
                page.outside.append(request.url)
                if not request.url.startswith(("http://127.0.0.1", "data:", "blob:"))
                else None
            ),
        )
        yield page
        browser.close()


def test_all_tabs_work_under_the_content_security_policy(open_app):
    with browser_page() as page:
        page.goto(open_app[0], wait_until="domcontentloaded")
        page.get_by_role("tab").first.wait_for(timeout=60_000)
        tabs = [tab.inner_text() for tab in page.get_by_role("tab").all()]
        assert {"Learn", "Masking", "Reconstruct", "Segment & compare", "Results"} <= set(tabs)
        for name in tabs:
            page.get_by_role("tab", name=name, exact=True).click()
            page.get_by_role("tabpanel").filter(visible=True).first.wait_for(timeout=20_000)
            idle(page)
        assert (page.messages, page.failed, page.outside) == ([], [], [])
        # so that this test would have seen one
        with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            page.evaluate("new Image().src = 'https://example.com/x.png'")


# Login


def test_without_login_only_the_sign_of_life_and_the_login_page_answer(locked_app):
    address, _ = locked_app
    assert httpx.get(f"{address}/healthz").json()["project"] == "writable"
    page = httpx.get(address)
    assert (
        page.status_code == 200
        and '"auth_required":true' in page.text.replace(" ", "")
        and "busi-mps_ams" not in page.text
    )
    for method, path in (
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/file=app.py"),
        ("GET", "/gradio_api/call/mask/x"),
        ("GET", "/gradio_api/queue/data"),
    ):
        assert httpx.request(method, address + path, params={"session_hash": "x"}).status_code == 401, path
    for path, sent in (
        ("upload", {"files": {"files": ("x.png", b"x")}}),
        ("queue/join", {"json": {"data": [], "fn_index": 0, "session_hash": "x"}}),
        ("call/mask", {"json": {"data": []}}),
        ("component_server", {"json": {}}),
    ):
        assert httpx.post(f"{address}/gradio_api/{path}", **sent).status_code == 401, path


def test_login_lets_in_by_the_right_password_only(locked_app):
    address, printed = locked_app
    http = httpx.Client(base_url=address, timeout=60)
    for name, password in (
        ("anne", "wrong"),
        ("bob", PASSWORD),
        ("", ""),
        ("anne", PASSWORD + "x"),
        ("anne", "x" * 10_000),
    ):
        began = time.monotonic()
        assert http.post("/login", data={"username": name, "password": password}).status_code in (400, 422)
        assert not name or time.monotonic() - began >= 1.0
    assert http.post("/login", data={"username": "anne", "password": PASSWORD}).json() == {"success": True}
    assert http.get("/config").status_code == 200
    assert http.post("/gradio_api/upload", files={"files": ("x.png", b"x")}).status_code == 200
    assert http.get("/logout", follow_redirects=False).status_code == 302
    http.cookies.clear()
    assert http.get("/config").status_code == 401
    assert PASSWORD not in printed.read_text()


def test_the_login_page_works_and_fetches_nothing_from_outside(locked_app):
    with browser_page() as page:
        page.goto(locked_app[0], wait_until="domcontentloaded")
        page.locator("input[type=password]").wait_for(timeout=60_000)
        page.locator("input").first.fill("anne")
        page.locator("input[type=password]").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
        page.get_by_role("tab", name="Masking").wait_for(timeout=60_000)
        assert page.outside == [] and not [words for words in page.messages if "Content Security" in words]


def test_an_account_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(main.getpass, "getpass", lambda prompt: PASSWORD)
    main.main(["--login", str(tmp_path / "people"), "--add-login", "anne"])
    main.main(["--login", str(tmp_path / "people"), "--add-login", "bob"])
    first = (tmp_path / "people").read_text()
    main.main(["--login", str(tmp_path / "people"), "--add-login", "anne"])
    found = accounts.read(tmp_path / "people")
    assert (
        set(found) == {"anne", "bob"}
        and PASSWORD not in first
        and oct((tmp_path / "people").stat().st_mode)[-3:] == "600"
    )
    assert first != (tmp_path / "people").read_text()  # another salt
    allowed = accounts.checker(found)
    assert asyncio.run(allowed("anne", PASSWORD))
    kind, cost, block, parallel, salt, digest = found["anne"].split(":")
    how = {"n": int(cost), "r": int(block), "p": int(parallel), "maxmem": 2**26}
    assert (
        kind == "scrypt"
        and hashlib.scrypt(PASSWORD.encode(), salt=bytes.fromhex(salt), **how, dklen=32).hex() == digest
    )


@pytest.mark.parametrize(
    "name, first, second, words",
    [
        ("a b", "x" * 9, "x" * 9, "colon and space"),
        ("anne", "x" * 9, "y" * 9, "differ"),
        ("anne", "short", "short", "8 to 256"),
    ],
)
def test_accounts_that_are_refused(tmp_path, monkeypatch, capsys, name, first, second, words):
    answers = iter((first, second))
    monkeypatch.setattr(main.getpass, "getpass", lambda prompt: next(answers))
    with pytest.raises(SystemExit):
        main.main(["--login", str(tmp_path / "people"), "--add-login", name])
    assert words in capsys.readouterr().err and not (tmp_path / "people").exists()


@pytest.mark.parametrize(
    "text, words",
    [("", "no accounts"), ("anne:secret\n", "line 1"), ("anne:scrypt:2:8:1:00:00\n", "line 1"), ("an ne:x", "line 1")],
)
def test_files_of_accounts_that_are_refused(tmp_path, text, words):
    (tmp_path / "people").write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        accounts.read(tmp_path / "people")
    assert "secret" not in str(refusal.value)


# Pieces


@pytest.mark.parametrize(
    "path, headers, status, words",
    [
        ("/gradio_api/queue/join", {"content-length": str(MAX_BODY + 1)}, 413, "16 MiB"),
        ("/gradio_api/queue/join", {}, 411, "how long"),
        ("/gradio_api/queue/join", {"content-length": "-1"}, 411, "how long"),
        ("/gradio_api/upload", {"content-length": str(2**31)}, 413, "1 MiB together"),
        ("/gradio_api/queue/join", {"content-length": "5", "sec-fetch-site": "cross-site"}, 403, "Another site"),
        ("/gradio_api/queue/join", {"content-length": "5"}, 200, ""),
    ],
)
def test_the_guard_judges_requests_before_they_are_read(tmp_path, path, headers, status, words):
    guard = Guard(Swallow(), 2**20, tmp_path)
    found, body, given = asyncio.run(_through(guard, "POST", path, headers, [b"12345"]))
    assert found == status and words in body.decode() and given == (5 if status == 200 else 0)


def test_a_request_longer_than_it_says_is_cut_off(tmp_path):
    guard = Guard(Swallow(), 2**20, tmp_path)
    *_, given = asyncio.run(
        _through(guard, "POST", "/gradio_api/queue/join", {"content-length": "5"}, [bytes(2**20)] * 40)
    )
    assert given <= MAX_BODY


def test_no_upload_when_the_disk_is_nearly_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**30}))
    status, body, _ = asyncio.run(
        _through(Guard(Swallow(), 2**20, tmp_path), "POST", "/gradio_api/upload", {"content-length": "5"}, [b"12345"])
    )
    assert status == 507 and b"no room" in body


def test_a_folder_of_uploads_is_our_own_or_left_alone(tmp_path):
    ours = uploads.own_folder(tmp_path / "ours")
    assert ours == tmp_path / "ours" and oct(ours.stat().st_mode)[-3:] == "700"
    second = uploads.own_folder(tmp_path / "ours")  # for it is held
    assert second != ours and second.is_dir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.txt").write_text("do not delete")
    (tmp_path / "link").symlink_to(tmp_path / "others")
    for path in (tmp_path / "others", tmp_path / "link", tmp_path / "others" / "thesis.txt"):
        assert uploads.own_folder(path) not in (path, tmp_path / "others")
    assert (tmp_path / "others" / "thesis.txt").read_text() == "do not delete" and len(
        list((tmp_path / "others").iterdir())
    ) == 1


def test_what_is_old_or_broken_off_is_swept(tmp_path):
    now = time.time()
    for name, age in (("a/new.png", 60), ("b/old.png", 90_000), ("part1", 60), ("part2", 700), (uploads._MARK, 90_000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (now - age, now - age))
    os.utime(tmp_path / "b", (now - 90_000,) * 2)
    uploads.sweep(tmp_path, 86_400)
    uploads.sweep(tmp_path, 86_400)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "a/new.png",
        "part1",
        uploads._MARK,
    }


def test_log_lines_name_nothing():
    try:
        open(f"/nowhere/{SECRET}", "rb")  # noqa: SIM115
    except OSError:
        record = logging.LogRecord(
            "x", logging.ERROR, "x", 1, "a request failed\nfuture: %s", (SECRET,), sys.exc_info()
        )
    line = logs.RedactingFormatter().format(record)
    assert re.fullmatch(r"ERROR: a request failed \(FileNotFoundError at test_server\.py:\d+\)", line)


@pytest.mark.parametrize("text, bytes_", [("1gb", 2**30), ("300 MB", 300 * 2**20), ("16gb", 2**34)])
def test_sizes(text, bytes_):
    assert main.size(text) == bytes_


@pytest.mark.parametrize("text", ["", "0mb", "17gb", "1e9", "-1mb", "1tb"])
def test_sizes_that_are_refused(text):
    with pytest.raises(main.argparse.ArgumentTypeError, match="1mb to 16gb"):
        main.size(text)


# Many clients


def test_eight_clients_are_each_answered_about_their_own_image(open_app):
    address, process, _, _ = open_app
    found = clients.measure(address, process.pid, clients=8, seconds=6)
    assert found["leaks"] == 0 and found["other_errors"] == 0, found["messages"]
    assert all(found["answers"][name] >= 1 for name in (*clients.ENDPOINTS, "page"))


def test_the_count_of_leaks_can_rise(open_app):
    address = open_app[0]
    one, other = (clients.Visitor(address, clients.Page(address), number) for number in (4, 5))
    answers = {name: other.ask(name, other.upload()) for name in ("segment", "page", "mask")}
    one.alone = {"mask": one.ask("mask", one.upload())}
    assert not any(one.own(name, answer) for name, answer in answers.items())
    assert all(other.own(name, answer) for name, answer in answers.items())


# A disk that cannot be written


def test_it_runs_as_nobody_on_a_read_only_disk_with_one_folder_to_write(tmp_path):
    """As ``docker run --read-only --tmpfs /tmp -v …:/data`` does it, by a mount namespace: the project is the only
    folder that stays.
    """
    if shutil.which("unshare") is None or shutil.which("setpriv") is None or os.getuid() != 0:
        pytest.skip("needs root, unshare and setpriv")
    own = {Path(where).resolve() for where in (main.__file__, sys.prefix, sys.base_prefix)}
    scratch = next(where for where in ("/tmp", "/media", "/srv") if not any(path.is_relative_to(where) for path in own))
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 65534, 65534)
    mounts = (
        f"mount --make-rprivate / && mount --bind {tmp_path / 'data'} /mnt && mount -o remount,ro,bind / && mount -t"
        f" tmpfs -o mode=1777 tmpfs {scratch}"
    )
    if subprocess.run(["unshare", "-m", "sh", "-c", f"{mounts} && ! touch /x 2>/dev/null"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    drop = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mounts} && env -u HOME {drop} {sys.executable} -c 'import gradio'"],
        check=False,
        capture_output=True,
    ).returncode:
        # this Python lies where nobody may read; still without any capability
        drop = "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all"
        os.chown(tmp_path / "data", 0, 0)
    before = ("unshare", "-m", "sh", "-c", f'{mounts} && exec env -u HOME {drop} "$@"', "sh")
    environment = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRADIO_TEMP_DIR": f"{scratch}/gradio",
        "MPLCONFIGDIR": f"{scratch}/matplotlib",
        "TMPDIR": scratch,
    }
    with running(tmp_path, "--project", "/mnt/project", before=before, **environment) as (address, process, printed):
        assert httpx.get(f"{address}/healthz").json()["project"] == "writable"
        visitor = clients.Visitor(address, clients.Page(address), 1)
        file = visitor.upload()
        assert file["path"].startswith(f"{scratch}/gradio/")
        assert all(visitor.own(name, visitor.ask(name, file)) for name in (*clients.ENDPOINTS, "page"))
        assert (tmp_path / "data" / "project" / "project.json").is_file()
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "rror" not in printed.read_text(), printed.read_text()
