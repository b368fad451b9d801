"""Protection of the app from strangers: sign-in, allowed addresses, limits on requests, and headers on every answer.

gradio has more addresses than the page uses, some of which fetch what a request names; only those the page and
gradio_client use are let through.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from mpsams.app.server.hosts import Hosts, same_origin

MAX_BODY = 16 * 2**20  # bytes of any request but an upload
ROOM_LEFT = 2**30  # bytes of the disk that uploads never take
_OVERHEAD = 2 * 2**20  # of a thousand files in one upload: their names and boundaries

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    # gradio writes its settings into the page and makes functions of what gr.HTML is given, so 'unsafe-inline' and
    # 'unsafe-eval' stay
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-src 'none'",
            "frame-ancestors 'none'",
        )
    ),
}

_API = "/gradio_api/"
_READ = re.compile(
    rf"/|/(healthz|metrics|config/?|info/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt|pwa_icon(/.*)?|login_check/?|logout|(assets|static|svelte)/.*)"
    rf"|{_API}(info/?|startup-events|theme\.css|app_id/?|login_check/?|user/?|static/.*|queue/(data|status)|upload_progress|heartbeat/[^/]+"
    rf"|call/(v2/)?[^/]+/[^/]+|file=(?![A-Za-z][A-Za-z0-9+.-]+:).*)",
    re.DOTALL,
)
_WRITE = re.compile(rf"/login/?|{_API}(upload|queue/join|call/(v2/)?[^/]+/?|cancel|reset/?|component_server/?)")
_UPLOAD = f"{_API}upload"
_LINKED = ("/", "/healthz")  # what another site may lead to
_LISTED = "/gradio_api/info lists the endpoints and their arguments."
UNFORESEEN = f"This request cannot be understood; {_LISTED}"
CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")  # the address that sent the request at hand

log = logging.getLogger("mpsams.app")


class Guard:
    """An ASGI app around another.

    max_upload: bytes of all files of a request. folder: where uploads lie. hosts: the names it answers to; None is any.
    """

    def __init__(self, app, max_upload: int, folder: Path, hosts: Hosts | None = None) -> None:
        self.app, self.max_upload, self.folder, self.hosts = app, max_upload, Path(folder), hosts

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _answer(_headed(send), *refusal)
            return
        most = self.max_upload + _OVERHEAD if scope["path"] == _UPLOAD else MAX_BODY
        CLIENT.set((scope.get("client") or ("",))[0])
        scope = scope | {
            "headers": [(name, value) for name, value in scope["headers"] if name != b"range" or _is_range(value)]
        }
        await _understood(self.app, scope, _limit_length(receive, most), _headed(send))

    def _refusal(self, scope) -> tuple[int, str] | None:
        """Return status and sentence for a request that is refused before it is read; None for one that is not."""
        path, method = scope["path"], scope["method"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and headers.get("host", "") not in self.hosts:
            if not headers.get("host"):
                return 400, "A request has to name the host it is sent to."
            return (
                421,
                (
                    f"This app does not answer to the name {headers['host'][:99]!r}; the option --allowed-host of"
                    " app.py allows one."
                ),
            )
        allowed = {"GET": _READ, "HEAD": _READ, "POST": _WRITE}.get(method)
        if allowed is None or not allowed.fullmatch(path):
            return 404, "There is no such page here."
        if _is_foreign(path, method, headers):
            return 403, "Another site sent this request, which is not allowed."
        if method != "POST":
            return None
        length, upload = headers.get("content-length", ""), path == _UPLOAD
        if not (length.isascii() and length.isdigit()):
            return 411, "A request has to say how long it is."
        most = self.max_upload + _OVERHEAD if upload else MAX_BODY
        if int(length) > most:
            allowed_size = (
                f"files of up to {self.max_upload / 2**20:g} MiB together"
                if upload
                else f"requests of up to {MAX_BODY >> 20} MiB"
            )
            return 413, f"This is too large; allowed are {allowed_size}."
        if (
            upload
            and shutil.disk_usage(self.folder if self.folder.is_dir() else self.folder.parent).free
            < int(length) + ROOM_LEFT
        ):
            return 507, "There is no room for uploads right now; try again later."
        return None


def _is_foreign(path: str, method: str, headers: Mapping[str, str]) -> bool:
    """Return True if a page of another site sent a request, by its headers. A link may be followed from anywhere."""
    site, origin, host = headers.get("sec-fetch-site"), headers.get("origin"), headers.get("host", "")
    # a page without referrer may send "null" of itself
    if origin is not None and not (origin == "null" and site == "same-origin"):
        return not same_origin(origin, host)
    if site in ("cross-site", "same-site"):
        followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        return not (followed and method != "POST" and path in _LINKED)
    return path == "/logout" and "referer" in headers and not same_origin(headers["referer"], host)


async def _understood(app, scope, receive, send) -> None:
    """Call an app; what it did not foresee in a request is answered as a request that cannot be understood, not as a
    fault of the server.

    What is done with a request that was understood has sentences of its own, see ``GuardedBlocks``.
    """
    begun, answer = False, UNFORESEEN

    async def held(message) -> None:
        nonlocal begun
        begun = begun or (message["type"] == "http.response.start" and message["status"] != 500)
        if begun:
            await send(message)

    try:
        await app(scope, receive, held)
    except Exception as error:
        if begun:
            raise
        log.error("a request was not understood", exc_info=error)
        answer = _misgiven(error) or answer
    if not begun:
        await _answer(send, 400, answer)


def _is_range(value: bytes) -> bool:
    """Return True if a Range header names one part of a file; any other is answered with the whole file."""
    found = re.fullmatch(rb"bytes=(?:-\d{1,18}|(\d{1,18})-(\d{1,18})?)", value)
    return found is not None and int(found[1] or 0) <= int(found[2] or 10**18)


def _misgiven(error: Exception) -> str:
    """Return gradio's message for arguments of /call/v2 that are not the endpoint's; "" for any other error."""
    text = str(error).partition(". Please")[0]
    return (
        f"{text}; {_LISTED}"
        if isinstance(error, TypeError) and text.startswith(("Parameter `", "No value provided"))
        else ""
    )


def _limit_length(receive, most: int):
    """Return a ``receive`` that ends the request where it is longer than it may be."""
    left = most

    async def limited():
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return limited


def _headed(send):
    """Return a ``send`` that sets our headers instead of any of these names, and opens no answer to other sites."""
    ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    names = {name for name, _ in ours}

    async def headed(message) -> None:
        if message["type"] == "http.response.start":
            others = [
                (name, _own_cookie(value) if name.lower() == b"set-cookie" else value)
                for name, value in message.get("headers", ())
                if name.lower() not in names and not name.lower().startswith(b"access-control-")
            ]
            message = message | {"headers": [*others, *ours]}
        await send(message)

    return headed


def _own_cookie(value: bytes) -> bytes:
    """Return a cookie that other sites' requests do not bring along, but for a link that is followed."""
    return re.sub(rb"samesite=none", b"SameSite=lax", value, flags=re.IGNORECASE)


async def _answer(send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
