"""The templates of the page: what is put into them is escaped, and only pictures and scripts of our own are not."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import Markup

import mpsams.app
from mpsams import inference
from mpsams.app import page
from mpsams.app.annotate import queue
from mpsams.app.components import html, slice_view
from mpsams.app.components.templates import environment, pieces, render
from mpsams.app.tabs import reconstruct, results
from mpsams.datasets import phantom
from mpsams.inference import open_case
from mpsams.inference.registry import ModelRegistry

APP = Path(mpsams.app.__file__).parent
HOSTILE, ESCAPED = '<img src="x" onerror=alert(1)>', "&lt;img src="
SAFE = {"picture", "one.picture", "event_stream"}  # SVG made by mpsams.plots, and a script of static/


@pytest.mark.parametrize(
    "shown",
    [
        lambda text: html.note(text),
        lambda text: html.notes(["first", text]),
        lambda text: html.toast(text),
        lambda text: html.taught_on(("ultrasound", text, 1), "axial"),
        lambda text: html.trained_elsewhere([(text, "lesion", 1)], "ct", {}),
        lambda text: html.assistant({"data": {"target": text}}, {}),
        lambda text: queue.bar(0.5, text, text),
        lambda text: queue.done(SimpleNamespace(items=list, last_lines=lambda count: [{"action": text, "time": "x"}])),
        lambda text: page.unusable_weights(SimpleNamespace(unusable_files=lambda: {text: text})),
        lambda text: pieces().figure("<svg></svg>", text, text),
        lambda text: pieces().key(("truth", text, text)),
        lambda text: pieces().table([text], [[text, text]]),
        lambda text: pieces().data("slice", text),
    ],
)
def test_text_from_elsewhere_is_escaped(shown):
    found = shown(HOSTILE)
    assert isinstance(found, Markup) and ESCAPED in found and "<img" not in found


def test_names_of_images_and_networks_are_escaped(tmp_path, monkeypatch):
    registry = ModelRegistry(tmp_path)
    case = open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))
    object.__setattr__(case, "title", HOSTILE)
    assert ESCAPED in slice_view.current_slice(case) and "<img" not in slice_view.current_slice(case)
    assert "<img" not in slice_view.gallery([case], []).replace('<img src="data:', "")

    def refuse(*arguments):
        raise inference.NotFinite("no numbers")

    monkeypatch.setattr(reconstruct, "networks_for", lambda case, registry: {"-base-pretrain": HOSTILE})
    monkeypatch.setattr(reconstruct, "draw_reconstruction", refuse)
    found = reconstruct.view(case, 100, "first", SimpleNamespace(network=lambda name: None))
    assert ESCAPED in found and "<img" not in found


def test_names_of_files_of_records_are_escaped(monkeypatch):
    there = SimpleNamespace(plans={}, wrong=(HOSTILE,))
    monkeypatch.setattr(results, "find_records", lambda registry: there)
    tab = SimpleNamespace(registry=None, nothing="nothing", body="body")
    (found,) = results.ResultsTab._fill(tab, {})
    assert ESCAPED in found["nothing"] and "<img" not in found["nothing"]


def test_a_template_is_compiled_once():
    assert environment().get_template("pieces.html") is environment().get_template("pieces.html")
    assert pieces() is pieces() and render("footer") == render("footer")


def test_only_pictures_and_our_scripts_are_put_into_templates_as_they_are():
    for path in (APP / "templates").rglob("*.html"):
        found = re.findall(r"([\w.]+|\"[^\"]*\") \| safe", path.read_text(encoding="utf-8"))
        assert {name for name in found if not name.startswith('"')} <= SAFE, path


def test_no_module_escapes_by_hand():
    for path in APP.rglob("*.py"):
        assert not re.search(r"from html import escape|html\.escape\(", path.read_text(encoding="utf-8")), path
