"""Two readers in a headless Chromium: each annotates one project in a browser of their own, the second blind; then they
are compared.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams import metrics
from mpsams.annotation import protocol
from tests.support.browser import CHROMIUM, browser, idle  # noqa: F401
from tests.support.browser_annotate import WAIT, App, annotate, cleared, do, drawn, ids, opened, stroke  # noqa: F401
from tests.support.canvas import held
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"),
    pytest.mark.filterwarnings("ignore"),
]
PICTURES = ("picture 0", "picture 1")
PATHS = {"picture 0": ((30, 30), (90, 60)), "picture 1": ((40, 60), (110, 60))}
SHIFT = {"picture 0": 4, "picture 1": 40}  # of the second reader's stroke, in pixels


@pytest.fixture
def app(ids, small_weights):  # noqa: F811
    made = App(ids["folder"], small_weights)
    made.start()
    yield made
    made.stop()


def visit(page, app, query: str) -> None:
    """Open an address of the app and wait for its image."""
    page.goto(f"{app.address}/?{query}", wait_until="domcontentloaded")
    annotate(page)


def show(page, id: str) -> None:
    """Open an image from the list and wait until the canvas and the class bar have it."""
    page.locator(".images [data-set=state][value=all]").check(force=True)
    page.locator(f"#annotate-queue [data-item='{id}']").click(timeout=WAIT)
    page.wait_for_function(
        "id => document.querySelector('#annotate .annotate').parentElement.snapshot()?.key.startsWith(id) &&"
        " document.querySelector('.image-class').dataset.item === id",
        arg=id,
        timeout=WAIT,
    )


def outline(page, id: str, path, image_class: str) -> np.ndarray:
    """Draw a stroke as the mask of an image, give it a class, accept it; return the mask."""
    show(page, id)
    cleared(page)
    mask_hw = stroke(page, path, "r", 15)
    page.locator(f".image-class [data-class={image_class}]").click()
    page.wait_for_function(
        "name => document.querySelector('.image-class [aria-pressed=true]')?.dataset.class === name",
        arg=image_class,
        timeout=WAIT,
    )
    assert np.array_equal(drawn(page), mask_hw)
    page.wait_for_function("() => document.querySelector('#annotate .annotate').dataset.saved === 'kept'", timeout=WAIT)
    do(page, "accept")
    page.wait_for_function(
        "id => !document.querySelector('#annotate .annotate').parentElement.snapshot().key.startsWith(id)",
        arg=id,
        timeout=WAIT,
    )
    return mask_hw


# Keeps all texts that the page gets from the app.
HEAR = """window.heard = [];
const parse = JSON.parse;
JSON.parse = (text, ...rest) => { window.heard.push(String(text)); return parse(text, ...rest); };
Response.prototype.json = async function () { return JSON.parse(await this.text()); };"""


def test_two_readers_annotate_blind_and_are_compared(browser, app, ids):  # noqa: F811
    with opened(browser, app.address) as first, opened(browser, app.address) as second:
        masks = {"first": {name: outline(first, ids[name], PATHS[name], "benign") for name in PICTURES}}
        first.locator(".readers summary").click()
        first.locator("#reader-name").fill("Clara")
        first.get_by_role("button", name="Begin").click()
        first.wait_for_url("**reader=Clara**", timeout=WAIT)
        annotate(first)
        first.locator(".readers").get_by_text("blind", exact=True).wait_for(timeout=WAIT)

        second.add_init_script(HEAR)
        visit(second, app, "tab=annotate&reader=Clara")
        second.wait_for_function(
            "() => document.querySelector('[data-part=done]').textContent === '0 of 4 accepted'", timeout=WAIT
        )
        masks["second"] = {}
        for name, image_class in zip(PICTURES, ("benign", "malignant"), strict=True):
            show(second, ids[name])
            assert (
                second.locator("[data-part=take]").is_hidden() and second.locator("[data-action=readers]").is_hidden()
            )
            assert second.locator(".image-class [aria-pressed=true]").count() == 0
            shift = SHIFT[name]
            masks["second"][name] = outline(second, ids[name], [(x, y + shift) for x, y in PATHS[name]], image_class)
        assert "reader=Clara" in second.url
        messages = second.evaluate("() => window.heard.join('\\n')")
        assert ids["picture 0"] in messages and "slice_view" in messages
        for name in PICTURES:
            assert protocol.pack(masks["first"][name]) not in messages, (
                "the blind reader's page got the first reader's mask"
            )
        second.reload(wait_until="domcontentloaded")
        annotate(second)
        second.wait_for_function(
            "() => document.querySelector('[data-part=done]').textContent === '2 of 4 accepted'", timeout=WAIT
        )
        own = app.project / "readers" / "Clara"
        for name in PICTURES:
            assert np.array_equal(app.on_disk(ids[name]), masks["first"][name])
            assert np.array_equal(np.asarray(Image.open(own / "masks" / f"{ids[name]}.png")) > 0, masks["second"][name])

        visit(first, app, "tab=annotate")
        first.get_by_text("blind, 2 of 4 accepted").wait_for(timeout=WAIT)
        first.get_by_role("button", name="Compare readers").click()
        first.wait_for_url("**reader=consensus**", timeout=WAIT)
        annotate(first)
        rows = first.locator(".agreement .rows tbody tr")
        rows.first.wait_for(timeout=WAIT)
        dsc = {name: metrics.case(masks["first"][name], masks["second"][name])["dsc"] for name in PICTURES}
        assert dsc["picture 1"] < dsc["picture 0"]
        assert [row.split() for row in rows.all_inner_texts()] == [
            ["1.png", f"{dsc['picture 1']:.2f}", *rows.first.inner_text().split()[2:4], "differs"],
            ["0.png", f"{dsc['picture 0']:.2f}", *rows.last.inner_text().split()[2:4], "same"],
        ]
        first.get_by_text("Same class in 1 of 2; Cohen’s kappa 0.00.").wait_for(timeout=WAIT)
        with first.expect_download(timeout=WAIT) as download:
            first.get_by_role("button", name="Download CSV").click()
        table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        assert [(row["id"], round(float(row["dsc"]), 4)) for row in table] == [
            (ids[name], round(dsc[name], 4)) for name in ("picture 1", "picture 0")
        ]

        rows.last.get_by_role("button").click()
        first.wait_for_function(
            "id => document.querySelector('#annotate .annotate').parentElement.snapshot()?.key.startsWith(id)",
            arg=ids["picture 0"],
            timeout=WAIT,
        )
        assert first.locator(".readers-key > span").all_inner_texts() == ["first reader: benign", "Clara: benign"]
        one, other = masks["first"]["picture 0"], masks["second"]["picture 0"]
        assert np.array_equal(drawn(first), one & other)
        for label, mask_hw in (
            ("What any reader outlines", one | other),
            ("Use the mask of Clara", other),
            ("Use the mask of first reader", one),
            ("What all readers outline", one & other),
        ):
            first.get_by_role("button", name=label, exact=True).click()
            first.wait_for_function(
                "packed => document.querySelector('#annotate .annotate').parentElement.snapshot().mask === packed",
                arg=protocol.pack(mask_hw),
                timeout=WAIT,
            )
        first.keyboard.press("v")
        assert first.locator("[data-action=readers]").get_attribute("aria-pressed") == "false"
        first.get_by_role("button", name="What any reader outlines", exact=True).click()
        first.wait_for_function(
            "packed => document.querySelector('#annotate .annotate').parentElement.snapshot().mask === packed",
            arg=protocol.pack(one | other),
            timeout=WAIT,
        )
        first.wait_for_function(
            "() => document.querySelector('#annotate .annotate').dataset.saved === 'kept'", timeout=WAIT
        )

        first.get_by_role("button", name="Make consensus").click()
        first.get_by_text("1 image of 4 has a consensus by majority now.").wait_for(timeout=WAIT)
        both = app.project / "readers" / "consensus" / "masks"
        assert np.array_equal(np.asarray(Image.open(both / f"{ids['picture 0']}.png")) > 0, one | other), (
            "what a person chose stays"
        )
        assert np.array_equal(
            np.asarray(Image.open(both / f"{ids['picture 1']}.png")) > 0,
            masks["first"]["picture 1"] & masks["second"]["picture 1"],
        )
        first.get_by_role("button", name="Export all").click()
        first.get_by_role("radio", name="All that have a mask").check()
        with first.expect_download(timeout=WAIT) as download:
            first.get_by_role("button", name="Download as a zip").click()
        with zipfile.ZipFile(download.value.path()) as exported:
            found = np.asarray(Image.open(io.BytesIO(exported.read("masks/0.png")))) > 0
        assert np.array_equal(found, one | other)
        assert held(first)["key"].startswith(ids["picture 0"])
    wait_until(lambda: np.array_equal(app.on_disk(ids["picture 0"]), one))


def test_a_reader_who_is_not_blind_begins_with_the_first_readers_mask_and_an_unknown_one_sees_nothing(
    browser, app, ids
):  # noqa: F811
    with opened(browser, app.address) as page:
        mask_hw = outline(page, ids["picture 2"], ((50, 50), (100, 80)), "benign")
        page.locator(".readers summary").wait_for(timeout=WAIT)
        if not page.locator("#reader-name").is_visible():
            page.locator(".readers summary").click()
        page.locator("#reader-name").fill("Dora")
        page.locator(".readers [type=checkbox]").uncheck()
        page.get_by_role("button", name="Begin").click()
        page.wait_for_url("**reader=Dora**", timeout=WAIT)
        annotate(page)
        show(page, ids["picture 2"])
        assert page.locator(".readers-key > span").all_inner_texts() == ["first reader: benign"]
        page.get_by_role("button", name="Use the mask of first reader").click()
        page.wait_for_function(
            "packed => document.querySelector('#annotate .annotate').parentElement.snapshot().mask === packed",
            arg=protocol.pack(mask_hw),
            timeout=WAIT,
        )
        own = app.project / "readers" / "Dora" / "masks" / f"{ids['picture 2']}.png"
        wait_until(own.exists)
        assert np.array_equal(np.asarray(Image.open(own)) > 0, mask_hw)
        page.goto(f"{app.address}/?tab=annotate&reader=Nobody", wait_until="domcontentloaded")
        page.get_by_text("Reader 'Nobody'").or_(page.get_by_text("reader 'Nobody'")).first.wait_for(timeout=WAIT)
        idle(page)
        assert page.locator(".toast-body").inner_text().count("'Nobody'") == 1
        assert (
            page.locator("#annotate .annotate.open").count() == 0 and page.locator("#annotate-queue .row").count() == 0
        )
