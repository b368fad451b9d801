"""The classes of a project in a headless Chromium: given by key and click, undone, edited, exported; initials outlast a
reload.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from mpsams.annotation import classes
from mpsams.annotation.project import Project
from tests.support.browser import CHROMIUM, browser  # noqa: F401
from tests.support.browser_annotate import WAIT, annotate, app, do, ids, page  # noqa: F401
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"),
    pytest.mark.filterwarnings("ignore"),
]
INITIALS = "#annotate-side .initials :is(input, textarea)"


def current(page) -> str:  # noqa: F811
    return page.locator(".image-class").get_attribute("data-item")


def shown(page, name: str, image: str) -> None:  # noqa: F811
    """Wait until the image on screen has a class, "" for none."""
    pressed = "[...document.querySelectorAll('.image-class [aria-pressed=true]')].map(one => one.dataset.class).join()"
    page.wait_for_function(
        f"([name, image]) => document.querySelector('.image-class').dataset.item === image && {pressed} === name",
        arg=[name, image],
        timeout=WAIT,
    )


def classified(app, id: str) -> list[tuple[str, str]]:  # noqa: F811
    return [(row["image_class"], row["user"]) for row in app.log(id) if row["action"] == "classified"]


def test_a_class_is_given_by_key_and_click_undone_and_exported(page, app, ids):  # noqa: F811
    page.locator(".image-class [data-class]").first.wait_for(timeout=WAIT)
    page.locator(INITIALS).press_sequentially("AB")
    first = current(page)
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("6")
    shown(page, "malignant", first)
    page.keyboard.press("1")  # a tool's key
    page.locator(".image-class [data-class=benign]").click()
    shown(page, "benign", first)
    page.locator(".image-class [data-class=benign]").click()
    shown(page, "", first)
    page.locator(".image-class").get_by_role("button", name="Undo").click()
    shown(page, "benign", first)
    assert classified(app, first) == [("malignant", "AB"), ("benign", "AB"), ("", "AB"), ("benign", "AB")]
    assert page.locator("[data-tool=eraser]").get_attribute("aria-pressed") == "true"
    page.reload(wait_until="domcontentloaded")
    annotate(page)
    page.wait_for_function("field => document.querySelector(field).value === 'AB'", arg=INITIALS, timeout=WAIT)


def test_a_key_right_after_skip_is_for_the_next_image(page, app, ids):  # noqa: F811
    first = current(page)
    before = classified(app, first)
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("n")
    page.keyboard.press("7")
    page.wait_for_function(
        "first => document.querySelector('.image-class').dataset.item !== first", arg=first, timeout=WAIT
    )
    shown(page, "normal", current(page))
    assert classified(app, first) == before


def test_classes_are_edited_and_used(page, app, ids):  # noqa: F811
    page.locator(".image-class").get_by_role("button", name="Edit").click(timeout=WAIT)
    page.get_by_role("button", name="Add a class").click()
    page.keyboard.type("a/b")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("class 'a/b'; allowed are").wait_for(timeout=WAIT)
    page.locator(".image-class").get_by_role("button", name="Edit").click()
    page.get_by_role("button", name="Add a class").click()
    page.keyboard.type("BI-RADS 3")
    page.locator(".class-sheet .key").last.fill("k")
    page.get_by_role("button", name="Save").click()
    page.locator(".image-class [data-class='BI-RADS 3'][data-key=k]").wait_for(timeout=WAIT)
    id = current(page)
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("k")
    shown(page, "BI-RADS 3", id)
    page.get_by_role("button", name="Export all").click()
    page.get_by_role("radio", name="Folders as in BUSI").check()
    page.get_by_role("radio", name="All that have a mask").check()
    do(page, "clear")
    wait_until(lambda: any(row["action"] == "saved" for row in app.log(id)))
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download as a zip").click()
    with zipfile.ZipFile(Path(download.value.path())) as file:
        rows = {row["id"]: row for row in csv.DictReader(io.StringIO(file.read("names.csv").decode()))}
        assert (
            rows[id]["class"] == "BI-RADS 3" and rows[id]["mask"] == f"BI-RADS 3/{Path(rows[id]['name']).stem}_mask.png"
        )
        assert rows[id]["mask"] in file.namelist()
    app.stop()
    with Project(app.project) as project:
        assert [one.name for one in classes.defined(project)] == [
            "benign",
            "malignant",
            "normal",
            "BI-RADS 3",
        ] and project.item(id).image_class == "BI-RADS 3"
    app.start()
