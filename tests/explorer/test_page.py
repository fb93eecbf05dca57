"""The page opened from a file, with the network blocked, in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pytest

from analysis import score_heads
from analysis.explorer.evidence import Evidence
from analysis.explorer.page import explorer_page, front_end, write_page
from analysis.plots.marks import class_sets
from tests.explorer.conftest import RELATIONS
from tests.planted import NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium
HOSTILE = "</script><img src=x onerror='window.ran=1'><script>window.ran=1</script>"

TEN_HEADS = [(layer, head) for layer in range(3) for head in range(4)][:10]

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def page_file(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(results, tmp_path_factory.mktemp("page") / "planted_explorer.html")


@pytest.fixture(scope="module")
def tab(chromium: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page without a network, and what its console said and what it asked for."""
    complaints: list[str] = []
    context = chromium.new_context(offline=True, accept_downloads=True)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("blob:", "data:", "about:"))
            or request.is_navigation_request()
            else complaints.append(request.url)
        ),
    )
    yield page, complaints
    context.close()


@pytest.fixture
def visit(tab: tuple[Page, list[str]], page_file: Path) -> Iterator[Open]:
    """Opens the page afresh; afterwards nothing may have been fetched, nor said in the console."""
    page, complaints = tab
    complaints.clear()

    def open_page(
        fragment: str = "",
        file: Path = page_file,
        width: int = 1280,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
    ) -> Page:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.goto("about:blank")  # else a change of the fragment alone would not load the page
        page.goto(file.as_uri() + fragment)
        page.wait_for_selector(".nh-map [role=gridcell]")
        return page

    yield open_page
    assert complaints == []


def card_numbers(page: Page) -> dict[str, tuple[float, str]]:
    """The card's numbers: as they are, and as they are written."""
    found = page.evaluate(
        "[...document.querySelectorAll('.nh-value[data-measure]')].map((cell) =>"
        " [cell.dataset.measure, Number(cell.dataset.value), cell.textContent])"
    )
    return {measure: (value, text.replace("−", "-")) for measure, value, text in found}


def open_head(page: Page, layer: int, head: int, fragment: str = "") -> None:
    page.evaluate(f"location.hash = '#{fragment}&head={layer}.{head}'")
    page.wait_for_function(
        "(name) => document.querySelector('.nh-card-title')?.textContent === name",
        arg=f"Head {layer}.{head}",
    )


def colors(page: Page, panel: int = 0) -> list[str]:
    return page.evaluate(
        "(n) => [...document.querySelectorAll('.nh-map')[n].querySelectorAll('[role=gridcell]')]"
        ".map((cell) => cell.getAttribute('fill'))",
        panel,
    )


def test_k_changes_the_colours_and_the_address(visit: Open) -> None:
    page = visit()
    before = colors(page)
    slider = page.get_by_label("k, how many")
    slider.fill("60")
    assert colors(page) != before
    assert "k=60" in page.url
    assert page.locator(".nh-provenance").inner_text().count("k = 60") == 1


def test_a_click_opens_the_card_of_that_head(visit: Open) -> None:
    page = visit()
    page.locator(".nh-map").first.locator("[role=gridcell]").nth(5).click()
    # Rows go from the last head down: the sixth cell is head 2 of layer 2.
    assert page.locator(".nh-card-title").inner_text() == "Head 2.2"
    assert "head=2.2" in page.url


@pytest.mark.parametrize("k", [1, 4])
def test_the_cards_of_ten_heads_show_the_scores(
    visit: Open, planted: TransformerBridge, results: Results, k: int
) -> None:
    frame = score_heads(planted, list(NAMES), k=k).to_frame()
    page = visit(f"#k={k}")
    for layer, head in TEN_HEADS:
        open_head(page, layer, head, f"k={k}")
        read = card_numbers(page)
        expected = {
            "copying": frame.loc[(layer, head), "copying_score"],
            "suppression": frame.loc[(layer, head), "suppression_score"],
        }
        for measure in results.evidence.measures:
            expected[measure.key] = measure.values[layer * 4 + head]
        # The numbers to the last bit; the text is the same number, rounded.
        assert {key: value for key, (value, _) in read.items()} == expected
        for value, text in read.values():
            assert float(text) == pytest.approx(value, abs=6e-4)


