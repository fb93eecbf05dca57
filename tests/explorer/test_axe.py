"""axe-core finds no serious fault on the page; it comes from npm, where npm can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.chromium

SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["scatter", "table", "pins"])
def test_no_serious_fault(
    chromium: Browser, axe: str, page_file: Path, scheme: str, tab: str
) -> None:
    context = chromium.new_context(offline=True, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{page_file.as_uri()}#head=1.1&pins=1.1,2.2&tab={tab}")
    page.wait_for_selector(".nh-map [role=gridcell]")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    faults = violations(page, axe)
    context.close()
    assert [fault["help"] for fault in faults if fault["impact"] in SERIOUS] == []
