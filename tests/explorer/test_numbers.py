"""How the page shows numbers: small ones, the two sides of zero, the order of the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.explorer.evidence import Evidence, Measure
from analysis.explorer.page import write_page
from tests.explorer.reading import (
    Open,
    colors,
    kept,
    scope_of,
)
from tests.planted import NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium


def test_a_threshold_dims_the_rest(visit: Open, tmp_path: Path) -> None:
    page = visit()
    page.get_by_label("Dim heads below").fill("0.5")
    opacity = page.evaluate(
        "[...document.querySelectorAll('.nh-map')[0].querySelectorAll('[role=gridcell]')]"
        ".map((cell) => cell.getAttribute('opacity'))"
    )
    assert opacity.count("1") == 3  # the planted copying heads
    assert set(opacity) == {"1", "0.18"}
    for score in ("static", "vocabulary"):
        page = visit(f"#score={score}&threshold=0.5")
        assert "0.500 are dimmed</text>" in kept(page, "SVG", tmp_path).read_text()
    page.get_by_label("Dim heads below").fill("0")
    assert "dimmed" not in kept(page, "SVG", tmp_path).read_text()


def test_zero_is_told_apart_from_a_tiny_score(visit: Open, results: Results) -> None:
    scores = results.scores.at_k(40)
    page = visit("#k=40")
    for panel, values in enumerate((scores.copying_score, scores.suppression_score)):
        # Rows go from the last head down.
        in_order = [values[layer, head] for head in (3, 2, 1, 0) for layer in range(3)]
        for fill, value in zip(colors(page, panel), in_order, strict=True):
            assert (fill == "#f1f2f5") == (value == 0)


EFFECTS = [*np.linspace(-1, 1, 11), np.nan]


@pytest.fixture(scope="module")
def effects_file(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with numbers of both signs, and a head without one; on the right with free ends."""
    measures = (
        Measure("direct_effect", "Effect", "causal", np.array(EFFECTS), range=(-1.0, 1.0)),
        Measure("direct_logit_attribution", "Attribution", "causal", np.array(EFFECTS)),
    )
    file = tmp_path_factory.mktemp("effects") / "effects.html"
    return write_page(results.with_evidence(Evidence(measures)), file)


def channels(color: str) -> list[int]:
    return [int(color[at : at + 2], 16) for at in (1, 3, 5)]


@pytest.mark.parametrize(
    ("low", "high"), [(None, None), (-0.2, None), (None, 0.3), (-0.7, 0.1), (0, None), (None, -0.2)]
)
def test_zero_stays_between_the_two_directions(
    visit: Open, effects_file: Path, tmp_path: Path, low: float | None, high: float | None
) -> None:
    ends = {"lo": low, "hi": high}
    given = "".join(f"&{name}={end}" for name, end in ends.items() if end is not None)
    page = visit(f"#score=effects{given}", file=effects_file)
    low, high = -1 if low is None else low, 1 if high is None else high
    picture = ElementTree.parse(kept(page, "SVG", tmp_path))
    gradients = picture.findall(".//{*}linearGradient")
    assert len(gradients) == 2
    for panel, gradient in enumerate(gradients):
        stops = [(float(stop.get("offset", "")), stop.get("stop-color", "")) for stop in gradient]
        places, drawn = zip(*stops, strict=True)
        assert places == tuple(sorted(places)) and (places[0], places[-1]) == (0, 1)
        legend = np.array([channels(color) for color in drawn])
        in_order = [EFFECTS[layer * 4 + head] for head in (3, 2, 1, 0) for layer in range(3)]
        for fill, value in zip(colors(page, panel), in_order, strict=True):
            if np.isnan(value):
                assert fill == "#ffffff"
                continue
            at = (np.clip(value, low, high) - low) / (high - low)
            expected = [np.interp(at, places, legend[:, n]) for n in range(3)]
            assert channels(fill) == pytest.approx(expected, abs=0.51)
            if low < 0 < high:
                red, _, blue = channels(fill)
                assert fill == "#e8e4de" if value == 0 else (red < blue) == (value > 0)


