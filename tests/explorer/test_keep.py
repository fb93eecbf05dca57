"""What is on the screen, kept as files, and opened again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.explorer.page import write_page
from analysis.explorer.results import collect, holding
from tests.explorer.conftest import RELATIONS
from tests.explorer.reading import Open, card_numbers, colors, kept, reload, scope_of
from tests.planted import NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Page
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
    for text in ("no state", '{"a": 1}', '{"k": 1}', "[1]", "null", '{"state": {"a": 1}}'):
        (tmp_path / "else.json").write_text(text)
        page.get_by_label("State file").set_input_files(tmp_path / "state.json")
        page.get_by_text("state.json read.").wait_for()
        page.get_by_label("State file").set_input_files(tmp_path / "else.json")
        page.get_by_text("else.json is not a state that was saved here.").wait_for()
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


KEPT = {"k": 50, "head": "1.2", "only": "an", "tab": "table"}


def shown(page: Page) -> dict[str, Any]:
    """What of ``KEPT`` a page shows."""
    card = page.locator(".nh-card-title")
    return {
        "k": int(page.get_by_label("k, from 1 to 100").first.input_value()),
        "head": card.inner_text().removeprefix("Head ") if card.is_visible() else None,
        "only": page.get_by_label("Only names that hold").first.input_value(),
        "tab": page.locator("[role=tab][aria-selected=true]").first.inner_text().lower(),
    }


def set_k(page: Page, k: int) -> None:
    box = page.get_by_label("k, from 1 to 100").first
    box.fill(str(k))
    box.press("Enter")


def test_a_page_with_a_state_remembers_what_is_set_back(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    file = write_page(results, tmp_path / "kept.html", KEPT)
    page = visit(file=file)
    assert shown(page) == KEPT
    page.get_by_role("tab", name="Table").click()  # changes nothing
    assert "#" not in page.url
    set_k(page, 1)
    page.get_by_role("button", name="Close").click()
    now = KEPT | {"k": 1, "head": None}
    for again in (page.reload, lambda: visit(page.url.removeprefix(file.as_uri()), file=file)):
        again()
        page.locator(".nh-map [role=gridcell]").first.wait_for()
        assert shown(page) == now
    page.locator(".nh-map").first.locator("[role=gridcell]").nth(0).click()
    page.go_back()
    assert shown(page) == now
    page.go_forward()
    assert shown(page) == now | {"head": "0.3"}
    # All of it as it is without a state.
    page.get_by_role("button", name="Close").click()
    page.get_by_label("Only names that hold").fill("")
    page.get_by_role("tab", name="Scatter").click()
    reload(page)
    usual = {"k": 1, "head": None, "only": "", "tab": "scatter"}
    assert shown(page) == usual
    # And the same of a state that is opened.
    page = visit(file=file)
    (tmp_path / "usual.json").write_text(json.dumps({"state": usual}))
    page.locator("summary", has_text="Keep it").click()
    page.get_by_label("State file").set_input_files(tmp_path / "usual.json")
    page.get_by_text("usual.json read.").wait_for()
    assert shown(page) == usual
    page.go_back()
    assert shown(page) == KEPT


def test_an_address_without_a_number_is_as_if_it_said_nothing(visit: Open) -> None:
    page = visit("#lo=&hi=&k=")
    ends = [page.get_by_label(f"{end} value of the colour") for end in ("Lowest", "Highest")]
    assert [end.input_value() for end in ends] == ["", ""]
    assert shown(page)["k"] == 1
    page = visit("#lo=0.5&hi=0.25")  # no scale has these ends
    assert [end.input_value() for end in ends] == ["", ""]


@pytest.mark.parametrize(
    ("text", "on"),
    [("True", True), ("1", True), ("FALSE", False), ("0", False), ("yes", True), ("", True)],
)
def test_a_setting_is_read_however_it_is_written(visit: Open, text: str, on: bool) -> None:
    page = visit(f"#mlp={text}")
    assert page.get_by_label("through the first MLP").is_checked() == on


def test_what_a_state_wants_and_was_not_scored_is_said(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    file = write_page(replace(results, sets=results.sets[:1]), tmp_path / "one.html")
    (tmp_path / "s.json").write_text('{"state": {"k": 2, "names": "own", "mlp": false}}')
    page = visit("#k=2", file=file)
    errors = page.locator(".nh-field").get_by_role("alert")
    assert errors.count() == 0
    page.locator("summary", has_text="Keep it").click()
    page.get_by_label("State file").set_input_files(tmp_path / "s.json")
    wanted = (
        'The names "own" are not among these results; others are shown.',
        "These names are not scored with the first MLP off: here it is on.",
    )
    for again in (lambda page: errors.nth(1).wait_for(), reload):
        again(page)
        assert errors.all_inner_texts() == list(wanted)
    set_k(page, 3)
    assert errors.count() == 0 and "own" not in page.url


def test_the_record_says_the_filter(visit: Open, results: Results, tmp_path: Path) -> None:
    whole = results.scores.pairs.checksum
    for only, filtered in (("an", True), ("xyz", False)):
        page = visit(f"#only={only}")
        record = json.loads(kept(page, "Record and state (JSON)", tmp_path).read_text())
        assert ("pairs_sha256" in record, "filter" in record) == (not filtered, filtered)
        chosen = [name for name in NAMES if only in name.lower()] or NAMES
        assert record["n_pairs"] == len(chosen)
        if filtered:
            expected = {"text": only, "pairs": len(NAMES), "pairs_sha256": whole}
            assert record["filter"] == expected
        assert record["measured"]["suppression_score_q"].endswith("16 names, k = 1, first MLP on")


def test_the_record_is_that_of_the_pairs_that_are_shown(
    visit: Open, planted: TransformerBridge, tmp_path: Path
) -> None:
    made = collect(planted, list(NAMES), first_mlp=(True, False), relations=RELATIONS)
    relation = made.find("relation next", False)
    assert relation is not None
    page = visit("#k=7&names=relation+next&mlp=false", file=write_page(made, tmp_path / "all.html"))
    pairs = [list(pair) for pair in RELATIONS["next"]]
    for only in ("", "anna"):
        page.get_by_label("Only names that hold").fill(only)
        record = json.loads(kept(page, "Record and state (JSON)", tmp_path).read_text())
        expected = holding(relation.scores.at_k(7), only).provenance
        expected = json.loads(json.dumps(expected))
        assert record["names"] == expected.pop("source_target_pairs")
        assert (record["names"] == pairs) == (not only)
        if only:
            expected.pop("pairs_sha256")  # which the browser does not make
        assert record["provenance"] == expected
        for key in ("k", "first_mlp"):
            assert record[key] == record["provenance"][key]
        assert record["n_pairs"] == record["provenance"]["pairs"] == len(record["names"])
