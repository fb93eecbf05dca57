"""Notebooks in JupyterLab, in Chromium, on the packaged model."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pandas as pd
import pytest

from tests.portable import PACKAGED

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.chromium, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror='window.ran=1'>"
START_S, RUN_MS = 120.0, 180_000.0
HEAD = (23, 2)
NOTEBOOK = ROOT / "notebooks" / "00_explore.ipynb"
FIGURES = ROOT / "notebooks" / "03_heatmaps.ipynb"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab on loopback, with settings and a home of its own; its address and its folder."""
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    work.mkdir()
    for notebook in (NOTEBOOK, FIGURES):
        shutil.copy(notebook, work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {
        name: str(home / name.lower())
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
            "IPYTHONDIR",
        )
    }
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = (
        os.environ
        | PACKAGED
        | folders
        | {
            "PYTHONPATH": paths,
            "NAME_HEADS_FIGURES": str(home / "figures"),
        }
    )
    environment.pop("NAME_HEADS_STILL", None)
    log = (home / "lab.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable,
            *("-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
            *(f"--port={port}", "--IdentityProvider.token=", "--ServerApp.password="),
            *(f"--ServerApp.root_dir={work}", "--LabApp.news_url=None"),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urlopen(f"{address}/api/status", timeout=2).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((home / "lab.log").read_text()[-2000:])
                time.sleep(0.3)
        yield address, home
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the kernels too
        with suppress(subprocess.TimeoutExpired):
            server.wait(2)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty page; what it shows at the end is kept under build/."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1400})
    page = context.new_page()
    yield page
    picture = ROOT / "build" / f"{request.node.name}.png"
    picture.parent.mkdir(exist_ok=True)
    page.screenshot(path=picture)
    context.close()


def run_all(page: Page) -> None:
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


def colors(page: Page) -> list[str]:
    return page.evaluate(
        "[...document.querySelector('.nh-map').querySelectorAll('[role=gridcell]')]"
        ".map((cell) => cell.getAttribute('fill'))"
    )


def test_the_notebook_in_jupyterlab(page: Page, lab: tuple[str, Path]) -> None:
    from playwright.sync_api import TimeoutError

    address, home = lab
    complaints: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type == "error" else None,
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))
            else elsewhere.append(request.url)
        ),
    )
    page.goto(f"{address}/lab/tree/{NOTEBOOK.name}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=RUN_MS)
    # Where no setting names the kernel to start, JupyterLab asks for it.
    choose_kernel = page.locator(".jp-Dialog .jp-mod-accept")
    with suppress(TimeoutError):
        choose_kernel.click(timeout=3_000)
    page.wait_for_selector(".jp-NotebookPanel [data-status=idle]", timeout=RUN_MS)
    run_all(page)
    page.wait_for_selector(".nh-map [role=gridcell]", timeout=RUN_MS)
    assert len(colors(page)) == 270

    # k changes, and the colours with it
    before = colors(page)
    page.get_by_label("k, how many").fill("60")
    assert colors(page) != before

    page.get_by_label("k, from 1 to").fill("5")
    page.keyboard.press("Enter")
    page.locator(".nh-provenance", has_text="k = 5").wait_for()

    # a head is clicked, its card read, and the tokens around its names come from the kernel
    row, layer = 8 - HEAD[1], HEAD[0]  # rows go from the last head down
    page.locator(".nh-map").first.locator("[role=gridcell]").nth(row * 30 + layer).click()
    card = page.locator(".nh-card")
    assert card.locator(".nh-card-title").inner_text() == "Head 23.2"
    n_copied = page.evaluate(
        "document.querySelector('[data-measure=copying]').nextSibling.textContent"
    )
    page.wait_for_function(
        "document.querySelector('.nh-chip')?.title.includes('before')", timeout=RUN_MS
    )
    page.get_by_label("Token to look up").fill("Mary")
    page.keyboard.press("Enter")  # JupyterLab has a meaning of its own for it
    page.wait_for_selector(".nh-tokens", timeout=RUN_MS)
    assert "Mary" in page.locator(".nh-tokens").first.inner_text()

    # the model runs on a prompt
    page.get_by_label("Prompt", exact=True).fill("When Mary and John went out, John")
    page.get_by_role("button", name="Run the model").click()
    page.wait_for_selector(".nh-token", timeout=RUN_MS)
    assert page.locator(".nh-token").last.inner_text().strip() == "John"

    # a bad name is typed: the message is beside the control, and the last good view stays
    before = colors(page)
    page.locator("summary", has_text="Your own names").click()
    page.get_by_label("Names, separated by").fill(f"two words\n{HOSTILE}")
    page.get_by_role("button", name="Score these").click()
    alert = page.locator(".nh-own").get_by_role("alert")
    alert.wait_for(timeout=RUN_MS)
    assert "single token" in alert.inner_text()
    assert colors(page) == before
    assert page.evaluate("window.ran") is None

    # an export is found on disk, with the numbers seen
    page.locator("summary", has_text="Keep it").click()
    page.get_by_role("button", name="Page, pictures and PDF").click()
    page.wait_for_function(
        "document.querySelector('.nh-keep').textContent.includes('Written to')", timeout=RUN_MS
    )
    files = {path.suffix: path for path in (home / "figures").iterdir()}
    assert {".html", ".svg", ".png", ".pdf", ".csv", ".json"} <= set(files)
    table = pd.read_csv(files[".csv"], index_col=["layer", "head"])
    share = table.loc[HEAD, "copying_score"]
    assert n_copied.startswith(f"{round(share * 779)} of 779")

    # work that is stopped changes nothing
    before = colors(page)
    page.get_by_label("through the first MLP").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped; nothing has changed.").wait_for()
    assert colors(page) == before

    # other names are scored
    page.get_by_label("Names, separated by").fill("Mary, John, Anna")
    page.get_by_role("button", name="Score these").click()
    page.wait_for_function(
        "document.querySelector('.nh-provenance').textContent.includes('3 names')", timeout=RUN_MS
    )
    assert colors(page) != before

    # what has not been computed is computed when asked for
    row_of_it = page.locator(".nh-absent-row", has_text="Eigenvalue")
    row_of_it.get_by_role("button", name="Compute").click()
    page.wait_for_selector("[data-measure=eigenvalue_score]", timeout=RUN_MS)

    # a kernel restart does not leave a dead view without saying so
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).first.click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.wait_for_selector(".nh-notice:not([hidden])", timeout=RUN_MS)
    assert "run the cell again" in page.locator(".nh-notice").inner_text()
    assert len(colors(page)) == 270  # the last result is still there

    assert complaints == []
    assert elsewhere == []


