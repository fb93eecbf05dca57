"""Sizes and times of the explorer: its page, a change of k, opening, new names, the first MLP.

``python benchmarks/explorer.py [FOLDER]`` prints a table, and leaves the two pages in FOLDER if one
is given. The large page has made-up ranks, 48 layers of 25 heads; everything else is the packaged
model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis import load_model
from analysis.explorer.evidence import Evidence, Measure, measure_all
from analysis.explorer.page import write_page
from analysis.explorer.payload import MAX_RANK
from analysis.explorer.queries import Extremes
from analysis.explorer.results import (
    N_HEADS_WITH_TOKENS,
    Results,
    collect,
    score_names,
    strongest,
)

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
SLIDE = """() => {
  const slider = document.querySelector(".nh input[type=range]");
  const times = [];
  for (let k = 2; k <= 100; k += 7) {
    const start = performance.now();
    slider.value = k;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.offsetHeight;
    times.push(performance.now() - start);
  }
  return Math.max(...times);
}"""


def made_up(small: Results, n_layers: int, n_heads: int) -> Results:
    """Results of the same names for a larger model, with ranks drawn at random."""
    rng = np.random.default_rng(0)
    scores = small.scores
    shape = (n_layers, n_heads, scores.n_pairs)
    sets = []
    for first_mlp in (True, False):
        share = rng.beta(0.15, 1.2, size=(2, n_layers, n_heads, 1))
        near = rng.random((2, *shape)) < share
        ranks = np.where(near, np.minimum(rng.geometric(0.1, (2, *shape)) - 1, MAX_RANK), MAX_RANK)
        top, bottom = ranks.astype(scores.ranks_top.dtype)
        drawn = replace(
            scores,
            in_top_k=top < 1,
            in_bottom_k=bottom < 1,
            first_mlp=first_mlp,
            ranks_top=top,
            ranks_bottom=bottom,
        )
        sets.append(replace(small.sets[0], scores=drawn, extremes={}))
    ids = np.array(list(small.words))
    drawn = {
        head: Extremes(rng.choice(ids, (scores.n_pairs, 5)), rng.choice(ids, (scores.n_pairs, 5)))
        for head in strongest(sets[0].scores, N_HEADS_WITH_TOKENS)
    }
    sets[0] = replace(sets[0], extremes=drawn)
    n = n_layers * n_heads
    measures = tuple(
        Measure(one.key, one.title, one.group, rng.normal(size=n), one.range)
        for one in small.evidence.measures
    )
    return replace(small, sets=tuple(sets), evidence=Evidence(measures))


def in_browser(page: Path) -> dict[str, float]:
    """Milliseconds until the page can be used, and of its slowest change of k."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.goto(page.as_uri() + "#head=0.1")
        tab.wait_for_selector(".nh-map [role=gridcell]")
        found = {"open_ms": tab.evaluate("performance.now()"), "k_ms": tab.evaluate(SLIDE)}
        browser.close()
    return found


def main() -> None:
    model = load_model("smollm2-135m")
    rows: dict[str, Any] = {}
    start = time.perf_counter()
    one = score_names(model)
    rows["names scored with ranks to 100, s"] = time.perf_counter() - start
    start = time.perf_counter()
    score_names(model, one.scores.pairs, first_mlp=False)
    rows["first MLP switched, s"] = time.perf_counter() - start
    results = collect(model, first_mlp=(True, False), n_heads_with_tokens=N_HEADS_WITH_TOKENS)
    start = time.perf_counter()
    results = results.with_evidence(measure_all(model, results.scores))
    rows["every measurement, s"] = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).resolve()
        for title, shown in (
            (f"{results.scores.n_layers} × {results.scores.n_heads}", results),
            ("48 × 25", made_up(results, 48, 25)),
        ):
            page = write_page(shown, folder / f"{shown.scores.n_layers}_layers_explorer.html")
            rows[f"page of {title} heads, MB"] = page.stat().st_size / 1e6
            for name, value in in_browser(page).items():
                rows[f"page of {title} heads, {name}"] = value
    for name, value in rows.items():
        print(f"{name:45s} {value:10.2f}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
