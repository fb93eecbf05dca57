"""Chromium driven by Playwright, and axe-core, for the tests of pages; fixtures of ``conftest``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""For a container, and so that the browser asks the network nothing of its own accord."""

AXE_VERSION = "4.14.1"
KEPT = Path(__file__).parents[1] / "build" / "axe"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    path = CHROMIUM if os.path.exists(CHROMIUM) else shutil.which("chromium")
    if path is None:
        reason = "Chromium is not installed (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(f"{reason}: pages are not looked at in a browser")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core; from npm, where npm can be reached, and kept under build/."""
    script = KEPT / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed: axe-core does not look at the page")
        # At once or not at all: npm's own retries take over a minute where it cannot be reached.
        once = ["--no-audit", "--fetch-retries=0", "--fetch-timeout=20000"]
        install = [npm, "install", "--prefix", str(KEPT), *once, f"axe-core@{AXE_VERSION}"]
        found = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
        if found.returncode:
            pytest.skip(f"npm cannot fetch axe-core: {found.stderr.strip()[-200:]}")
    return script.read_text()


def faults(page: Page, axe: str) -> list[str]:
    """What axe-core finds on a page, of any impact."""
    return [
        f"{fault['id']} ({fault['impact']}): {fault['nodes'][0]['html'][:200]}"
        for fault in violations(page, axe)
    ]


def violations(page: Page, axe: str) -> list[dict[str, Any]]:
    """What axe-core finds on a page, as it says it.

    All else that it tells, of every element that has no fault, stays in the browser.
    """
    page.evaluate(axe)
    found = "axe.run({resultTypes: ['violations']}).then((results) => results.violations)"
    return page.evaluate(found)
