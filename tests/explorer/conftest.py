"""A planted model, its results, and the browser that looks at them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import pytest

from analysis.explorer.evidence import Evidence
from analysis.explorer.measuring import measure
from analysis.explorer.page import write_page
from analysis.explorer.results import Results, collect
from tests.explorer.reading import Open
from tests.planted import NAMES, planted_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from transformer_lens.model_bridge import TransformerBridge


@pytest.fixture(scope="session")
def planted() -> TransformerBridge:
    return planted_model("llama")


@pytest.fixture(scope="session")
def measured(planted: TransformerBridge) -> Evidence:
    scores = collect(planted, list(NAMES)).scores
    evidence = None
    for what in ("null", "vocabulary", "eigenvalue"):
        evidence = measure(planted, scores, what, evidence)
    assert evidence is not None
    return evidence


PROMPTS = [" ".join(NAMES[:5]), f"{NAMES[3]} {NAMES[7]}"]


@pytest.fixture(scope="session")
def results(planted: TransformerBridge, measured: Evidence) -> Results:
    return collect(
        planted,
        list(NAMES),
        first_mlp=(True, False),
        evidence=measured,
        n_heads_with_tokens=6,
        prompts=PROMPTS,
    )


RELATIONS = {
    "swapped": [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[0]), (NAMES[2], NAMES[3])],
    "next": list(itertools.pairwise(NAMES)),
}


@pytest.fixture(scope="session")
def related(planted: TransformerBridge) -> Results:
    """Two relations beside the names, and nothing measured."""
    return collect(planted, list(NAMES), relations=RELATIONS)


@pytest.fixture(scope="session")
def marked(results: Results) -> Results:
    """A head of every class that is marked, and one that is not."""
    rows = [
        ((1, 1), "name mover", "measured"),
        ((1, 0), "negative name mover", "measured"),
        ((0, 0), "backup name mover", "measured"),
        ((0, 3), "backup negative name mover", "measured"),
        ((2, 2), "subject suppressor", "measured"),
        ((1, 1), "name mover", "published"),
        ((1, 0), "negative name mover", "published"),
        ((0, 1), "backup name mover", "published"),
        ((0, 2), "backup name mover", "published"),  # suppresses: on both panels
        ((2, 0), "induction", "published"),
    ]
    classes = pd.DataFrame(
        [(name, "planted", "a source", origin) for _, name, origin in rows],
        columns=["class", "model", "source", "origin"],
        index=pd.MultiIndex.from_tuples([head for head, *_ in rows], names=["layer", "head"]),
    )
    return results.with_evidence(replace(results.evidence, classes=classes))


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
