"""Several structures in a headless Chromium: defined, drawn with real mouse events, kept apart, reloaded, accepted,
exported.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import protocol, structures
from mpsams.annotation.project import Project
from mpsams.datasets import phantom
from tests.support.annotated import volume
from tests.support.browser import CHROMIUM, browser  # noqa: F401
from tests.support.browser_annotate import WAIT, App, annotate, do, opened, shape_of, stroke
from tests.support.canvas import held, page_point
from tests.support.label_maps import organ
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory, small_weights):
    """The app with a project of two ultrasound phantoms and a volume."""
    folder = tmp_path_factory.mktemp("structures")
    with Project(folder / "project") as project:
        for number in range(2):
            image_hw, _ = phantom.ultrasound(14 + number)
            Image.fromarray((image_hw * 255).astype(np.uint8)).save(folder / f"{number}.png")
            project.add(folder / f"{number}.png")
        volume(folder)
        project.add(next(folder.glob("*.nii.gz")), "ct")
    made = App(folder, small_weights)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def page(browser, app):  # noqa: F811
    with opened(browser, app.address) as page:
        yield page


def labels(page) -> np.ndarray:
    """The label map on the canvas, uint8 (H, W)."""
    return protocol.unpack_labels(held(page)["mask"], shape_of(page))


def on_disk(app: App, id: str) -> np.ndarray:
    path = app.project / "masks" / f"{id}.png"
    return np.asarray(Image.open(path)) if path.exists() else np.zeros(0)


def image_id(page) -> str:
    return held(page)["key"][:16]


def saved(page, app: App) -> None:
    """Wait until what is drawn is in the project's file."""
    id, map_hw = image_id(page), labels(page)
    wait_until(lambda: np.array_equal(on_disk(app, id), map_hw))


def define(page, first: str, second: str, key: str) -> None:
    """Rename the only structure and add another one in the page's sheet."""
    page.locator("[data-action=structures]").click(timeout=WAIT)
    page.locator(".class-sheet .name").first.fill(first)
    page.get_by_role("button", name="Add a structure").last.click()
    page.keyboard.type(second)
    page.locator(".class-sheet .key").last.fill(key)
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.locator(".structures button").nth(1).wait_for(timeout=WAIT)


def ensure_two(page) -> list[str]:
    """The names of the page's two structures, of which ``k`` chooses the second; defined here if there is one."""
    if page.locator(".structures button").count() < 2:
        define(page, "gland", "tumour", "k")
    page.locator("[data-part=stage]").focus()
    return page.locator(".structures button span").all_inner_texts()


def chosen(page) -> str:
    return page.locator(".structures [aria-pressed=true] span").inner_text()


def test_two_structures_are_drawn_kept_apart_reloaded_accepted_and_exported(page, app):
    assert ensure_two(page) == ["gland", "tumour"] and chosen(page) == "gland"
    do(page, "clear")
    gland = stroke(page, [(60, 60), (120, 90)], "r", 40)
    page.keyboard.press("k")
    assert chosen(page) == "tumour"
    tumour = stroke(page, [(90, 75), (100, 80)], "r", 15)
    expected = np.where(tumour, 2, np.where(gland, 1, 0))
    assert np.array_equal(labels(page), expected)
    rubbed = stroke(page, [(70, 60), (110, 90)], "e", 15)  # of the tumour alone
    erased = np.where(rubbed & tumour, 0, expected)
    assert np.array_equal(labels(page), erased)
    page.keyboard.press("Control+z")
    assert np.array_equal(labels(page), expected)
    page.keyboard.press("Control+y")
    assert np.array_equal(labels(page), erased)
    page.keyboard.press("Control+z")
    saved(page, app)
    page.locator(".structures button").first.click()
    do(page, "holes")
    page.wait_for_function("() => !document.querySelector('.annotate').classList.contains('busy')", timeout=WAIT)
    assert np.array_equal(labels(page), expected)  # the tumour in the gland is no hole
    id = image_id(page)
    page.reload(wait_until="domcontentloaded")
    annotate(page)
    assert image_id(page) == id and np.array_equal(labels(page), expected)
    do(page, "accept")
    page.wait_for_function(
        "id => !document.querySelector('.annotate').parentElement.snapshot().key.startsWith(id)", arg=id, timeout=WAIT
    )
    assert np.array_equal(np.asarray(Image.open(app.project / "accepted" / "masks" / f"{id}.png")), expected)
    page.get_by_role("button", name="Export all").click()
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download as a zip").click()
    with zipfile.ZipFile(Path(download.value.path())) as file:
        assert json.loads(file.read("dataset.json"))["labels"] == {"background": 0, "gland": 1, "tumour": 2}
        mask = next(name for name in file.namelist() if name.startswith("masks/"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file.read(mask)))), expected)