def test_names_are_listed_with_their_ranks(visit: Open, results: Results) -> None:
    page = visit("#head=2.0&end=top&k=3")
    top = results.scores.ranks_top[2, 0]
    read = {}
    for chip in page.locator(".nh-chip").all():
        rank = chip.locator(".nh-rank").inner_text()
        read[chip.get_attribute("data-name")] = 100 if rank.startswith("≥") else int(rank)
    assert read == dict(zip(results.scores.pairs.sources, top.tolist(), strict=True))
    copied = page.locator(".nh-list-in .nh-chip").count()
    assert copied == int((top < 3).sum())


def test_everything_by_keyboard(visit: Open) -> None:
    page = visit()
    page.locator(".nh-map").first.focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "End", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator("[aria-live]").inner_text().startswith("Layer 1, head 2: copying score")
    page.keyboard.press("Enter")
    assert page.locator(".nh-card-title").inner_text() == "Head 1.2"
    assert "nh-card" in page.evaluate("document.activeElement.className")
    page.keyboard.press("Escape")
    assert not page.locator(".nh-card").is_visible()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "grid"
    page.keyboard.press("Home")
    page.keyboard.press("p")
    assert "pins=0.2" in page.url


def test_back_and_forward(visit: Open) -> None:
    page = visit()
    cells = page.locator(".nh-map").first.locator("[role=gridcell]")
    cells.nth(0).click()
    cells.nth(4).click()
    heading = page.locator(".nh-card-title")
    assert heading.inner_text() == "Head 1.2"
    page.go_back()
    assert heading.inner_text() == "Head 0.3"
    page.go_back()
    assert not page.locator(".nh-card").is_visible()
    page.go_forward()
    assert heading.inner_text() == "Head 0.3"


def test_an_address_from_elsewhere_shows_what_can_be_shown(visit: Open) -> None:
    page = visit("#k=9000&head=77.1&score=none&pins=1.1,x&tab=table")
    assert page.get_by_label("k, from 1 to 100").input_value() == "100"
    assert not page.locator(".nh-card").is_visible()
    assert page.locator(".nh-table tbody tr").count() == 12


def test_it_follows_the_browsers_theme(visit: Open) -> None:
    page = visit(scheme="dark")
    for scheme, background in (("dark", "rgb(20, 23, 31)"), ("light", "rgb(255, 255, 255)")):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f".nh[data-theme={scheme}]")
        found = page.evaluate("getComputedStyle(document.querySelector('.nh')).backgroundColor")
        assert found == background


def test_nothing_sticks_out(visit: Open, marked: Results, tmp_path: Path) -> None:
    page = visit("#head=1.1&pins=1.1,2.2", file=write_page(marked, tmp_path / "marked.html"))
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    for width in (390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for tab in ("scatter", "table", "pins"):
            page.locator(f"[data-tab={tab}]").click()
            page.wait_for_timeout(50)  # the layout follows the width
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, tab)


def test_a_bad_k_is_said_beside_the_control_and_the_view_stays(visit: Open) -> None:
    page = visit("#k=4")
    before = colors(page)
    box = page.get_by_label("k, from 1 to 100")
    for text in ("0", "101", "1.5", "many"):
        box.fill(text)
        box.press("Enter")
        said = page.locator(".nh-field", has=box).get_by_role("alert").inner_text()
        assert said == f'k must be a whole number from 1 to 100, not "{text}".'
        assert colors(page) == before


def test_what_the_page_lacks_says_what_to_run(visit: Open) -> None:
    page = visit("#head=1.1")
    card = page.locator(".nh-card")
    assert "dynamic_scores(model, names)" in card.inner_text()
    page.get_by_label("Token to look up").fill("Zebedee")
    page.get_by_role("button", name="Look up").click()
    assert 'head_card(model, (1, 1)).writes_for("Zebedee")' in card.inner_text()
    page.get_by_label("Token to look up").fill("Mary")
    page.get_by_role("button", name="Look up").click()
    assert "0 tokens have a larger logit" in card.inner_text()


