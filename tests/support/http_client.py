"""Requests and uploads to a running app."""

from __future__ import annotations

import json

import httpx

FILE = {"meta": {"_type": "gradio.FileData"}}


def upload(http: httpx.Client, data: bytes = b"x" * 32) -> dict:
    return FILE | {"path": http.post("/gradio_api/upload", files={"files": ("x.png", data)}).json()[0]}


def call_error(http: httpx.Client, endpoint: str, values: list) -> str:
    """The error an endpoint answers with, "" when there is none."""
    sent = http.post(
        f"/gradio_api/call/{endpoint}",
        content=json.dumps({"data": values}),
        headers={"Content-Type": "application/json"},
    )
    assert sent.status_code == 200, sent.text
    answer = http.get(f"/gradio_api/call/{endpoint}/{sent.json()['event_id']}").text
    return "" if "event: complete" in answer else json.loads(answer.partition("data: ")[2])["error"]
