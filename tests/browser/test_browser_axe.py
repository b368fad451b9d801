"""axe-core over every tab and over the planes of a volume, light and dark: no serious or critical finding."""

from __future__ import annotations

import pytest

from tests.support.browser import WAIT, browser, expect_shown, pytestmark  # noqa: F401

TABS = {
    "Learn": "Cut the image",
    "Masking": "Clusters",
    "Reconstruct": "Original",
    "Segment & compare": "Where they differ",
    "Annotate": "against the proposal",
    "Results": "Training curves",
}
OVER_PICTURES = ".slice-view"  # axe does not see what a canvas shows behind its texts


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_on_any_tab(browser, app_address, theme, width):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe is put into the page
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True) as context:
        page, found = context.new_page(), []
        page.goto(app_address, wait_until="domcontentloaded")
        for tab, text in TABS.items():
            page.get_by_role("tab", name=tab).click(timeout=WAIT)
            expect_shown(page, text)
            found += serious(page, axe, tab)
    assert found == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_in_the_planes_of_a_volume(browser, app_address, theme, width):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(f"{app_address}/?tab=segment&sample=ct-of-the-neck-nifti-volume", wait_until="domcontentloaded")
        page.locator(".planes").scroll_into_view_if_needed(timeout=WAIT)
        page.wait_for_function("() => document.querySelector('.planes').dataset.ready === 'true'", timeout=WAIT)
        expect_shown(page, "26.0 ml", ".layers")
        found = serious(page, axe, "planes")
    assert found == []


def serious(page, axe, tab: str) -> list[tuple]:
    """The serious and critical findings on the page as it is."""
    findings = axe.run(page, context={"exclude": [[OVER_PICTURES]]}).response["violations"]
    return [
        (tab, one["id"], node["target"], node["failureSummary"])
        for one in findings
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