FIGURE = """() => {
  const figure = document.querySelector(".jp-RenderedPlotly");
  const shown = figure?.querySelector(".plot-container") || figure?.querySelector(".plot-img");
  if (!shown?.getBoundingClientRect().width) return null;
  const sheet = document.querySelector(".jp-NotebookPanel").getBoundingClientRect();
  return [Math.round(shown.getBoundingClientRect().right), Math.round(sheet.right),
    shown.className];
}"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_figures_fit_beside_the_sidebar(page: Page, lab: tuple[str, Path], theme: str) -> None:
    """Before the pointer comes to a figure, when JupyterLab shows its picture, and after."""
    address, home = lab
    settings = home / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "themes.jupyterlab-settings").write_text(f'{{"theme": "{theme}"}}')
    page.goto(f"{address}/lab/tree/{FIGURES.name}?reset")
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached", timeout=RUN_MS)
    for shown in ("plot-img", "plot-container"):
        page.locator(".jp-RenderedPlotly").first.scroll_into_view_if_needed(timeout=RUN_MS)
        page.wait_for_function(f"({FIGURE})()?.[2].includes('{shown}')", timeout=RUN_MS)
        right, room, _ = page.evaluate(FIGURE)
        assert right <= room, (right, room)
        if shown == "plot-img":
            page.locator(".plot-img").first.dispatch_event("mouseenter")
