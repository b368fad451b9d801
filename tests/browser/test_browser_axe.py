"""axe-core over every tab, light and dark: no serious or critical finding."""

from __future__ import annotations

import pytest

from tests.support.browser import WAIT, browser, expect_shown, pytestmark  # noqa: F401

TABS = {"Learn": "Cut the image", "Masking": "Clusters", "Reconstruct": "Original", "Segment & compare": "Where they differ", "Annotate": "against the proposal", "Results": "Training curves"}
OVER_PICTURES = ".slice-view"  # axe does not see what a canvas shows behind its texts


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_on_any_tab(browser, app_address, theme, width):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)  # axe is put into the page
    page, found = context.new_page(), []
    page.goto(app_address, wait_until="domcontentloaded")
    for tab, text in TABS.items():
        page.get_by_role("tab", name=tab).click(timeout=WAIT)
        expect_shown(page, text)
        findings = axe.run(page, context={"exclude": [[OVER_PICTURES]]}).response["violations"]
        found += [(tab, one["id"], node["target"], node["failureSummary"]) for one in findings if one["impact"] in ("serious", "critical") for node in one["nodes"]]
    context.close()
    assert found == []