def test_a_structure_in_use_is_kept_and_others_are_renamed_and_removed(page, app):
    first, second = ensure_two(page)
    page.keyboard.press("k")
    stroke(page, [(30, 30), (40, 30)], "r", 6)
    saved(page, app)
    page.locator("[data-action=structures]").click(timeout=WAIT)
    page.get_by_role("button", name="Remove this structure").last.click()
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.get_by_text(f"Structure '{second}' is in ").wait_for(timeout=WAIT)
    page.locator("[data-action=structures]").click()
    page.locator(".class-sheet .name").last.fill("cyst")
    page.get_by_role("button", name="Add a structure").last.click()
    page.keyboard.type("vessel")
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.locator(".structures button").nth(2).wait_for(timeout=WAIT)
    assert page.locator(".structures button span").all_inner_texts() == [first, "cyst", "vessel"]
    page.locator("[data-action=structures]").click()
    page.get_by_role("button", name="Remove this structure").last.click()
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.wait_for_function("() => document.querySelectorAll('.structures button').length === 2", timeout=WAIT)


def edit(page) -> None:
    page.locator("[data-action=structures]").click(timeout=WAIT)


def save_sheet(page, count: int) -> None:
    """Save the sheet of structures, and wait until so many are on the page."""
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.wait_for_function(
        "count => document.querySelectorAll('.structures button').length === count", arg=count, timeout=WAIT
    )


def test_a_structure_that_another_tab_removed_is_there_again_where_it_is_drawn(browser, page, app):  # noqa: F811
    ensure_two(page)
    edit(page)
    page.get_by_role("button", name="Add a structure").last.click()
    page.keyboard.type("nerve")
    key = page.locator(".class-sheet .key").last
    for value, message in (("b", "Free keys: q c j k l u y z"), ("K", "Two have this key.")):
        key.fill(value)
        page.locator(".class-sheet").get_by_role("button", name="Save").click()
        assert key.evaluate("field => field.validationMessage") == message  # the browser shows it, the sheet stays
        assert page.locator(".class-sheet .name").last.input_value() == "nerve"
    key.fill("z")
    save_sheet(page, 3)
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("z")
    assert chosen(page) == "nerve"
    volume_id = next(id for id in app.items() if (app.project / "images" / f"{id}.nii.gz").exists())
    with opened(browser, f"{app.address}/?tab=annotate&image={volume_id}") as other:
        edit(other)
        other.get_by_role("button", name="Remove this structure").last.click()
        save_sheet(other, 2)
        stroke(page, [(20, 60), (40, 60)], "r", 6)
        page.get_by_text("Structure 'nerve' was removed from the project meanwhile; it is defined again").wait_for(
            timeout=WAIT
        )
        saved(page, app)
        assert page.locator(".structures button span").all_inner_texts()[2] == "nerve" == chosen(page)
        stroke(page, [(20, 60), (40, 60)], "e", 22)  # of it all
        saved(page, app)
        to_slice(other, int(held(other)["key"].rpartition(".")[2]) + 1)
        other.wait_for_function("() => document.querySelectorAll('.structures button').length === 3", timeout=WAIT)
        edit(other)
        other.get_by_role("button", name="Remove this structure").last.click()
        save_sheet(other, 2)
        do(page, "proposal")
        page.get_by_text("The structure that you chose is not there any more; choose another one").wait_for(
            timeout=WAIT
        )
        page.wait_for_function("() => document.querySelectorAll('.structures button').length === 2", timeout=WAIT)
        assert chosen(page) != "nerve"


def test_a_sheet_keeps_what_another_tab_added_and_offers_no_key_of_a_class_or_structure(browser, page, app):  # noqa: F811
    names = ensure_two(page)
    edit(page)
    with opened(browser, app.address) as other:
        edit(other)
        other.get_by_role("button", name="Add a structure").last.click()
        other.keyboard.type("kidney")
        save_sheet(other, 3)
    page.get_by_role("button", name="Add a structure").last.click()
    page.keyboard.type("spleen")
    save_sheet(page, 4)
    assert sorted(page.locator(".structures button span").all_inner_texts()) == sorted([*names, "kidney", "spleen"])
    edit(page)
    for _ in range(2):
        page.get_by_role("button", name="Remove this structure").last.click()
    save_sheet(page, 2)
    used = [key.lower() for key in page.locator(".structures kbd").all_inner_texts()]
    page.locator(".image-class").get_by_role("button", name=re.compile("Edit|Define")).click(timeout=WAIT)
    page.get_by_role("button", name="Add a class").click()
    page.keyboard.type("cyst")
    key = page.locator(".class-sheet .key").last
    key.fill(used[0])
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    free = " ".join(one for one in "56789qcjkluyz" if one not in used)
    assert len(used) == 2 and key.evaluate("field => field.validationMessage") == f"Free keys: {free}"
    key.fill("l")
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    page.locator(".image-class [data-class=cyst][data-key=l]").wait_for(timeout=WAIT)
    edit(page)
    key = page.locator(".class-sheet .key").last
    key.fill("l")
    page.locator(".class-sheet").get_by_role("button", name="Save").click()
    assert "l" not in key.evaluate("field => field.validationMessage").removeprefix("Free keys: ").split()
    assert page.locator(".class-sheet").count() == 1