def test_a_threshold_dims_the_rest(visit: Open) -> None:
    page = visit()
    page.get_by_label("Dim heads below").fill("0.5")
    opacity = page.evaluate(
        "[...document.querySelectorAll('.nh-map')[0].querySelectorAll('[role=gridcell]')]"
        ".map((cell) => cell.getAttribute('opacity'))"
    )
    assert opacity.count("1") == 3  # the planted copying heads
    assert set(opacity) == {"1", "0.18"}


def test_zero_is_told_apart_from_a_tiny_score(visit: Open, results: Results) -> None:
    scores = results.scores.at_k(40)
    page = visit("#k=40")
    for panel, values in enumerate((scores.copying_score, scores.suppression_score)):
        # Rows go from the last head down.
        in_order = [values[layer, head] for head in (3, 2, 1, 0) for layer in range(3)]
        for fill, value in zip(colors(page, panel), in_order, strict=True):
            assert (fill == "#f1f2f5") == (value == 0)


def test_a_hover_in_the_scatter_rings_the_head_in_the_heatmaps(visit: Open) -> None:
    page = visit("#x=layer&y=head")
    circle = page.locator(".nh-scatter circle").nth(5)
    circle.hover(force=True)
    assert page.locator(".nh-tip strong").inner_text() == "1.1"
    assert page.locator(".nh-map .nh-rings rect").count() == 2


def test_what_is_on_the_screen_can_be_kept(
    visit: Open, planted: TransformerBridge, results: Results, tmp_path: Path
) -> None:
    page = visit("#k=2&head=1.1")
    page.locator("summary", has_text="Keep it").click()
    files = {}
    for button in ("SVG", "PNG", "CSV", "Record and state (JSON)"):
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
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
    assert scope_of(page, planted)["frame"].loc[(1, 1), "copying_score"] == two.copying_score[1, 1]


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


def test_a_filter_counts_the_names_that_hold_a_text(
    visit: Open, planted: TransformerBridge
) -> None:
    page = visit("#k=3")
    page.get_by_label("Only names that hold").fill("AN")
    chosen = [name for name in NAMES if "an" in name.lower()]
    assert 1 < len(chosen) < len(NAMES)
    frame = score_heads(planted, chosen, k=3).to_frame()
    for head in ((1, 1), (2, 0)):
        open_head(page, *head, "k=3&only=AN")
        read = card_numbers(page)
        assert read["copying"][0] == frame.loc[head, "copying_score"]
        assert read["suppression"][0] == frame.loc[head, "suppression_score"]
    assert f"{len(chosen)} of {len(NAMES)}" in page.locator(".nh-provenance").inner_text()
    chips = page.locator(".nh-chip").evaluate_all("(all) => all.map((one) => one.dataset.name)")
    assert sorted(chips) == sorted(chosen)
    made = scope_of(page, planted)["frame"]
    pd.testing.assert_frame_equal(made[frame.columns], frame)

    before = colors(page)
    page.get_by_label("Only names that hold").fill("xyz")
    box = page.get_by_label("Only names that hold")
    said = page.locator(".nh-field", has=box).get_by_role("alert").inner_text()
    assert said == 'No name holds "xyz". The last names stay.'
    assert colors(page) == before


def scope_of(page: Page, *models: TransformerBridge) -> dict[str, Any]:
    """What the lines of Python of a page make, with the models that they load in memory."""
    page.evaluate("document.querySelector('.nh-keep').open = true")
    with page.expect_download() as download:
        page.get_by_role("button", name="Record and state (JSON)").click()
    lines = json.loads(Path(download.value.path()).read_text())["python"]
    memory = "model = ...  # this model was built in memory"
    scope: dict[str, Any] = {}
    for number, model in enumerate(models):
        scope[f"model_{number}"] = model
        lines = lines.replace(memory, f"model = model_{number}", 1)
    assert memory not in lines
    exec(lines, scope)
    return scope


