"""Pages of several models: side by side, and one less the other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from analysis.explorer.page import explorer_page, write_page
from analysis.explorer.results import collect, score_names
from tests.explorer.conftest import RELATIONS
from tests.explorer.reading import (
    TEN_HEADS,
    Open,
    as_widget,
    card_numbers,
    colors,
    kept,
    open_head,
    reload,
    scope_of,
)
from tests.planted import NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Page
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
    page.go_back()  # the card of the second is closed
    assert not page.locator(".nh-card:visible").count() and ks(page) == ["7", "7"]
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


def test_only_what_was_scored_alike_is_taken_away(
    visit: Open, planted: TransformerBridge, results: Results, tmp_path: Path
) -> None:
    """Other names, another setting, a relation or a filter that one lacks leave no difference."""
    made = collect(planted, list(NAMES), first_mlp=(True, False), relations=RELATIONS)
    first = made.with_set(score_names(planted, list(NAMES[:3]), key="own", label="Your own"))
    given, own = (
        score_names(planted, list(NAMES[:-1])),
        score_names(planted, list(NAMES[3:6]), key="own", label="Your own"),
    )
    # Another tokenizer leaves one name less of the same list.
    pairs = replace(given.scores.pairs, n_given=len(NAMES))
    given = replace(given, scores=replace(given.scores, pairs=pairs))
    other = renamed(replace(made, sets=(given, own)), "Other")
    path = write_page([first, other], tmp_path / "unlike.html")
    lack = "so there is no difference"
    for fragment, n_other in (
        ("names=given", len(NAMES) - 1),
        ("names=given&only=an", sum("an" in name.lower() for name in NAMES[:-1])),
        ("names=given&mlp=false", None),
        ("names=own", None),
        ("names=relation+next", None),
        (f"names=given&only={NAMES[-1]}", None),
    ):
        page = visit(f"#minus=1&k=5&head=1.1&{fragment}", file=path)
        said = page.locator(".nh-field", has=page.get_by_label("Names", exact=True))
        assert (lack in said.inner_text()) == (n_other is None), fragment
        value = page.locator("[data-measure=copying]").get_attribute("data-value")
        assert (value == "NaN") == (n_other is None), fragment
        rows = pd.read_csv(kept(page, "CSV", tmp_path))
        assert rows.filter(like="difference").isna().all(axis=None) == (n_other is None)
        record = json.loads(kept(page, "Record and state (JSON)", tmp_path).read_text())["minus"]
        assert record["model"]["title"] == "Other" and record.get("n_pairs") == n_other
        if n_other is not None:
            assert (record["k"], record["first_mlp"]) == (5, True)
            assert "pairs_sha256" in record or "filter" in record
    # The lines of Python make the difference even so.
    page = visit("#minus=1&k=5&names=own", file=path)
    frame = scope_of(page, planted, planted)["frame"]
    assert (frame["copying_score"] == 0).all()


def test_what_the_other_model_lacks_is_in_no_difference(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    measures = results.evidence.measures[-1:]
    less = replace(results.evidence, measures=measures)
    other = renamed(replace(results, evidence=less), "Other")
    path = write_page([results, other], tmp_path / "less.html")
    page = visit("#minus=1&k=5&head=1.1&tab=table", file=path)
    shown = ["copying", "suppression", *(one.key for one in measures)]
    assert list(card_numbers(page)) == shown
    assert page.locator(".nh-table thead th").count() == len(shown) + 2
    rows = pd.read_csv(kept(page, "CSV", tmp_path))
    assert rows.filter(like="difference").shape[1] == len(shown)


def renamed(results: Results, title: str) -> Results:
    """The same as of another model."""
    model = replace(results.scores.model, title=title, name=title.lower())
    return replace(
        results,
        sets=tuple(replace(one, scores=replace(one.scores, model=model)) for one in results.sets),
    )


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


def test_what_stands_beside_with_another_setting_says_so(
    visit: Open, pair: tuple[Path, Results]
) -> None:
    page = visit("#beside=1&k=4", file=pair[0])
    said = page.locator(".nh-field").get_by_role("alert")
    page.get_by_label("through the first MLP").first.uncheck()
    page.get_by_label("k, how many").first.fill("7")
    assert said.all_inner_texts() == [
        "These names are not scored with the first MLP off: here it is on."
    ]
    page.get_by_label("through the first MLP").first.check()
    assert said.count() == 0


def test_rows_of_models_of_one_title_are_told_apart(
    visit: Open, results: Results, related: Results, tmp_path: Path
) -> None:
    path = write_page([results, related], tmp_path / "alike.html")
    page = visit("#beside=1&k=4&beside.names=relation+next", file=path)
    rows = pd.read_csv(kept(page, "CSV", tmp_path))
    title = results.scores.model.title
    given, relation = results.sets[0], related.find("relation next", True)
    assert relation is not None
    expected = [
        (f"{title} ({at})", one.label, one.scores.pairs.checksum, True)
        for at, one in ((1, given), (2, relation))
    ]
    of_what = rows[["model", "names", "pairs_sha256", "first_mlp"]].drop_duplicates()
    assert list(of_what.itertuples(index=False, name=None)) == expected


def test_a_title_of_two_lines_is_one_comment_of_the_python(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    model = replace(results.scores.model, title="Two\nlines", name="two")
    one = replace(results.sets[0], scores=replace(results.scores, model=model))
    other = replace(results, sets=(one,))
    page = visit("#beside=1", file=write_page([results, other], tmp_path / "two.html"))
    record = kept(page, "Record and state (JSON)", tmp_path)
    assert "# Two lines\nmodel = " in json.loads(record.read_text())["python"]


def ks(page: Page) -> list[str]:
    """The k of every explorer shown."""
    boxes = page.locator(".nh:visible").get_by_label("k, from 1 to 100").all()
    return [box.input_value() for box in boxes]


def test_what_models_side_by_side_have_in_common_stays_so(
    visit: Open, results: Results, pair: tuple[Path, Results], tmp_path: Path
) -> None:
    # The second was collected with another k, and begins with that of the first all the same.
    (one,) = pair[1].sets
    other = replace(pair[1], sets=(replace(one, scores=one.scores.at_k(5)),))
    path = write_page([results, other], tmp_path / "two.html", {"k": 50, "beside": "1"})
    page = visit("#beside=1", file=path)
    assert ks(page) == ["1", "1"]
    page = visit(file=path)
    assert ks(page) == ["50", "50"]
    for place, k in ((0, "5"), (1, "1"), (0, "7")):  # moved in either
        box = page.get_by_label("k, from 1 to 100").nth(place)
        box.fill(k)
        box.press("Enter")
        assert ks(page) == [k, k]
        reload(page)
        assert ks(page) == [k, k]
    page.get_by_label("k, how many").first.fill("9")
    page.go_back()
    assert ks(page) == ["7", "7"]


def alone(page: Page) -> list[tuple[str, str, str]]:
    """Of every explorer shown: the names, the other view and the head."""
    return [
        (
            one.get_by_label("Names", exact=True).input_value(),
            one.locator("[role=tab][aria-selected=true]").inner_text(),
            one.locator(".nh-tip").inner_text().split()[0],
        )
        for one in page.locator(".nh-beside > .nh:visible").all()
    ]


def test_what_the_second_shows_alone_is_kept_too(
    visit: Open, results: Results, related: Results, tmp_path: Path
) -> None:
    sets = [
        replace(one, scores=replace(one.scores, model=replace(one.scores.model, title="Other")))
        for one in related.sets
    ]
    path = write_page([results, replace(related, sets=tuple(sets))], tmp_path / "two.html")
    page = visit("#k=2&beside=1", file=path)
    before = alone(page)
    page.get_by_label("Names", exact=True).nth(1).select_option("relation next")
    page.locator(".nh-map").nth(2).locator("[role=gridcell]").first.click()
    page.get_by_role("button", name="Pin").click()
    page.get_by_role("tab", name="Pinned").nth(1).click()
    now = [before[0], ("relation next", "Pinned (1)", "0.3")]
    assert alone(page) == now
    record = kept(page, "Record and state (JSON)", tmp_path)
    file = kept(page, "HTML (this page)", tmp_path)
    reload(page)
    assert alone(page) == now
    page.go_back()
    assert alone(page) == [before[0], ("relation next", "Scatter", "0.3")]
    # Its names are no other model's.
    page.get_by_label("Compared with").select_option(label=f"beside {results.scores.model.title}")
    assert alone(page) == [before[0], before[0]]
    page = visit(file=file)
    assert alone(page) == now
    page = visit(file=path)
    page.locator(".nh-keep summary").click()
    page.get_by_label("State file").set_input_files(record)
    page.locator(".nh-title").nth(1).wait_for()
    assert alone(page) == now


def test_another_choice_of_models_keeps_the_rest_of_a_kept_page(
    visit: Open, results: Results, pair: tuple[Path, Results], tmp_path: Path
) -> None:
    state = {"k": 50, "only": "an", "minus": "1"}
    path = write_page([results, pair[1]], tmp_path / "two.html", state)
    page = visit(file=path)
    assert " minus Other" in page.locator(".nh-title").inner_text()
    page.get_by_label("Compared with").select_option(label="alone")
    for again in (lambda page: None, reload):
        again(page)
        assert page.locator(".nh-title:visible").all_inner_texts() == [results.scores.model.title]
        assert ks(page) == ["50"]
        assert page.get_by_label("Only names that hold").input_value() == "an"
    page = visit("#beside=length&model=7", file=path)  # no models
    assert page.locator(".nh-title:visible").all_inner_texts() == [results.scores.model.title]


@pytest.fixture
def widget_file(results: Results, pair: tuple[Path, Results], tmp_path: Path) -> Path:
    """A page of two models that takes itself for a widget with a kernel."""
    path = tmp_path / "widget.html"
    path.write_text(as_widget(explorer_page([results, pair[1]], {"k": 3})))
    return path


def test_a_widgets_state_holds_its_choice_of_models(
    visit: Open, results: Results, widget_file: Path, tmp_path: Path
) -> None:
    page = visit(file=widget_file)
    titles = page.locator(".nh-title:visible")
    own = results.scores.model.title
    assert ks(page) == ["3"]
    page.get_by_label("Compared with").select_option(label="beside Other")
    page.get_by_label("k, from 1 to 100").nth(1).fill("1")
    page.get_by_label("k, from 1 to 100").nth(1).press("Enter")
    assert ks(page) == ["1", "1"]
    state = page.evaluate("model.get('state')")
    assert (state["beside"], state["k"]) == ("1", 1)
    page.locator(".nh-map").first.locator("[role=gridcell]").first.click()
    assert page.evaluate("model.get('state')") == state | {"head": "0.3"}
    # Python sets it.
    page.evaluate("model.set('state', { k: 4, minus: 1 })")
    assert titles.all_inner_texts() == [f"{own} minus Other"] and ks(page) == ["4"]
    page.evaluate("model.set('state', { k: 5, beside: 1 })")
    assert titles.all_inner_texts() == [own, "Other"] and ks(page) == ["5", "5"]
    page.evaluate("model.set('state', { k: 6, beside: 1 })")
    assert ks(page) == ["6", "6"]
    # A state is opened, and nothing of the one before stays.
    usual = {"k": 1, "head": None, "only": "", "tab": "table"}
    (tmp_path / "state.json").write_text(json.dumps({"state": usual}))
    page.locator(".nh-keep summary").click()
    page.get_by_label("State file").set_input_files(tmp_path / "state.json")
    page.get_by_role("tab", name="Table", selected=True).wait_for()
    assert titles.all_inner_texts() == [own] and ks(page) == ["1"]
    kept_state = page.evaluate("model.get('state')")
    assert kept_state["k"] == 1 and "beside" not in kept_state
    # The head of one model is not that of another.
    page.locator(".nh-map").first.locator("[role=gridcell]").first.click()
    page.get_by_label("Model", exact=True).select_option(label="Other")
    assert titles.all_inner_texts() == ["Other"]
    assert not page.locator(".nh-card").is_visible()
    state = page.evaluate("model.get('state')")
    assert (state["model"], state["head"]) == ("1", None)
    assert page.url == widget_file.as_uri()


def test_what_is_shown_is_asked_to_be_exported(visit: Open, widget_file: Path) -> None:
    page = visit(file=widget_file)
    page.locator(".nh-keep summary").click()
    page.get_by_label("Only names that hold").fill("an")
    page.get_by_label("through the first MLP").uncheck()
    sets = {0: {"key": "given", "first_mlp": False}, 1: {"key": "given", "first_mlp": True}}
    for choice, beside in (
        ("alone", []),
        ("beside Other", [{"model": 1, **sets[1]}]),
        ("minus Other", []),  # which was not scored alike
    ):
        page.get_by_label("Compared with").select_option(label=choice)
        page.evaluate("document.querySelector('.nh-keep').open = true")
        page.get_by_role("button", name="Page, pictures and PDF").click()
        message = page.evaluate("model.sent.at(-1)")
        assert message["ask"] == "export"
        state = page.evaluate("model.get('state')")
        assert (state["only"], state["mlp"]) == ("an", False)
        assert message["args"] == {"k": 3, **sets[0], "state": state, "beside": beside}
        page.evaluate("model.answer(model.sent.at(-1).id, { folder: 'figures', files: ['a.svg'] })")
        said = page.locator(".nh-keep").get_by_role("status").inner_text()
        assert said.startswith("Written to figures: a.svg.")
        assert ("of the static scores" in said) == (choice == "minus Other")


def test_what_was_asked_of_a_head_is_asked_of_the_next(visit: Open, widget_file: Path) -> None:
    page = visit(file=widget_file)
    cells = page.locator(".nh-map").first.locator("[role=gridcell]")
    cells.nth(0).click()
    page.get_by_label("Prompt", exact=True).fill("When Mary")
    page.get_by_role("button", name="Run the model").click()
    found = "{ tokens: ['When', ' Mary'], attention: [[1, 0], [0.5, 0.5]], most: [], least: [] }"
    page.evaluate(f"model.answer(model.sent.at(-1).id, {found})")
    tokens = page.locator(".nh-token")
    assert tokens.count() == 2
    page.get_by_label("k, how many").fill("2")
    assert tokens.count() == 2, "attention is the same for any k"
    cells.nth(1).click()
    assert tokens.count() == 0
    (asked,) = page.evaluate("model.sent.slice(-2).filter((one) => one.ask === 'prompt')")
    title = page.locator(".nh-card-title").inner_text()
    assert asked["args"] == {"head": title.removeprefix("Head "), "prompt": "When Mary"}
    cells.nth(0).click()
    assert page.evaluate("model.sent.filter((one) => one.ask === 'prompt').length") == 3


def test_an_answer_that_comes_late_is_not_shown_for_another_head(
    visit: Open, widget_file: Path
) -> None:
    page = visit(file=widget_file)
    cells = page.locator(".nh-map").first.locator("[role=gridcell]")
    answer = page.locator(".nh-answer").first
    cells.nth(0).click()
    found = "{ token: ' Mary', larger: 1, smaller: 2, most: [], least: [] }"
    for late in (True, False):
        page.get_by_label("Token to look up").fill("Mary")
        page.get_by_role("button", name="Look up").click()
        assert page.evaluate("model.sent.at(-1).ask") == "token"
        number = page.evaluate("model.sent.at(-1).id")
        if late:
            cells.nth(1).click()
        page.evaluate(f"model.answer({number}, {found})")
        assert ("1 tokens have a larger logit" in answer.inner_text()) != late