def test_scribbles_and_the_polygon_are_of_the_chosen_structure(page, app):
    _, second = ensure_two(page)
    stroke(page, [(80, 80), (110, 90)], "r", 33)
    page.keyboard.press("k")
    assert chosen(page) == second
    before = labels(page)
    page.keyboard.press("g")
    for point in [(90, 70), (130, 70), (130, 110), (90, 110)]:
        page.mouse.click(*page_point(page, *point))
    page.keyboard.press("Enter")
    with_polygon = labels(page)
    inside = np.zeros(before.shape, bool)
    inside[72:108, 92:128] = True  # all but the pixels on its edges
    changed = with_polygon != before
    assert (with_polygon[inside] == 2).all() and (with_polygon[changed] == 2).all() and (before[inside] == 1).any()
    stroke(page, [(60, 60), (70, 70)], "s", 6)
    page.wait_for_function(
        "before => document.querySelector('.annotate').parentElement.snapshot().mask !== before",
        arg=protocol.pack_labels(with_polygon),
        timeout=WAIT,
    )
    found = labels(page)
    assert (found == 2).any() and np.array_equal(found == 1, (with_polygon == 1) & (found != 2))
    saved(page, app)


def to_slice(page, index: int) -> None:
    """Show a slice of the volume on screen."""
    while (now := int(held(page)["key"].rpartition(".")[2])) != index:
        key, step = ("PageDown", 1) if now < index else ("PageUp", -1)
        page.locator("[data-part=stage]").focus()
        page.keyboard.press(key)
        wait_until(lambda: held(page)["key"].endswith(f".{now + step}"))


def test_in_a_volume_the_chosen_structure_is_filled_between_slices(browser, app):  # noqa: F811
    id = next(id for id in app.items() if (app.project / "images" / f"{id}.nii.gz").exists())
    with opened(browser, f"{app.address}/?tab=annotate&image={id}") as page:
        assert image_id(page) == id and ensure_two(page)
        first, (height, width) = int(held(page)["key"].rpartition(".")[2]), shape_of(page)
        line = [(0.3 * width, 0.3 * height), (0.6 * width, 0.5 * height)]
        for index in (first, first + 3):
            to_slice(page, index)
            page.locator(".structures button").first.click()
            stroke(page, line, "r", 6)
            page.keyboard.press("k")
            stroke(page, line, "r", 2)
            assert set(np.unique(labels(page))) == {0, 1, 2}
        do(page, "interpolate")
        page.get_by_text("Filled 2 slices between those that were drawn").wait_for(timeout=WAIT)
        to_slice(page, first + 1)
        between = labels(page)
        assert set(np.unique(between)) == {0, 2}  # the chosen one alone
        page.reload(wait_until="domcontentloaded")
        annotate(page)
        to_slice(page, first + 1)
        assert np.array_equal(labels(page), between)
        to_slice(page, first)
        assert set(np.unique(labels(page))) == {0, 1, 2}


def test_the_planes_show_each_structure_and_the_chosen_one_is_the_truth(browser, app):  # noqa: F811
    id = next(id for id in app.items() if (app.project / "images" / f"{id}.nii.gz").exists())
    with opened(browser, f"{app.address}/?tab=annotate&image={id}") as page:
        first, second = ensure_two(page)
        height, width = shape_of(page)
        page.locator(".structures button").first.click()
        stroke(page, [(0.3 * width, 0.3 * height), (0.6 * width, 0.5 * height)], "r", 6)
        page.keyboard.press("k")
        stroke(page, [(0.4 * width, 0.4 * height), (0.5 * width, 0.4 * height)], "r", 2)
        wait_until(lambda: page.locator(".annotate [data-part=saved]").inner_text().startswith("saved on disk"))
        page.get_by_role("button", name=re.compile("^This image")).click(timeout=WAIT)
        page.get_by_role("button", name="Use as the truth in the other tabs").click(timeout=WAIT)
        page.get_by_role("tab", name="Segment & compare").click(timeout=WAIT)
        page.wait_for_function(
            "() => [...document.querySelectorAll('[data-planes]')].some(one => JSON.parse(one.dataset.planes).volume)",
            timeout=WAIT,
        )
        page.locator(".planes").scroll_into_view_if_needed(timeout=WAIT)
        page.locator(".planes [data-layer=truth]").wait_for(timeout=WAIT)
        titles = page.locator(".planes [data-part=layers] label span").all_inner_texts()
        assert titles[:2] == [f"{second}, the truth", first] and titles[-1] == "Body"


def test_a_project_of_several_structures_opens_with_them_after_a_restart(browser, app):  # noqa: F811
    app.stop()
    with Project(app.project) as project:
        if len(structures.defined(project)) < 2:
            structures.define(project, ["gland", "tumour"])
        names = [one.name for one in structures.defined(project)]
        item = next(one for one in project.items() if one.status != "accepted")
        map_xyz = organ(project.scan(item.id).voxels_xyz.shape)
        project.save(item.id, map_xyz, "anne")
    app.start()
    with opened(browser, f"{app.address}/?tab=annotate&image={item.id}") as page:
        assert page.locator(".structures button span").all_inner_texts() == names
        assert np.array_equal(labels(page), map_xyz[:, :, 0].T)
