"""The exported page in Chromium: opened from a file, on narrow, wide, dark and sharp screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from analysis.export.files import export_figure
from analysis.ioi.head_classes import MEASURED, HeadClass, published_classes
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.browser import faults
from tests.made_up import scores_from_counts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.chromium

Visit = Callable[..., "Page"]

TEXTS = """() => {
  const boxes = [...document.querySelectorAll("#figure .main-svg text")]
    .filter((node) => node.textContent.trim() && node.checkVisibility()
                      && getComputedStyle(node).opacity !== "0")
    .map((node) => [node.textContent, node.getBoundingClientRect()]);
  const bar = document.querySelector("#figure .modebar");
  if (bar) boxes.push(["modebar", bar.getBoundingClientRect()]);
  return boxes.map(([text, b]) => [text, b.left, b.top, b.right, b.bottom]);
}"""
"""The texts of the figure with their rectangles, and the modebar's."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's shape with the published classes and measured ones; 3.4 copies, 3.5 suppresses."""
    top, bottom = np.zeros((2, 12, 12), dtype=int)
    top[3, 4], bottom[3, 5], top[0, 0] = 90, 80, 1
    scores = scores_from_counts(top, bottom, model=ModelIdentity(GPT2_SMALL, "GPT-2"))
    measured = pd.DataFrame(
        {
            "class": [HeadClass.NAME_MOVER, HeadClass.NEGATIVE_NAME_MOVER],
            "model": GPT2_SMALL,
            "source": "a run",
            "origin": MEASURED,
        },
        index=pd.MultiIndex.from_tuples([(3, 4), (3, 5)], names=["layer", "head"]),
    )
    fig = plot_heatmaps(scores, pd.concat([published_classes(GPT2_SMALL), measured]))
    return export_figure(fig, tmp_path_factory.mktemp("page") / "heads", "html")[0]


@pytest.fixture
def visit(chromium: Browser, file: Path) -> Iterator[Visit]:
    """Opens the page; afterwards nothing may have been fetched, nor said in the console."""
    complaints: list[str] = []
    contexts = []
    addresses: list[str] = []

    def open_page(width: int = 1024, page_file: Path = file, **options: Any) -> Page:
        size = {"width": width, "height": 900}
        context = chromium.new_context(offline=True, viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        addresses.append(page_file.as_uri())
        page.goto(addresses[-1])
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-drawn=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    ours = (*addresses, "blob:", "data:")
    assert [said for said in complaints if not said.startswith(ours)] == []


def touching(boxes: list[list[Any]]) -> list[tuple[str, str]]:
    """Pairs of texts of which one covers a part of the other."""
    return [
        (a[0], b[0])
        for at, a in enumerate(boxes)
        for b in boxes[at + 1 :]
        if min(a[3], b[3]) - max(a[1], b[1]) > 1 and min(a[4], b[4]) - max(a[2], b[2]) > 1.5
    ]


def test_nothing_is_cut_or_covered_and_narrow_windows_stack(visit: Visit) -> None:
    page = visit(390, device_scale_factor=2)
    for width, stacked in ((390, True), (690, True), (1024, False), (1500, False)):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(f"document.getElementById('figure').clientWidth > {width} - 260")
        boxes = page.evaluate(TEXTS)
        assert {"modebar", "Layer", "Head"} <= {box[0] for box in boxes}
        assert touching(boxes) == []
        assert [box[0] for box in boxes if box[1] < 0 or box[3] > width] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        first, second = (
            page.locator(f"#figure .subplot.{name}").bounding_box() for name in ("xy", "x2y2")
        )
        assert first and second
        assert (second["y"] >= first["y"] + first["height"]) == stacked
        assert (second["x"] >= first["x"] + first["width"]) == (not stacked)


def test_it_follows_the_window_and_the_scheme(visit: Visit) -> None:
    page = visit(1024, color_scheme="light")

    def shade(selector: str, attribute: str) -> str:
        look = "([s, a]) => getComputedStyle(document.querySelector(s))[a]"
        return str(page.evaluate(look, [selector, attribute]))

    def colours() -> list[str]:
        return [
            shade("body", "backgroundColor"),
            shade("#figure .main-svg", "backgroundColor"),
            shade("#figure .xtick text", "fill"),
        ]

    assert colours() == ["rgb(255, 255, 255)", "rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.xtick text')).fill !== 'rgb(0, 0, 0)'"
    )
    assert colours() == ["rgb(23, 23, 27)", "rgb(23, 23, 27)", "rgb(236, 236, 236)"]
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function("document.getElementById('figure').clientWidth <= 390")
    assert touching(page.evaluate(TEXTS)) == []
    assert colours()[1] == "rgb(23, 23, 27)"


@pytest.mark.parametrize(
    ("changes", "ground", "ink"),
    [
        ({"legend_font_size": 15}, "rgb(23, 23, 27)", "rgb(236, 236, 236)"),
        ({"paper_bgcolor": "white"}, "rgb(255, 255, 255)", "rgb(0, 0, 0)"),
        ({"font_color": "black"}, "rgb(255, 255, 255)", "rgb(0, 0, 0)"),
        (
            {"title": {"text": "mine", "font": {"color": "#333"}}},
            "rgb(255, 255, 255)",
            "rgb(0, 0, 0)",
        ),
        ({"legend_bgcolor": "rgba(0,0,0,0)"}, "rgb(255, 255, 255)", "rgb(0, 0, 0)"),
    ],
)
def test_colours_that_the_owner_chose_stay_readable_in_the_dark(
    visit: Visit, tmp_path: Path, changes: dict[str, Any], ground: str, ink: str
) -> None:
    scores = scores_from_counts(np.full((3, 4), 50))
    fig = plot_heatmaps(scores, marks={"mine": [(0, 0)]}).update_layout(changes)
    (path, *_) = export_figure(fig, tmp_path / "own", "html")
    page = visit(1024, page_file=path, color_scheme="dark")
    look = "([s, a]) => getComputedStyle(document.querySelector(s))[a]"
    assert page.evaluate(look, ["#figure .main-svg", "backgroundColor"]) == ground
    assert page.evaluate(look, ["#figure .xtick text", "fill"]) == ink
    assert page.evaluate(look, ["#figure .legendtext", "fill"]) == "rgb(0, 0, 0)"


def test_hovering_tells_the_head(visit: Visit) -> None:
    page = visit(1024)
    box = page.locator("#figure .xy .nsewdrag").bounding_box()
    assert box
    # Layers from the left, heads from the bottom.
    page.mouse.move(box["x"] + box["width"] * 3.5 / 12, box["y"] + box["height"] * (1 - 4.5 / 12))
    page.wait_for_selector("#figure .hoverlayer .hovertext")
    said = page.locator("#figure .hoverlayer").text_content() or ""
    for words in ("3.4", "90 of 100 names", "measured class: name mover"):
        assert words in said


def test_the_words_and_the_table_around_the_figure(visit: Visit) -> None:
    page = visit(390)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("meta[name=viewport]").count() == 1
    assert page.locator("h1").inner_text() == (
        "GPT-2: which heads copy names, and which suppress them?"
    )
    assert "k = 1" in page.locator("figcaption").inner_text()
    rows = page.locator(".scroll tbody tr")
    assert rows.count() == 144

    def top() -> list[str]:
        return rows.first.locator("td").all_inner_texts()[:4]

    assert top() == ["3", "4", "0.900", "0.000"]
    header = page.get_by_role("columnheader", name="Suppression score")
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert top() == ["3", "5", "0.000", "0.800"]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert top()[3] == "0.000"


def test_scores_of_many_pairs_sort_as_their_counts(visit: Visit, tmp_path: Path) -> None:
    counts = np.array([[3, 11], [7, 5]])
    fig = plot_heatmaps(scores_from_counts(counts, n_pairs=40_000))
    (path, *_) = export_figure(fig, tmp_path / "many", "html")
    page = visit(1024, page_file=path)
    page.get_by_role("columnheader", name="Head").get_by_role("button").click()
    page.get_by_role("columnheader", name="Copying score").get_by_role("button").click()
    column = page.locator(".scroll tbody tr td:nth-child(5)").all_inner_texts()
    assert column == ["11", "7", "5", "3"]


def test_without_scripts_there_is_a_picture_and_the_table(visit: Visit) -> None:
    page = visit(1024, java_script_enabled=False)
    picture = page.locator("noscript img")
    box = picture.bounding_box()
    assert box and box["width"] > 600 and box["x"] >= 0 and box["x"] + box["width"] <= 1024
    assert picture.get_attribute("alt")
    assert page.locator(".scroll tbody tr").count() == 144


def test_axe_finds_nothing(visit: Visit, axe: str) -> None:
    page = visit(1024, color_scheme="light")
    assert faults(page, axe) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("#figure .main-svg[style*='rgb(23, 23, 27)']")
    assert faults(page, axe) == []
