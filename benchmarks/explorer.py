"""Sizes and times of the explorer: its page, a change of k, opening, new names, the first MLP.

``python benchmarks/explorer.py [FOLDER]`` writes its table into ``results.md``, and leaves
the two pages in FOLDER if one is given. The large page has made-up ranks, 48 layers of 25 heads;
everything else is the packaged model. Seconds of the processor stand beside those of the clock, as
the machine may do other work.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from sections import RESULTS, markdown, met, other_work, write_section

from analysis import load_model
from analysis.explorer.evidence import Evidence, Measure
from analysis.explorer.measuring import measure_all
from analysis.explorer.on_prompt import EXAMPLE
from analysis.explorer.page import write_page
from analysis.explorer.payload import MAX_RANK
from analysis.explorer.queries import ExtremeTokens
from analysis.explorer.results import (
    N_HEADS_WITH_TOKENS,
    Results,
    collect,
    score_names,
    strongest,
)

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
T = TypeVar("T")
Row = tuple[str, str, str]
"""What was measured, what came out, and the goal."""
SLIDE = """(tab) => {
  document.querySelector(`[data-tab=${tab}]`).click();
  const slider = document.querySelector(".nh input[type=range]");
  let steps = 0;
  for (let k = 2; k <= 100; k += 7) {
    slider.value = k;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.offsetHeight;
    steps += 1;
  }
  return steps;
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
        top, bottom = ranks.astype(np.uint8)
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
    extremes = {
        head: ExtremeTokens(
            rng.choice(ids, (scores.n_pairs, 5)),
            rng.choice(ids, (scores.n_pairs, 5)),
            zero_output=np.zeros(scores.n_pairs, bool),
        )
        for head in strongest(sets[0].scores, N_HEADS_WITH_TOKENS)
    }
    sets[0] = replace(sets[0], extremes=extremes)
    n = n_layers * n_heads
    measures = tuple(
        Measure(one.key, one.title, one.group, rng.normal(size=n), one.range)
        for one in small.evidence.measures
    )
    prompts = {
        text: {
            (layer, head): read[layer % scores.n_layers, head % scores.n_heads]
            for layer in range(n_layers)
            for head in range(n_heads)
        }
        for text, read in small.prompts.items()
    }
    return replace(small, sets=tuple(sets), evidence=Evidence(measures), prompts=prompts)


def in_browser(page: Path) -> dict[str, float]:
    """Milliseconds until the page can be used, and of a change of k with each view open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        found: dict[str, float] = {}
        opened = []
        for _ in range(3):
            tab.goto("about:blank")
            tab.goto(page.as_uri() + "#head=0.1")
            tab.wait_for_function("() => performance.getEntriesByName('usable').length")
            opened.append(tab.evaluate("performance.getEntriesByName('usable')[0].startTime"))
        found["opened until it can be used"] = min(opened)
        # Of the page's own thread, so that other work of the machine does not count.
        developer = tab.context.new_cdp_session(tab)
        developer.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        developer.send("Performance.enable")
        for view in ("scatter", "table"):
            before = _task_seconds(developer)
            n_steps = tab.evaluate(SLIDE, view)
            worked = (_task_seconds(developer) - before) / n_steps
            found[f"k changed, card and {view} open"] = 1000 * worked
        browser.close()
    return found


def _task_seconds(developer: CDPSession) -> float:
    metrics = developer.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}["TaskDuration"]


def timed(rows: list[Row], what: str, goal: str, call: Callable[[], T]) -> T:
    """Call, and note the seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    took, worked = time.perf_counter() - clock, time.process_time() - processor
    rows.append((what, f"{took:.1f} s ({worked:.1f} s of the processor)", goal))
    return result


def _number(text: str) -> Any:
    """The number that a cell begins with, such as 1000 of ``1,000 ms``; an empty cell as it is."""
    return float(text.split()[0].replace(",", "")) if text else text


def main() -> None:
    """Measure everything and write the table."""
    rows: list[Row] = []
    model = load_model("smollm2-135m")
    one = timed(rows, "779 names scored, ranks to 100", "3 s", lambda: score_names(model))
    timed(
        rows,
        "the first MLP switched",
        "3 s",
        lambda: score_names(model, one.scores.pairs, first_mlp=False),
    )
    timed(
        rows,
        "three other names scored",
        "3 s",
        lambda: score_names(model, ["Mary", "John", "Anna"]),
    )
    results = collect(
        model,
        first_mlp=(True, False),
        n_heads_with_tokens=N_HEADS_WITH_TOKENS,
        prompts=[EXAMPLE],
    )
    evidence = timed(rows, "every measurement", "", lambda: measure_all(model, results.scores))
    results = results.with_evidence(evidence)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).resolve()
        for title, goal, shown in (
            (f"{results.scores.n_layers} × {results.scores.n_heads}", "1.5 MB", results),
            ("48 × 25", "6 MB", made_up(results, 48, 25)),
        ):
            page = write_page(shown, folder / f"{shown.scores.n_layers}_layers_explorer.html")
            rows.append((f"page of {title} heads", f"{page.stat().st_size / 1e6:.2f} MB", goal))
            for name, value in in_browser(page).items():
                goal = "100 ms" if name.startswith("k ") else "1,000 ms"
                rows.append((f"page of {title} heads, {name}", f"{value:,.0f} ms", goal))
    table = markdown(
        [
            {"what": what, "measured": said, "goal": goal, "met": met(_number(said), _number(goal))}
            for what, said, goal in rows
        ]
    )
    write_section(
        "The explorer",
        f"{table}\n\nSmolLM2-135M with every measured number, ranks to 100 with and without the "
        f"first MLP, the tokens around every name for {N_HEADS_WITH_TOKENS} heads, and attention "
        "on one prompt; the larger page is made up. "
        f"Threads: {torch.get_num_threads()}; {other_work(torch.get_num_threads())}. "
        "Made by `make bench`.",
    )
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
