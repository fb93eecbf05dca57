"""What is on the screen, kept as files, and opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.explorer.page import write_page
from tests.explorer.reading import Open, card_numbers, colors, kept, scope_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium


def test_what_is_on_the_screen_can_be_kept(
    visit: Open, planted: TransformerBridge, results: Results, tmp_path: Path
) -> None:
    page = visit("#k=2&head=1.1")
    files = {}
    for button in ("SVG", "PNG", "CSV", "Record and state (JSON)"):
        path = kept(page, button, tmp_path)
        files[path.suffix] = path
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    assert "http" not in files[".svg"].read_text().replace("http://www.w3.org/2000/svg", "")
    rows = files[".csv"].read_text().splitlines()
    header = rows[0].split(",")
    two = results.scores.at_k(2)
    assert len(rows) == 1 + 12
    for row in rows[1:]:
        values = dict(zip(header, row.split(","), strict=True))
        at = int(values["layer"]), int(values["head"])
        assert float(values["copying_score"]) == two.copying_score[at]
        assert int(values["n_in_bottom_k"]) == two.n_in_bottom_k[at]
    record = json.loads(files[".json"].read_text())
    assert record["state"]["k"] == record["k"] == 2 and record["state"]["head"] == "1.1"
    assert record["pairs_sha256"] == results.scores.pairs.checksum
    made = scope_of(page, planted)["frame"]
    assert made["copying_score"].tolist() == two.copying_score.ravel().tolist()
    assert made["suppression_score"].tolist() == two.suppression_score.ravel().tolist()


def test_a_kept_state_opens_again(visit: Open, results: Results, tmp_path: Path) -> None:
    state = {"k": 7, "head": "1.2", "only": "a", "tab": "table"}
    page = visit(file=write_page(results, tmp_path / "kept.html", state))
    assert page.get_by_label("k, from 1 to 100").input_value() == "7"
    assert page.locator(".nh-card-title").inner_text() == "Head 1.2"
    (tmp_path / "state.json").write_text(json.dumps({"state": {"k": 3, "head": "0.1"}}))
    page.locator("summary", has_text="Keep it").click()
    page.get_by_label("State file").set_input_files(tmp_path / "state.json")
    page.locator(".nh-card-title", has_text="Head 0.1").wait_for()
    (tmp_path / "state.json").write_text("no state")
    page.get_by_label("State file").set_input_files(tmp_path / "state.json")
    page.locator(".nh-keep").get_by_role("alert").wait_for()
    assert page.locator(".nh-card-title").inner_text() == "Head 0.1"


def test_a_kept_page_opens_on_what_was_shown(visit: Open, results: Results, tmp_path: Path) -> None:
    page = visit("#k=4&head=1.1&tab=table")
    shown = colors(page), card_numbers(page)
    first = kept(page, "HTML (this page)", tmp_path)
    again = visit(file=first)
    assert (colors(again), card_numbers(again)) == shown
    assert again.locator("[role=tab][aria-selected=true]").inner_text() == "Table"
    # Nothing of the first page's drawing is in it twice, and it can be kept once more.
    assert again.locator(".nh").count() == 1
    (tmp_path / "again").mkdir()
    second = kept(again, "HTML (this page)", tmp_path / "again")
    assert second.read_bytes() == first.read_bytes()