def test_relations_are_on_the_card_and_in_the_heatmaps(
    visit: Open, planted: TransformerBridge, related: Results, tmp_path: Path
) -> None:
    page = visit("#k=5&head=2.0", file=write_page(related, tmp_path / "related.html"))
    rows = page.locator(".nh-relations tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [row.querySelector('button').textContent,"
        " ...[...row.querySelectorAll('.nh-value')].map((cell) => Number(cell.title))])"
    )
    expected = []
    for label, pairs in RELATIONS.items():
        frame = score_heads(planted, pairs, k=5).to_frame()
        expected.append([label, *frame.loc[(2, 0), ["relation_score", "suppression_score"]]])
    assert rows == sorted(expected, key=lambda row: -max(row[1:]))
    page.get_by_role("button", name="next", exact=True).click()
    assert page.get_by_label("Names", exact=True).input_value() == "relation next"
    scores = score_heads(planted, RELATIONS["next"], k=5)
    assert card_numbers(page)["copying"][0] == scores.relation_score[2, 0]
    made = scope_of(page, planted)["frame"]
    assert made.loc[(2, 0), "relation_score"] == scores.relation_score[2, 0]


READ_MARKS = """(panel) => {
  const map = document.querySelectorAll(".nh-map")[panel];
  return [[...map.querySelectorAll(".nh-mark-label")].map((label) => label.textContent),
    map.querySelector(".nh-marks").childElementCount];
}"""


def test_every_class_is_marked_on_its_panel(visit: Open, marked: Results, tmp_path: Path) -> None:
    page = visit(file=write_page(marked, tmp_path / "marked.html"))
    for origin in ("both", "published", "measured", "none"):
        page.get_by_label("Classes").select_option(origin)
        classes = marked.evidence.classes
        assert classes is not None
        wanted = classes if origin == "both" else classes[classes["origin"] == origin]
        for panel in (0, 1):
            sets = class_sets(marked.scores, wanted, suppression=panel == 1)
            labels, n_marks = page.evaluate(READ_MARKS, panel)
            assert labels == [one.label for one in sets]
            assert n_marks == sum(len(one.heads) for one in sets)


@pytest.fixture(scope="module")
def pair(results: Results, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """A page of three models, the last of another shape, and the results of the second."""
    first, second = results.sets[0], results.sets[1]
    model = replace(first.scores.model, title="Other", name="other")
    scores = replace(second.scores, model=model, first_mlp=True)
    one = replace(first, scores=scores, extremes={})
    other = replace(results, sets=(one,))
    small = replace(
        scores,
        model=replace(model, title="Small", name="small"),
        **{
            part: getattr(scores, part)[:2]
            for part in ("in_top_k", "in_bottom_k", "ranks_top", "ranks_bottom", "n_zero_output")
        },
    )
    third = replace(results, sets=(replace(one, scores=small),), evidence=Evidence())
    path = tmp_path_factory.mktemp("pair") / "pair.html"
    return write_page([results, other, third], path), other


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


def test_hostile_text_is_shown_and_never_runs(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    one = results.sets[0]
    pairs = replace(
        one.scores.pairs,
        sources=(HOSTILE, *one.scores.pairs.sources[1:]),
        targets=(HOSTILE, *one.scores.pairs.sources[1:]),
    )
    model = replace(one.scores.model, name=HOSTILE, title=HOSTILE, note=HOSTILE)
    scores = replace(one.scores, pairs=pairs, model=model)
    hostile = replace(
        results,
        sets=(replace(one, scores=scores, label=HOSTILE),),
        words=dict.fromkeys(results.words, HOSTILE),
    )
    page = visit("#head=1.1&tab=table", file=write_page(hostile, tmp_path / "hostile.html"))
    page.get_by_label("Token to look up").fill(HOSTILE)
    page.get_by_role("button", name="Look up").click()
    page.locator("summary", has_text="Keep it").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG", exact=True).click()
    drawn = Path(download.value.path()).read_text()
    assert "<script" not in drawn and "<img" not in drawn
    assert page.evaluate("window.ran") is None
    assert page.locator(".nh img, .nh script").count() == 0
    assert HOSTILE in page.locator(".nh-title").inner_text()
    assert HOSTILE in page.locator(".nh-chip").first.inner_text()


def test_the_page_names_no_address_and_holds_the_module_as_it_is(results: Results) -> None:
    text = explorer_page(results)
    assert front_end("js") in text and "</script" not in front_end("js").lower()
    addresses = text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in addresses and "https://" not in addresses
    assert explorer_page(results) == text
