"""What stands between strangers and the app: which addresses there are, how long a request may be, and headers on every answer.

gradio has more addresses than the page uses, some of which fetch what a request names; only those the page and
gradio_client use are let through.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

MAX_BODY = 16 * 2**20  # bytes of any request but an upload
ROOM_LEFT = 2**30  # bytes of the disk that uploads never take
_OVERHEAD = 2 * 2**20  # of a thousand files in one upload: their names and boundaries

HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    # gradio writes its settings into the page and makes functions of what gr.HTML is given, so 'unsafe-inline' and 'unsafe-eval' stay
    "Content-Security-Policy": "; ".join((
        "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:",
        "font-src 'self' data:", "media-src 'self' data: blob:", "worker-src 'self' blob:", "connect-src 'self'", "object-src 'none'",
        "base-uri 'self'", "form-action 'self'", "frame-src 'none'", "frame-ancestors 'none'",
    )),
}  # fmt: skip

_API = "/gradio_api/"
_READ = re.compile(
    rf"/|/(healthz|config/?|info/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt|pwa_icon(/.*)?|login_check/?|logout|(assets|static|svelte)/.*)"
    rf"|{_API}(info/?|startup-events|theme\.css|app_id/?|login_check/?|user/?|static/.*|queue/(data|status)|upload_progress|heartbeat/[^/]+"
    rf"|call/(v2/)?[^/]+/[^/]+|file=(?![A-Za-z][A-Za-z0-9+.-]+:).*)",
    re.DOTALL,
)
_WRITE = re.compile(rf"/login/?|{_API}(upload|queue/join|call/(v2/)?[^/]+/?|cancel|reset/?|component_server/?)")
_UPLOAD = f"{_API}upload"


class Guard:
    """An ASGI app around another. max_upload: bytes of all files of a request. folder: where uploads lie."""

    def __init__(self, app, max_upload: int, folder: Path) -> None:
        self.app, self.max_upload, self.folder = app, max_upload, Path(folder)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        most = self.max_upload + _OVERHEAD if scope["path"] == _UPLOAD else MAX_BODY
        await self.app(scope, _measured(receive, most), _headed(send))

    def _refusal(self, scope) -> tuple[int, str] | None:
        """Status and sentence of what is refused before anything reads it."""
        path, method, said = scope["path"], scope["method"], dict(scope["headers"])
        allowed = {"GET": _READ, "HEAD": _READ, "POST": _WRITE}.get(method)
        if allowed is None or not allowed.fullmatch(path):
            return 404, "There is no such page here."
        if method != "POST":
            return None
        if said.get(b"sec-fetch-site") == b"cross-site":
            return 403, "Another site sent this request, which is not allowed."
        length, upload = said.get(b"content-length", b""), path == _UPLOAD
        if not length.isdigit():
            return 411, "A request has to say how long it is."
        most = self.max_upload + _OVERHEAD if upload else MAX_BODY
        if int(length) > most:
            what = f"files of up to {self.max_upload / 2**20:g} MiB together" if upload else f"requests of up to {MAX_BODY >> 20} MiB"
            return 413, f"This is too large; allowed are {what}."
        if upload and shutil.disk_usage(self.folder if self.folder.is_dir() else self.folder.parent).free < int(length) + ROOM_LEFT:
            return 507, "There is no room for uploads right now; try again later."
        return None


def _measured(receive, most: int):
    """The request, which ends where it is longer than it may be."""
    left = most

    async def limited():
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return limited


def _headed(send):
    """The answer with our headers in place of those of the same names."""
    ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    names = {name for name, _ in ours}

    async def headed(message) -> None:
        if message["type"] == "http.response.start":
            others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
            message = message | {"headers": [*others, *ours]}
        await send(message)

    return headed


async def _answer(send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await _headed(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
