"""Views of one widget, with its questions answered by a kernel."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.explorer.answers import Answers
from analysis.explorer.page import explorer_page, packed
from analysis.explorer.requests import Requests
from tests.explorer.reading import Open, as_widget

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium

SET_PAYLOAD = "(text) => model.set('payload', Uint8Array.from(atob(text), (c) => c.charCodeAt(0)))"
ASKING = "Asking for the tokens"


class Kernel:
    """Answers what a page asks, as the widget does."""

    def __init__(
        self, page: Page, planted: TransformerBridge, results: Results, *beside: Results
    ) -> None:
        self._page = page
        self._said: list[dict[str, Any]] = []
        self._payload: bytes | None = None

        def changed(new: Results) -> None:
            self._payload = packed([new, *beside])

        answers = Answers(planted, results, changed, beside)
        self._requests = Requests(answers.by_name(), self._said.append)

    def answer(self) -> None:
        """All that was asked, and what is asked after that."""
        while asked := self._page.evaluate("model.sent.splice(0)"):
            for message in asked:
                self._requests.take(message)
            self._requests.wait(60)
            if self._payload is not None:
                self._page.evaluate(SET_PAYLOAD, base64.b64encode(self._payload).decode())
            self._payload = None
            for message in self._said:
                self._page.evaluate("(message) => model.deliver(message)", message)
            self._said.clear()


def test_two_views_each_get_the_answers_to_their_own_questions(
    visit: Open, planted: TransformerBridge, related: Results, tmp_path: Path
) -> None:
    path = tmp_path / "twice.html"
    path.write_text(as_widget(explorer_page(related), views=2))
    page = visit(file=path)
    kernel = Kernel(page, planted, related)
    page.locator(".nh-map").first.locator("[role=gridcell]").first.click()
    assert page.get_by_text(ASKING).count() == 2
    kernel.answer()
    assert page.locator(".nh-card-title").all_inner_texts() == ["Head 0.3", "Head 0.3"]
    assert page.get_by_text(ASKING).count() == 0
    # What one asks to be measured, and the names that it asks to be scored, are shown in both.
    rows = page.locator(".nh-absent-row", has_text="Eigenvalue")
    rows.first.get_by_role("button", name="Compute").click()
    kernel.answer()
    page.locator("[data-measure=eigenvalue_score]").nth(1).wait_for()
    assert rows.count() == 0
    page.locator(".nh-own summary").first.click()
    page.get_by_label("Names, separated by").first.fill("Mary, John, Anna")
    page.get_by_role("button", name="Score these").click()
    kernel.answer()
    page.locator(".nh-provenance", has_text="3 names").nth(1).wait_for()


def test_the_other_setting_is_not_shown_where_other_names_were_chosen_meanwhile(
    visit: Open, planted: TransformerBridge, related: Results, tmp_path: Path
) -> None:
    path = tmp_path / "widget.html"
    path.write_text(as_widget(explorer_page(related)))
    page = visit(file=path)
    names, mlp = page.get_by_label("Names", exact=True), page.get_by_label("the first MLP")
    mlp.click()
    names.select_option("relation next")
    Kernel(page, planted, related).answer()
    page.locator(".nh-field progress").wait_for(state="detached")
    assert (names.input_value(), mlp.is_checked()) == ("relation next", True)
    names.select_option("given")
    mlp.uncheck()  # which asks nothing
    assert page.evaluate("model.sent") == []
    assert "first MLP off" in page.locator(".nh-provenance").inner_text()


def test_a_measurement_outlives_the_choice_of_models_in_which_it_was_asked_for(
    visit: Open,
    planted: TransformerBridge,
    related: Results,
    pair: tuple[Path, Results],
    tmp_path: Path,
) -> None:
    path = tmp_path / "widget.html"
    path.write_text(as_widget(explorer_page([related, pair[1]])))
    page = visit(file=path)
    kernel = Kernel(page, planted, related, pair[1])
    cells = page.locator(".nh-map").first.locator("[role=gridcell]")
    cells.nth(0).click()
    kernel.answer()
    # What is said of it outlives a redraw too.
    row = page.locator(".nh-absent-row", has_text="Eigenvalue")
    compute = row.get_by_role("button", name="Compute")
    k = page.get_by_label("k, how many").first
    compute.click()
    asked = page.evaluate("model.sent.splice(0)[0]")
    progress = {"done": 1, "total": 4, "what": "layers"}
    page.evaluate("(message) => model.deliver(message)", {"id": asked["id"], "progress": progress})
    k.fill("4")
    assert row.locator("progress").get_attribute("value") == "0.25"
    assert row.get_by_role("button", name="Stop").is_visible() and compute.is_disabled()
    page.evaluate("(message) => model.deliver(message)", {"id": asked["id"], "error": "no memory"})
    k.fill("5")
    assert row.get_by_role("alert").inner_text() == "no memory" and compute.is_enabled()
    # Another choice while it is measured.
    compute.click()
    page.get_by_label("Compared with").select_option(label="beside Other")
    cells.nth(2).click()
    kernel.answer()
    page.locator("[data-measure=eigenvalue_score]").first.wait_for()
    assert row.count() == 0
    for at, head in ((1, "1.3"), (2, "2.3"), (1, "1.3")):
        cells.nth(at).click()
        kernel.answer()
        assert page.locator(".nh-card-title").inner_text() == f"Head {head}"
        assert page.get_by_text(ASKING).count() == 0


def test_tokens_that_cannot_be_asked_for_are_said_and_not_awaited(
    visit: Open, related: Results, tmp_path: Path
) -> None:
    path = tmp_path / "widget.html"
    path.write_text(as_widget(explorer_page(related)))
    page = visit(file=path)
    cells = page.locator(".nh-map").first.locator("[role=gridcell]")
    cells.nth(0).click()
    (asked,) = page.evaluate("model.sent.splice(0)")
    page.evaluate("(id) => model.deliver({ id, error: 'no memory' })", asked["id"])
    said = page.locator(".nh-names").get_by_role("alert")
    assert said.inner_text().endswith("not known: no memory")
    page.get_by_label("k, how many").fill("4")  # asks no second time
    assert said.count() == 1 and page.evaluate("model.sent") == []
    assert page.get_by_text(ASKING).count() == 0
    cells.nth(1).click()
    cells.nth(0).click()  # which asks again
    assert [one["ask"] for one in page.evaluate("model.sent")] == ["extremes", "stop", "extremes"]
