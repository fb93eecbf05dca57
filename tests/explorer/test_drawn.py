"""Whatever its size and however long its words, all of a result is drawn where it can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from analysis.explorer.evidence import Evidence
from analysis.explorer.page import write_page
from analysis.explorer.payload import NameSet
from analysis.explorer.results import Results
from analysis.provenance import ModelIdentity
from analysis.static.head_scores import HeadScores
from tests.explorer.reading import Open, kept
from tests.made_up import made_up_pairs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.chromium

LONG = "capital_of_country_wikidata_filtered_single_token_version_2025_04"
TITLE = "Llama-3.1-Nemotron-Ultra-253B-v1-of-a-long-name-with-a-date-2025-04-07-step-143"


def made_up(n_layers: int, n_heads: int, title: str, label: str) -> Results:
    """Names, and a relation, scored with ranks that mean nothing."""
    drawn = np.random.default_rng(0).integers(0, 101, (2, n_layers, n_heads, 50))
    top, bottom = drawn[0], drawn[1]
    model = ModelIdentity(title, title, checksum="0123456789abcdef" * 4)
    sets = []
    for relation in ("copying", "next"):
        pairs = made_up_pairs(50, relation)
        pairs = replace(pairs, dropped=pd.DataFrame({"word": [], "reason": []}))
        scores = HeadScores(
            top < 1, bottom < 1, pairs, 1, True, model, {},
            ranks_top=top, ranks_bottom=bottom, max_rank=100,
        )  # fmt: skip
        sets.append(NameSet(relation, f"{label}_{relation}", scores))
    return Results(sets=tuple(sets), evidence=Evidence())


RIGHT_ENDS = """([part, within]) => [...document.querySelectorAll(part)].map((one) =>
  one.getBoundingClientRect().right - one.closest(within).getBoundingClientRect().right)"""


def sticks_out(page: Page, part: str, within: str) -> float:
    """By how many pixels the parts end right of what they are in; of one at least."""
    return max(page.evaluate(RIGHT_ENDS, [part, within]))


def test_many_layers_and_long_labels_stay_in_their_place(visit: Open, tmp_path: Path) -> None:
    file = write_page(made_up(126, 4, TITLE, LONG), tmp_path / "long.html")
    for width in (360, 1280):
        page = visit("#head=1.1", file=file, width=width)
        assert sticks_out(page, ".nh-map [role=gridcell], .nh-map text", ".nh-map") <= 0
        assert sticks_out(page, ".nh-relations", ".nh-card") <= 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    # On paper nothing scrolls.
    page = visit("#head=1.1&tab=table", file=file)
    page.locator(".nh-chips").nth(1).get_by_role("button", name="all").click()
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "[...document.querySelectorAll('.nh-scroll, .nh-chips')]"
        ".map((one) => one.scrollHeight - one.clientHeight)"
    )
    page.emulate_media(media="screen")
    assert len(hidden) > 1 and max(hidden) <= 1


READ_PICTURE = """(text) => {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  document.body.replaceChildren(svg);
  const box = svg.viewBox.baseVal;
  const lines = [...svg.querySelectorAll(":scope > g > text")];
  const ends = lines.map((line) => line.getBBox());
  return [lines.map((line) => line.textContent).join(" "),
    Math.max(...ends.map((end) => end.x + end.width - box.width)),
    Math.max(...ends.map((end) => end.y + end.height - box.height))];
}"""


def test_a_saved_picture_says_all_of_its_settings(visit: Open, tmp_path: Path) -> None:
    every = [made_up(4, 4, TITLE, LONG), made_up(4, 4, "Small, step 1", "few")]
    file = write_page(every, tmp_path / "two.html")
    for width in (390, 1280):
        page = visit("#k=5&minus=1&names=next", file=file, width=width)
        picture = kept(page, "SVG", tmp_path).read_text()
        said, right, below = page.evaluate(READ_PICTURE, picture)
        assert right <= 0 and below <= 0
        for part in (
            f"{TITLE} minus Small, step 1",
            f"{TITLE}, weights sha256 0123456789ab; {LONG}_next: 50 pairs, sha256 ",
            "minus Small, step 1, weights sha256 0123456789ab; few_next: 50 pairs, sha256 ",
        ):  # a long word is broken where the line ends
            assert part.replace(" ", "") in said.replace(" ", "")
        assert said.count("k = 5; first MLP on") == 2
