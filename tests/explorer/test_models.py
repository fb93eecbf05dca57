"""Pages of several models: side by side, and one less the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests.explorer.reading import TEN_HEADS, Open, card_numbers, colors, kept, open_head, scope_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium


def test_another_model_can_stand_beside(
    visit: Open, results: Results, pair: tuple[Path, Results]
) -> None:
    page = visit(file=pair[0])
    titles = page.locator(".nh-title:visible")
    assert titles.all_inner_texts() == [results.scores.model.title]
    page.get_by_label("Compared with").select_option(label="beside Other")
    assert titles.all_inner_texts() == [results.scores.model.title, "Other"]
    # What both have moves together.
    page.get_by_label("k, how many").first.fill("7")
    texts = page.locator(".nh-provenance").all_inner_texts()
    assert ["k = 7" in text for text in texts] == [True, True]
    page.locator(".nh-map").nth(2).locator("[role=gridcell]").first.click()
    assert page.locator(".nh-card-title").all_inner_texts() == ["Head 0.3"]
    page.go_back()  # to the k of before
    page.go_back()
    assert titles.all_inner_texts() == [results.scores.model.title]


def test_another_model_can_be_taken_away(
    visit: Open, planted: TransformerBridge, results: Results, pair: tuple[Path, Results]
) -> None:
    path, other = pair
    page = visit("#minus=1&k=5", file=path)
    assert page.locator(".nh-title").inner_text() == f"{results.scores.model.title} minus Other"
    a, b = results.scores.at_k(5), other.scores.at_k(5)
    for head in TEN_HEADS:
        open_head(page, *head, "minus=1&k=5")
        read = card_numbers(page)
        assert read["copying"][0] == a.copying_score[head] - b.copying_score[head]
        assert read["suppression"][0] == a.suppression_score[head] - b.suppression_score[head]
        assert read["eigenvalue_score"][0] == 0  # measured alike
    differs = (a.copying_score != b.copying_score).sum()
    middle = "#e8e4de"
    assert 0 < differs == sum(fill != middle for fill in colors(page))
    lines = scope_of(page, planted, planted)
    assert list(lines["frame"].columns) == list(lines["other"].columns)
    options = page.get_by_label("Compared with").locator("option")
    disabled = options.evaluate_all("(all) => all.filter((o) => o.disabled).map((o) => o.text)")
    assert disabled == [f"minus {results.scores.model.title}", "minus Small"]


def test_models_side_by_side_are_kept_together(
    visit: Open,
    planted: TransformerBridge,
    results: Results,
    pair: tuple[Path, Results],
    tmp_path: Path,
) -> None:
    path, other = pair
    page = visit("#beside=1&k=4", file=path)
    assert page.locator(".nh-keep").count() == 1
    drawn = kept(page, "SVG", tmp_path)
    assert drawn.name == f"{results.scores.model.name}_beside_other_explorer_k4.svg"
    assert drawn.read_text().count("first MLP on") == 2
    rows = pd.read_csv(kept(page, "CSV", tmp_path)).set_index(["model", "layer", "head"])
    for one in (results.scores.at_k(4), other.scores.at_k(4)):
        of_one = rows.loc[one.model.title]
        for head in TEN_HEADS:
            assert of_one.loc[head, "copying_score"] == one.copying_score[head]
            assert of_one.loc[head, "suppression_score"] == one.suppression_score[head]
    made = scope_of(page, planted, planted)["frame"]  # of the last: the same model once more
    assert made.loc[(1, 1), "copying_score"] == results.scores.at_k(4).copying_score[1, 1]

    record = json.loads(kept(page, "Record and state (JSON)", tmp_path).read_text())
    assert record["state"]["beside"] == "1"
    assert "# Other\nmodel = " in record["python"]
    assert [one["model"]["title"] for one in record["beside"]] == ["Other"]
    again = visit(file=kept(page, "HTML (this page)", tmp_path))
    titles = again.locator(".nh-title:visible")
    assert titles.all_inner_texts() == [results.scores.model.title, "Other"]
    # A kept state brings its choice of models, wherever it is opened.
    (tmp_path / "state.json").write_text(json.dumps(record))
    alone = visit(file=path)
    alone.evaluate("document.querySelector('.nh-keep').open = true")
    alone.get_by_label("State file").set_input_files(tmp_path / "state.json")
    alone.locator(".nh-title").nth(1).wait_for()
    assert "beside=1" in alone.url and "k=4" in alone.url
