"""The page opened from a file, with the network blocked, in Chromium."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from analysis import score_heads
from analysis.explorer.cards import head_card
from analysis.explorer.on_prompt import heads_on_prompt
from analysis.explorer.page import explorer_page, front_end, write_page
from analysis.explorer.results import collect
from analysis.plots.marks import class_sets
from tests.explorer.conftest import PROMPTS, RELATIONS
from tests.explorer.reading import (
    TEN_HEADS,
    Open,
    card_numbers,
    colors,
    open_head,
    scope_of,
)
from tests.planted import NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium
HOSTILE = "</script><img src=x onerror='window.ran=1'><script>window.ran=1</script>"


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


def test_pairs_that_begin_alike_each_have_their_rank(
    visit: Open, planted: TransformerBridge, tmp_path: Path
) -> None:
    pairs = [("Mary", "John"), ("Mary", "Anna"), ("James", "Peter")]
    ranked = collect(planted, pairs, n_heads_with_tokens=12)
    page = visit("#head=1.1&end=top", file=write_page(ranked, tmp_path / "alike.html"))
    answers = page.locator(".nh-answer p")
    expected = {}
    for at, (source, target) in enumerate(pairs):
        top, bottom = (
            str(ranks[1, 1, at]) if ranks[1, 1, at] < 100 else "100 or more"
            for ranks in (ranked.scores.ranks_top, ranked.scores.ranks_bottom)
        )
        said = f"{target}: {top} tokens have a larger logit, {bottom} a smaller one."
        expected[source, target] = said
        page.locator(".nh-chip", has_text=f"{source} → {target}").click()
        assert answers.all_inner_texts() == [said]
    page.get_by_label("Token to look up").fill("Mary")
    page.get_by_role("button", name="Look up").click()
    assert answers.all_inner_texts() == [expected[pair] for pair in pairs[:2]]
    page.get_by_label("Filter the names").fill("anna")
    assert page.locator(".nh-chip").all_inner_texts() == [
        page.locator(".nh-chip", has_text="Mary → Anna").inner_text()
    ]


@pytest.mark.parametrize("with_tokens", [True, False])
@pytest.mark.parametrize("n", [len(NAMES), 2])
def test_no_token_comes_before_a_name_for_which_nothing_is_written(
    visit: Open, results: Results, tmp_path: Path, n: int, with_tokens: bool
) -> None:
    one = results.sets[0]
    scores, found = one.scores, one.extremes[1, 1]
    assert scores.ranks_top is not None and scores.n_zero_output is not None
    ranks, counts = scores.ranks_top.copy(), scores.n_zero_output.copy()
    ranks[1, 1, :n], counts[1, 1] = 100, n
    scores = replace(scores, ranks_top=ranks, n_zero_output=counts)
    without = replace(found, zero_output=np.arange(len(NAMES)) < n)
    extremes = {(1, 1): without} if with_tokens else {}
    zero = replace(results, sets=(replace(one, scores=scores, extremes=extremes),))
    page = visit("#head=1.1&end=top", file=write_page(zero, tmp_path / "zero.html"))
    lists = page.locator(".nh-names .nh-list-title")
    if not with_tokens and n < len(NAMES):
        assert "or it writes nothing, as for 2 of all names" in lists.nth(2).inner_text()
        return
    assert lists.nth(2).inner_text().startswith("Misses 0 ")
    assert lists.nth(3).inner_text().startswith(f"Writes nothing for {n} ")
    titles = page.locator(".nh-list-nothing .nh-chip").evaluate_all("(x) => x.map((c) => c.title)")
    assert titles == ["writes nothing"] * n
    page.get_by_label("Only names that hold").fill(NAMES[0])
    assert page.locator(".nh-list-nothing .nh-chip").count() == 1
    if with_tokens:
        page.locator(".nh-list-nothing .nh-chip").click()
        said = page.locator(".nh-answer").first
        assert said.inner_text() == f"{NAMES[0]}: it writes nothing, all logits are 0."


def test_nothing_is_said_of_what_was_shown_before(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    unknown = [
        replace(one, values=np.full_like(one.values, np.nan))
        for one in results.evidence.measures
        if one.key.startswith("vocabulary")
    ]
    evidence = replace(results.evidence, measures=tuple(unknown))
    one_setting = replace(results, sets=results.sets[:1], evidence=evidence)
    page = visit(file=write_page(one_setting, tmp_path / "some.html"))
    errors = page.locator(".nh-field").get_by_role("alert")
    page.get_by_label("Lowest value").fill("0.5")
    page.get_by_label("Highest value").fill("0.1")
    page.get_by_label("Highest value").press("Enter")
    page.get_by_label("through the first MLP").click()
    assert errors.count() == 2
    page.locator(".nh-map").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    cell = page.locator(".nh-map").first.get_by_label("2.0: copying score")
    page.get_by_label("k, how many").fill("40")
    assert errors.count() == 0
    n = results.scores.at_k(40).n_in_top_k[2, 0]
    label = f"2.0: copying score {n / len(NAMES):.3f} ({n} of {len(NAMES)}), "
    assert (cell.get_attribute("aria-label") or "").startswith(label)
    # The filter, after Back with the focus in its box.
    box = page.get_by_label("Only names that hold")
    box.fill("an")
    box.press("Enter")
    page.go_back()
    assert box.input_value() == "" and f"{len(NAMES)} names" in (
        page.locator(".nh-provenance").inner_text()
    )
    # What is dimmed is of one score's numbers; where there are none, none is the highest.
    page.get_by_label("Dim heads below").fill("0.5")
    page.get_by_label("Score", exact=True).select_option("vocabulary")
    assert page.get_by_label("Dim heads below").input_value() == "0"
    said = page.locator("[aria-live]").inner_text()
    assert said.count("not known") == 2 and "highest" not in said


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


def test_what_to_run_is_of_the_names_that_are_shown(
    visit: Open, planted: TransformerBridge, related: Results, tmp_path: Path
) -> None:
    file = write_page(related, tmp_path / "related.html")
    for fragment, names in (
        ("", list(NAMES)),
        ("&only=an", [name for name in NAMES if "an" in name.lower()]),
        ("&names=relation+next", RELATIONS["next"]),
    ):
        page = visit(f"#head=1.1{fragment}", file=file)
        lines = page.locator(".nh-names pre").inner_text()
        before, _, last = lines.rpartition("\n")
        scope: dict[str, object] = {"model": planted}
        exec(before, scope)
        pd.testing.assert_frame_equal(eval(last, scope), head_card(planted, (1, 1), names).names)


def test_what_to_run_loads_the_model_that_is_shown(
    visit: Open, results: Results, tmp_path: Path
) -> None:
    one = results.sets[0]
    for source, line in (
        ("hub", 'model = load_model("a/b", revision="0123abc")'),
        ("memory", "model = ...  # this model was built in memory"),
    ):
        model = replace(one.scores.model, name="a/b", revision="0123abc", source=source)
        of_hub = replace(results, sets=(replace(one, scores=replace(one.scores, model=model)),))
        page = visit(file=write_page(of_hub, tmp_path / "hub.html"))
        page.locator("summary", has_text="Your own names").click()
        assert page.locator(".nh-own pre").inner_text().splitlines()[2:] == [
            line,
            'explore(model, names=["Mary", "John"])',
        ]


def test_a_hover_in_the_scatter_rings_the_head_in_the_heatmaps(visit: Open) -> None:
    page = visit("#x=layer&y=head")
    drawn = page.locator(".nh-scatter text").all_text_contents()
    assert {"0", "1", "2"} <= set(drawn) and not {"1.000", "2.000"} & set(drawn)
    assert page.locator(".nh-scales").inner_text().split()[-3:] == ["0", "to", "2."]
    circle = page.locator(".nh-scatter circle").nth(5)
    circle.hover(force=True)
    assert page.locator(".nh-tip strong").inner_text() == "1.1"
    assert page.locator(".nh-map .nh-rings rect").count() == 2


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


def test_relations_are_those_of_the_setting_shown(
    visit: Open, results: Results, related: Results, tmp_path: Path
) -> None:
    """The names were scored with and without the first MLP, the relations with it alone."""
    relations = [one for one in related.sets if not one.scores.pairs.copying]
    file = write_page(replace(results, sets=(*results.sets, *relations)), tmp_path / "some.html")
    page = visit("#k=60&mlp=false&head=2.1", file=file)
    section = page.locator(".nh-card section", has_text="Its strongest relations")
    assert page.locator(".nh-relations").count() == 0
    assert "With the first MLP on alone was scored: swapped; next." in section.inner_text()
    assert "No relation" not in section.inner_text()
    page.get_by_label("through the first MLP").check()
    assert page.locator(".nh-relations tbody tr").count() == 2
    assert "alone" not in section.inner_text()
    page.get_by_label("Only names that hold").fill("an")
    assert "These are of all pairs" in section.inner_text()


def test_a_token_is_looked_up_for_the_next_head_too(visit: Open, results: Results) -> None:
    page = visit("#head=1.1")
    page.get_by_label("Token to look up").fill("Mary")
    page.get_by_role("button", name="Look up").click()
    at, scores = NAMES.index("Mary"), results.scores
    assert scores.ranks_top is not None and scores.ranks_bottom is not None
    page.get_by_role("button", name="Close").click()
    for head in ((1, 2), (2, 0)):
        page.evaluate(f"location.hash = 'head={head[0]}.{head[1]}'")
        page.locator(".nh-card-title", has_text=f"{head[0]}.{head[1]}").wait_for()
        more, less = (
            "100 or more" if (rank := ranks[(*head, at)]) == 100 else str(rank)
            for ranks in (scores.ranks_top, scores.ranks_bottom)
        )
        assert page.locator(".nh-answer p").first.inner_text() == (
            f"Mary: {more} tokens have a larger logit, {less} a smaller one."
        )


def test_an_answer_goes_with_the_setting_that_it_was_of(visit: Open) -> None:
    page = visit("#head=1.1")
    page.get_by_label("Token to look up").fill("Mary")
    page.get_by_role("button", name="Look up").click()
    answer = page.locator(".nh-answer", has_text="tokens have a larger logit")
    assert answer.is_visible()
    page.get_by_label("k, how many").fill("7")
    assert answer.is_visible()
    page.get_by_label("through the first MLP").uncheck()
    assert page.locator(".nh-answer p").nth(1).inner_text() == (
        "The tokens that it writes most and least are not in this page. In Python: "
        'head_card(model, (1, 1), first_mlp=False).writes_for("Mary")'
    )
    assert "head_card(model, (1, 1), first_mlp=False).changes_most()" in (
        page.locator(".nh-card").inner_text()
    )


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


LEFT_ENDS = """([parts, wanted]) => {
  const left = (part) => {
    const nodes = document.createTreeWalker(document.querySelector(wanted), NodeFilter.SHOW_TEXT);
    for (let node; (node = nodes.nextNode());) {
      const at = node.data.indexOf(part), range = document.createRange();
      if (at < 0) continue;
      range.setStart(node, at);
      range.setEnd(node, at + part.length);
      return range.getBoundingClientRect().left;
    }
    return null;
  };
  return parts.map(left);
}"""


def test_words_from_right_to_left_turn_nothing_around_them(
    visit: Open, related: Results, tmp_path: Path
) -> None:
    one = related.sets[1]
    words = ("\u05d3\u05d5\u05d3", "\u05e8\u05d5\u05ea")
    n = one.scores.n_pairs
    pairs = replace(one.scores.pairs, sources=words[:1] * n, targets=words[1:] * n)
    model = replace(one.scores.model, title="A \u202e B")
    scores = replace(one.scores, pairs=pairs, model=model)
    turned = replace(related, sets=(replace(one, scores=scores, label=words[0]),))
    page = visit("#head=1.1", file=write_page(turned, tmp_path / "turned.html"), width=1500)
    for parts, part in (
        ([words[0], "→", words[1]], ".nh-chip"),
        (["layers of", "k = 1", "first MLP"], ".nh-provenance"),
    ):
        found = page.evaluate(LEFT_ENDS, [parts, part])
        assert found == sorted(found), part
    chip = page.locator(".nh-chip").first.bounding_box()
    rank = page.locator(".nh-chip .nh-rank").first.bounding_box()
    assert chip and rank and rank["x"] > chip["x"] + chip["width"] / 2


def test_the_page_names_no_address_and_holds_the_module_as_it_is(results: Results) -> None:
    text = explorer_page(results)
    assert front_end("js") in text and "</script" not in front_end("js").lower()
    addresses = text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in addresses and "https://" not in addresses
    assert explorer_page(results) == text


def test_attention_on_the_prompts_that_came_with_the_results(
    visit: Open, planted: TransformerBridge
) -> None:
    page = visit("#head=1.1")
    picked = page.get_by_label("Prompt")
    for number, prompt in enumerate(PROMPTS):
        picked.select_option(str(number))
        for head in ((1, 1), (2, 0)):
            open_head(page, *head)
            assert picked.input_value() == str(number)  # the next head keeps the prompt
            found = heads_on_prompt(planted, prompt, n=5, heads=[head])[head]
            tokens = page.locator(".nh-prompt .nh-token")
            assert tokens.count() == len(found.tokens)
            for at in range(len(found.tokens)):
                tokens.nth(at).hover()
                shares = tokens.evaluate_all("(all) => all.map((one) => parseFloat(one.title))")
                assert shares == pytest.approx(100 * found.attention[at], abs=0.06)
            lists = page.locator(".nh-prompt ~ .nh-columns ol")
            for shown, frame in zip(lists.all(), (found.most, found.least), strict=True):
                words = shown.locator("code").all_inner_texts()
                assert [word.replace("␣", " ") for word in words] == list(frame["token"])