def test_the_scatters_title_covers_no_number(visit: Open, effects_file: Path) -> None:
    page = visit("#x=layer&y=direct_effect", file=effects_file)
    title = page.locator(".nh-scatter text[transform]").bounding_box()
    assert title
    ticks = page.locator(".nh-scatter text[text-anchor=end]")
    assert any("−" in text for text in ticks.all_text_contents())
    for tick in ticks.all():
        box = tick.bounding_box()
        assert box and box["x"] >= title["x"] + title["width"]


def test_an_end_outside_the_scale_is_said_and_changes_no_colour(visit: Open) -> None:
    page = visit("#k=40")
    before = colors(page)
    said = page.locator(".nh-field", has=page.get_by_label("Lowest value")).get_by_role("alert")
    for end, value, where in (("Highest", "-1", "below"), ("Lowest", "3", "above")):
        box = page.get_by_label(f"{end} value")
        box.fill(value)
        box.press("Enter")
        assert said.inner_text().startswith(f"The {end.lower()} value lies {where} the scale")
        assert colors(page) == before
        box.fill("")
        box.press("Enter")
        assert said.count() == 0


TABLE = [f"{layer}.{head}" for layer in range(3) for head in range(4)]
NUMBERED, WITHOUT = TABLE[:-1], TABLE[-1:]  # the last head has no number


@pytest.mark.parametrize(
    ("heading", "orders"),
    [
        ("Head", {"ascending": TABLE, "descending": TABLE[::-1]}),
        ("Effect", {"descending": NUMBERED[::-1] + WITHOUT, "ascending": NUMBERED + WITHOUT}),
    ],
)
def test_the_table_sorts_heads_by_name_and_by_number(
    visit: Open, effects_file: Path, heading: str, orders: dict[str, list[str]]
) -> None:
    page = visit("#tab=table", file=effects_file)
    column = page.get_by_role("columnheader", name=heading, exact=True)
    for direction, order in orders.items():
        column.get_by_role("button").click()
        assert column.get_attribute("aria-sort") == direction
        assert page.locator(".nh-table tbody th").all_inner_texts() == order


@pytest.mark.parametrize(("k", "n_lists"), [(99, 3), (100, 2)])
def test_no_name_is_nearly_copied_where_every_rank_counts(
    visit: Open, k: int, n_lists: int
) -> None:
    page = visit(f"#head=1.1&k={k}")
    titles = page.locator(".nh-list .nh-list-title").all_inner_texts()
    assert len(titles) == n_lists
    assert any(title.startswith("Nearly") for title in titles) == (k < 100)
    assert titles[0].endswith(f"rank below {k}")
    assert titles[-1].endswith("100 or more tokens come before")
    assert page.locator(".nh-chip").count() == len(NAMES)


def test_measured_numbers_stand_with_their_own_setting(
    visit: Open, planted: TransformerBridge, results: Results, tmp_path: Path
) -> None:
    page = visit("#k=60&mlp=false&only=an&head=1.1")
    table = page.locator(".nh-evidence").first
    (null,) = {one.note for one in results.evidence.measures if one.group == "null"}
    assert null.endswith("16 names, k = 1, first MLP on")
    assert table.locator("th", has_text="Against random heads").inner_text().endswith(null)
    page.get_by_label("Score", exact=True).select_option("vocabulary")
    (note,) = (one.note for one in results.evidence.measures if one.key == "vocabulary_copied")
    caption = kept(page, "SVG", tmp_path).read_text().rsplit("<text", 1)[1]
    assert note[:30] in caption and "k = 60" not in caption and "names" not in caption
    # And the lines of Python are those that measured it.
    scope = scope_of(page, planted)
    assert list(scope["names"]) == list(NAMES)
    assert (scope["scores"].k, scope["scores"].first_mlp) == (1, True)
