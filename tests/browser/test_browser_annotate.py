"""The Annotate tab of the running app in a headless Chromium: what is drawn is on the disk, in the export and on the
page again, to the pixel.

Axes: X, Y, Z voxels as stored; S slices of H x W pixels as shown.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from mpsams.annotation.project import Project
from mpsams.imaging import geometry
from tests.support.browser import CHROMIUM, browser, frames, idle  # noqa: F401
from tests.support.browser_annotate import (  # noqa: F401
    WAIT,
    App,
    annotate,
    app,
    cleared,
    do,
    drawn,
    ids,
    opened,
    page,
    shape_of,
    stroke,
)
from tests.support.canvas import held, saved
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"),
    pytest.mark.filterwarnings("ignore"),
]


def pick(page, id: str, focus: bool = True) -> None:
    """Choose an image in the queue, whatever its status, and wait for its sheet. focus: also focus the canvas."""
    page.locator("[data-set=state][value=all]").check()
    page.locator(f".row[data-item='{id}']").click(timeout=WAIT)
    page.wait_for_function(
        "id => document.querySelector('#annotate .annotate').parentElement.snapshot().key.startsWith(id)",
        arg=id,
        timeout=WAIT,
    )
    page.locator(f".row[data-item='{id}'][aria-current=true]").wait_for(timeout=WAIT)
    if focus:
        page.locator("[data-part=stage]").focus()
    frames(page)


def wait_for_note(page, words: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('[data-part=note]').textContent.includes(words)", arg=words, timeout=WAIT
    )


def answered(page) -> None:
    """Wait until the app has answered the last command."""
    page.locator(".annotate:not(.busy)").wait_for(timeout=WAIT)


def exported(page, form: str) -> zipfile.ZipFile:
    if not page.get_by_role("button", name="Download as a zip").is_visible():
        page.get_by_role("button", name="Export").click()
    page.get_by_role("radio", name=form).check()
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download as a zip").click()
    return zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))


@pytest.mark.parametrize(
    "query, tab", [("", "Annotate"), ("?step=4&sample=t1-brain-nifti-volume", "Learn"), ("?step=99", "Annotate")]
)
def test_with_a_project_the_page_opens_on_it_and_a_link_opens_what_it_names(browser, app, query, tab):  # noqa: F811
    with browser.new_page() as page:
        page.goto(f"{app.address}/{query}", wait_until="domcontentloaded")
        at_step = "() => JSON.parse(document.querySelector('#learn [data-state]')?.dataset.state || '{}').step === 4"
        if "99" in query:
            page.get_by_role("alert").get_by_text("cannot be opened").wait_for(timeout=WAIT)
        else:
            page.wait_for_function(
                at_step if tab == "Learn" else "() => document.querySelector('.annotate.open')", timeout=WAIT
            )
        idle(page)
        assert page.locator("[role=tab][aria-selected=true]").first.inner_text() == tab
        assert page.locator(".annotate.open").count() == (not query)
        if tab == "Learn":
            assert "T1 brain" in page.locator("#shown").inner_text()


def test_a_picture_is_corrected_saved_opened_again_accepted_and_exported_to_the_pixel(page, app, ids):
    id = ids["picture 0"]
    pick(page, id)
    height, width = shape_of(page)
    cleared(page)  # of the untrained network's proposal
    added = stroke(page, [(0.3 * width, 0.3 * height), (0.6 * width, 0.4 * height)], "r", 12)
    assert np.array_equal(drawn(page), added)
    expected = added & ~stroke(page, [(0.5 * width, 0.2 * height), (0.4 * width, 0.6 * height)], "e", 8)
    assert np.array_equal(drawn(page), expected) and 0 < expected.sum() < added.sum()
    stroke(page, [(0.1 * width, 0.8 * height), (0.9 * width, 0.8 * height)], "r", 18)
    assert drawn(page).sum() > expected.sum() + 1000
    page.keyboard.press("Control+z")
    assert np.array_equal(drawn(page), expected)
    saved(page, "saved on disk")
    assert np.array_equal(app.on_disk(id), expected)
    page.reload(wait_until="domcontentloaded")
    annotate(page)
    pick(page, id)
    assert np.array_equal(drawn(page), expected)
    app.stop()
    with Project(app.project) as project:
        assert np.array_equal(project.mask(id)[:, :, 0].T, expected)
    page.goto("about:blank")
    app.start()
    page.goto(app.address, wait_until="domcontentloaded")
    annotate(page)
    pick(page, id)
    assert np.array_equal(drawn(page), expected)
    do(page, "accept")
    wait_for_note(page, "Accepted")
    assert app.log(id)[-1]["action"] == "accepted" and not held(page)["key"].startswith(id)
    with exported(page, "Images and masks").open("masks/0.png") as file:
        assert np.array_equal(np.asarray(Image.open(file)) > 0, expected)


def test_keys_work_after_a_choice_in_the_list_and_enter_is_taken_back(page, app, ids):
    """No click that would paint is needed: after the list, the keys are for the image.

    Ctrl+Z takes back Enter; the comma shows the image before.
    """
    first, second = ids["picture 1"], ids["picture 2"]
    pick(page, second, focus=False)
    pick(page, first, focus=False)
    page.mouse.move(5, 5)
    if drawn(page).any():
        do(page, "clear")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Enter")
    wait_for_note(page, "Nothing is outlined")
    for key in ("Enter", "a"):
        answered(page)
        page.keyboard.press(key)
    answered(page)
    assert app.log(first)[-1]["action"] != "accepted"
    page.keyboard.press(",")
    wait_until(lambda: held(page)["key"].startswith(second))
    answered(page)
    page.keyboard.press(",")
    wait_until(lambda: not held(page)["key"].startswith(second))
    pick(page, first, focus=False)
    answered(page)
    page.wait_for_function("() => document.activeElement.matches('[data-part=stage]')", timeout=WAIT)
    assert not drawn(page).any() and page.locator("[data-action=empty]").is_visible()
    page.keyboard.press("Shift+Enter")
    wait_for_note(page, "Accepted; Undo (Ctrl+Z) takes that back.")
    answered(page)
    assert app.log(first)[-1]["action"] == "accepted" and not held(page)["key"].startswith(first)
    page.keyboard.press("Control+z")
    wait_for_note(page, "Open again.")
    wait_until(lambda: held(page)["key"].startswith(first))
    assert app.log(first)[-1]["action"] == "reopened" and page.locator("[data-part=status]").inner_text() == "in work"


def test_the_lines_of_a_row_stand_one_below_the_other(page, ids):
    """The name, its class and seconds, and the bar of its doubt."""
    heights = """id => {
        const row = document.querySelector(`.row[data-item='${id}']`);
        row.querySelector('small').textContent = 'benign \u00b7 volume \u00b7 211 s';
        if (!row.querySelector('s')) row.append(document.createElement('s'));
        const boxes = [...row.querySelectorAll('span, small, s')].map(part => part.getBoundingClientRect());
        return boxes.flatMap(box => [box.top, box.bottom]).map(y => y - row.getBoundingClientRect().top);
    }"""
    found = page.evaluate(heights, ids["picture 1"])
    assert len(found) == 6 and found == sorted(found) and found[-1] <= 54


def test_the_list_is_searched_selected_by_keys_and_changed_at_once_after_a_question(page, app, ids):
    """Ctrl, Shift and keys select; a question says how many; counts and the canvas follow, and a list in another tab
    too.
    """
    pick(page, ids["picture 0"])
    count = len(app.items())
    page.get_by_role("radio", name="All", exact=True).locator("visible=true").check()
    page.wait_for_function(
        "count => document.querySelectorAll('.queue .row').length === count", arg=count, timeout=WAIT
    )
    page.wait_for_function(
        "() => [...document.querySelectorAll('.queue .thumbnail')].every(one => one.style.backgroundImage)",
        timeout=WAIT,
    )
    page.get_by_role("searchbox", name="Search by name").fill("1.png")
    assert page.locator(".queue .row").evaluate_all("rows => rows.map(row => row.dataset.item)") == [ids["picture 1"]]
    page.get_by_role("button", name="Show all").click()
    page.locator("[data-set=order]").select_option("added")
    page.locator(f".row[data-item='{ids['picture 1']}']").click(modifiers=["Control"])
    assert page.locator("[data-part=selected]").inner_text() == "1 selected" and held(page)["key"].startswith(
        ids["picture 0"]
    )
    page.keyboard.press("Shift+ArrowDown")
    assert page.locator("[data-part=selected]").inner_text() == "2 selected"
    page.locator("[data-batch=skip]").click()
    assert page.get_by_text("Skip 2 images?").is_visible()
    page.get_by_role("button", name="Cancel").click()
    assert page.get_by_text("Skip 2 images?").is_hidden() and not any(
        row["action"] == "skipped" for row in app.log(ids["picture 2"])[-1:]
    )
    page.locator("[data-batch=skip]").click()
    page.get_by_role("button", name="Skip 2 images").click()
    page.get_by_text("2 images skipped.").wait_for(timeout=WAIT)
    assert [app.log(ids[f"picture {number}"])[-1]["action"] for number in (1, 2)] == ["skipped", "skipped"]
    left = sum(status not in ("accepted", "skipped") for status in app.items().values())
    page.wait_for_function(
        "left => document.querySelector('[data-part=count-open]').textContent === String(left)", arg=left, timeout=WAIT
    )
    assert page.locator("[data-part=left]").inner_text().startswith(f"{left} left")
    page.get_by_role("radio", name="Skipped", exact=True).locator("visible=true").check()
    page.locator(".queue").focus()
    page.keyboard.press("Control+a")
    page.locator("[data-batch=reopen]").click()
    page.locator("[data-part=yes]").click()
    page.get_by_text("reopened.").wait_for(timeout=WAIT)
    page.wait_for_function(
        "() => document.querySelector('[data-part=count-skipped]').textContent === '0'", timeout=WAIT
    )


def test_one_slice_of_an_oblique_volume_and_what_is_done_to_its_neighbours(page, app, ids):
    """Drawn in a slice, left and come back to, copied, carried on, removed again, skipped, reopened, accepted,
    exported.
    """
    id, scan = ids["volume"], ids["scan"]
    pick(page, id)
    aspect = scan.spacing("axial")[1] / scan.spacing("axial")[2]
    height, width = shape_of(page)
    expected = np.zeros(scan.voxels_xyz.shape, bool)
    slices = geometry.radiological_view(expected, scan.affine, "axial")
    first = int(page.locator("[data-part=slice]").inner_text().split(" / ")[0]) - 1

    def at(index: int) -> None:
        wait_until(
            lambda: (
                page.locator("[data-part=slice]").inner_text() == f"{index + 1} / {len(slices)}"
                and held(page)["key"].endswith(f".{index}")
            )
        )

    assert not drawn(page).any()
    slices[first] = stroke(page, [(0.3 * width, 0.3 * height), (0.6 * width, 0.7 * height)], "r", 5, aspect)
    assert np.array_equal(drawn(page), slices[first]) and slices[first].any()
    page.keyboard.press("PageDown")
    at(first + 1)
    assert not drawn(page).any()
    do(page, "below")
    wait_for_note(page, f"Copied from slice {first + 1}")
    assert np.array_equal(drawn(page), slices[first])
    page.keyboard.press("Control+z")
    assert not drawn(page).any()
    page.keyboard.press("PageUp")
    at(first)
    assert np.array_equal(drawn(page), slices[first])
    page.locator("[data-part=count]").fill("2")
    page.locator("[data-part=way]").select_option("-1")
    do(page, "propagate")
    wait_for_note(page, f"Carried on to 2 slices, {first - 1} to {first}")
    assert np.array_equal(drawn(page), slices[first])
    for index in (first - 1, first - 2):
        page.locator("[data-part=stage]").focus()
        page.keyboard.press("PageUp")
        at(index)
        assert drawn(page).any()
        cleared(page)
        saved(page, "saved on disk")
    do(page, "skip")
    wait_for_note(page, "Skipped")
    assert app.log(id)[-1]["action"] == "skipped"
    pick(page, id)
    do(page, "reopen")
    page.locator(".annotate [data-action=skip]").wait_for(timeout=WAIT)
    assert app.log(id)[-1]["action"] == "reopened"
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("Enter")
    wait_for_note(page, "Accepted")
    with exported(page, "Masks as NIfTI") as packed:
        (name,) = (one for one in packed.namelist() if "SECRET" in one)
        (ids["folder"] / "out.nii.gz").write_bytes(packed.read(name))
    out, source = nibabel.load(ids["folder"] / "out.nii.gz"), nibabel.load(next(ids["folder"].glob("*SECRET*.nii.gz")))
    assert np.array_equal(out.affine, source.affine) and out.shape == source.shape[:3]
    assert np.array_equal(np.asarray(out.dataobj) != 0, expected) and expected.any()


def test_of_two_at_one_image_the_second_is_refused_and_says_so_and_asks_no_more(browser, page, app, ids):  # noqa: F811
    id = ids["picture 1"]
    with opened(browser, app.address) as other:
        other.clock.install()
        pick(page, id)
        pick(other, id)
        height, width = shape_of(page)
        for one, row in ((page, 0.3), (other, 0.6)):
            cleared(one)
            sketched = stroke(one, [(0.2 * width, row * height), (0.7 * width, row * height)], "r", 12)
            if one is page:
                theirs = sketched
                saved(page, "saved on disk")
        saved(other, "not saved: what was drawn since ")
        assert "Someone else has saved this image" in other.locator("[data-part=note]").inner_text()
        assert np.array_equal(drawn(other), sketched) and np.array_equal(app.on_disk(id), theirs)
        requests = []
        other.on("request", lambda request: requests.append(request.url) if "queue/join" in request.url else None)
        other.clock.fast_forward(60_000)  # all that the page would try again later, it tries now
        idle(other)
        assert not requests and other.locator("[data-part=saved]").inner_text().startswith("not saved: ")
        if not other.get_by_role("button", name="Download the mask").is_visible():
            other.get_by_role("button", name="This image", exact=False).filter(has_text="This image").click()
        with other.expect_download(timeout=WAIT) as download:  # as the sentence advises
            other.get_by_role("button", name="Download the mask").click()
        assert np.array_equal(np.asarray(Image.open(download.value.path())) > 0, sketched)
        old = held(other)["key"]
        other.locator(f".row[data-item='{id}']").click()
        wait_until(lambda: held(other)["key"] != old)
        assert np.array_equal(drawn(other), theirs)
        both = theirs | stroke(other, [(0.2 * width, 0.8 * height), (0.7 * width, 0.8 * height)], "r", 12)
        saved(other, "saved on disk")
        assert np.array_equal(app.on_disk(id), both)


@pytest.mark.parametrize("leave", [True, False], ids=["the page is loaded again", "the page stays"])
def test_what_was_drawn_while_the_app_was_away_is_saved_by_the_new_page_and_the_old_one_says_so(page, app, ids, leave):
    """gradio loads the page again once the app answers; the browser asks first whether to leave.

    It is sent when the tab is open again.
    """
    id, dialogs = ids["picture 2"], []
    page.on("dialog", lambda dialog: [dialogs.append(dialog.type), dialog.accept() if leave else dialog.dismiss()])
    pick(page, id)
    cleared(page)
    saved(page, "saved on disk")
    app.stop()
    page.evaluate("document.querySelector('.annotate').dataset.answerTimeout = 500")
    height, width = shape_of(page)
    row = 0.3 if leave else 0.6
    expected = stroke(page, [(0.2 * width, row * height), (0.7 * width, row * height)], "r", 12)
    assert np.array_equal(drawn(page), expected)
    saved(page, "not saved yet, trying again")
    if not leave:
        with page.expect_event("dialog", timeout=WAIT):
            app.start()
        page.wait_for_function(
            "() => document.querySelector('[data-part=saved]').textContent.includes('Reload the page (Ctrl+R)')",
            timeout=WAIT,
        )
        assert np.array_equal(drawn(page), expected)
        return
    app.start()
    page.wait_for_function("() => !document.querySelector('.annotate.open')", timeout=WAIT)
    annotate(page)
    wait_until(lambda: np.array_equal(app.on_disk(id), expected))
    pick(page, id)
    wait_until(lambda: np.array_equal(drawn(page), expected))  # it may be the open one, shown as it was before
    more = expected | stroke(page, [(0.2 * width, 0.8 * height), (0.7 * width, 0.8 * height)], "r", 12)
    wait_until(lambda: np.array_equal(app.on_disk(id), more))
    assert dialogs == ["beforeunload"]


def test_without_a_project_what_is_drawn_can_be_taken_away(browser, app_address):  # noqa: F811
    with opened(browser, app_address) as page:
        height, width = shape_of(page)
        cleared(page)
        expected = stroke(page, [(0.3 * width, 0.3 * height), (0.6 * width, 0.4 * height)], "r", 12)
        expected |= stroke(page, [(0.3 * width, 0.7 * height), (0.6 * width, 0.5 * height)], "r", 3)
        saved(page, "kept in this tab")
        with page.expect_download(timeout=WAIT) as download:
            page.get_by_role("button", name="Download the mask").locator("visible=true").click()
        assert np.array_equal(np.asarray(Image.open(download.value.path())) > 0, expected) and np.array_equal(
            drawn(page), expected
        )
