"""The start of the app: the page answers before networks are opened, and nothing is imported that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fastapi.testclient import TestClient

from mpsams import inference
from mpsams.app.application import create
from mpsams.app.main import shipped
from tests.support.server import ROOT

LATER = ("sklearn", "skimage", "matplotlib", "SimpleITK", "onnx", "onnxruntime", "scipy.stats", "nibabel", "pydicom")
IMPORTED = """
import ast, importlib, sys
def refuse(*_):
    raise AssertionError("gradio writes stub files")
ast.get_source_segment = refuse
importlib.import_module(sys.argv[1])
print(*(name for name in {later} if name in sys.modules))
"""


def test_the_page_answers_before_any_network_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(inference, "open_network", opened.append)
    with TestClient(create(shipped("weights")), base_url="http://localhost") as client:
        answer = client.get("/")
    assert answer.status_code == 200 and "data-theme-choice" in answer.text and opened == []


@pytest.mark.parametrize("module", ["app", "mpsams.app.events", "mpsams.app.components.theme"])
def test_libraries_that_the_page_does_not_need_are_imported_later(module):
    """Nor are gradio's stub files written, whichever module of the app is imported first."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(later=LATER), module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr[-2000:]
