"""The figures beside the heatmaps, of made-up results of a real model's size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.ablation.curve import AblationCurve
from analysis.plots.ablation_curves import plot_ablation
from analysis.plots.ioi import (
    plot_attention_against_output,
    plot_direct_effects,
    plot_precision_recall,
)
from analysis.plots.static_dynamic import plot_static_dynamic
from analysis.plots.sweep import plot_by_depth, plot_over_training
from analysis.plots.token_kinds import plot_kinds
from analysis.provenance import ModelIdentity
from analysis.static.definitions import KINDS

MODEL = ModelIdentity("smollm2-135m", "SmolLM2-135M-Instruct")
HEADS = pd.MultiIndex.from_product([range(30), range(9)], names=["layer", "head"])
TASKS = ("copying names", "capital of a country", "plural of a noun", "past of a verb")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ablation_curve(modes: tuple[str, ...] = ("mean", "zero")) -> AblationCurve:
    """A curve whose accuracy falls by 0.08 a head, with intervals 0.1 wide on either side."""
    rows = {}
    for mode in modes:
        for task in TASKS:
            for kind, draws in (("given", 1), ("random", 5 if task == TASKS[0] else 0)):
                for draw in range(draws):
                    for n in range(11):
                        at = 0.9 - (0.08 if kind == "given" else 0.01 + 0.002 * draw) * n
                        rows[mode, task, kind, draw, n] = {
                            "accuracy": at,
                            "accuracy_low": at - 0.1,
                            "accuracy_high": min(at + 0.1, 1),
                            "change": -at,
                            "change_low": -at - 0.3,
                            "change_high": -at + 0.2,
                        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(
        frame.index, names=["mode", "task", "heads", "draw", "removed"]
    )
    controls = pd.DataFrame({"chosen": [True, False, False]}, index=list(TASKS[1:]))
    heads = tuple((23, head % 9) if head < 9 else (24, 0) for head in range(10))
    return AblationCurve(frame.sort_index(), controls, heads, TASKS[0], 60, MODEL, {})


def static_dynamic() -> go.Figure:
    scores = rng().random((len(HEADS), 2)) ** 8
    static = pd.DataFrame(scores, index=HEADS, columns=["copying_score", "suppression_score"])
    for name in list(static):
        static[f"{name}_low"], static[f"{name}_high"] = static[name] * 0.9, static[name] * 0.9 + 0.1
    noise = rng().normal(0, 0.05, scores.shape)
    dynamic = pd.DataFrame((scores + noise).clip(0, 1), index=HEADS, columns=list(static)[:2])
    title = "SmolLM2-135M-Instruct: static against dynamic scores, with context"
    return plot_static_dynamic(static, dynamic, title=title)


def direct_effects(columns: dict[str, str] | None = None) -> go.Figure:
    numbers = pd.DataFrame(
        rng().normal(size=(len(HEADS), 2)), index=HEADS, columns=["direct_effect", "growth"]
    )
    title = "SmolLM2-135M-Instruct: direct effect of each head on the logit difference"
    return plot_direct_effects(numbers, title, columns)


def attention(n_heads: int = 5) -> go.Figure:
    n = 40 * n_heads
    points = pd.DataFrame(
        {
            "layer": np.repeat(np.arange(n_heads) // 3 + 22, 40),
            "head": np.repeat(np.arange(n_heads), 40),
            "prompt": 0,
            "name": ["IO", "S"] * (n // 2),
            "attention": rng().random(n),
            "written": rng().normal(0, 3, n),
        }
    )
    return plot_attention_against_output(points, "SmolLM2-135M-Instruct: attention and output")


def precision_recall() -> go.Figure:
    curve = pd.DataFrame(
        {
            "score": np.repeat(["copying score", "dynamic score", "eigenvalue score"], 20),
            "threshold": 0.5,
            "recall": np.tile(np.linspace(0.05, 1, 20), 3),
            "precision": rng().random(60),
        }
    )
    return plot_precision_recall(
        {"name movers": curve, "negative name movers": curve}, "SmolLM2-135M-Instruct"
    )


def swept(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        rng().random((len(HEADS), 2)) ** 6,
        index=HEADS,
        columns=["copying_score", "suppression_score"],
    )
    return frame.reset_index().assign(**columns)


def over_training() -> go.Figure:
    steps = pd.concat([swept(step=step) for step in (0, 1000, 10_000, 143_000)])
    return plot_over_training(steps, "Pythia-160m over training")


def by_depth() -> go.Figure:
    names = ("SmolLM2-135M-Instruct", "GPT-2", "GPT-2 Medium", "Pythia-160m")
    models = pd.concat([swept(title=name, n_layers=30) for name in names])
    return plot_by_depth(models, "Four models")


def kinds(model: str = "SmolLM2-135M-Instruct") -> go.Figure:
    shares = pd.DataFrame(
        rng().random((5, len(KINDS))), index=[f"23.{n}" for n in range(5)], columns=list(KINDS)
    )
    return plot_kinds(shares, shares, model)


OTHERS: dict[str, Callable[[], go.Figure]] = {
    "static against dynamic": static_dynamic,
    "accuracy": lambda: plot_ablation(ablation_curve(), title="SmolLM2-135M-Instruct: removed"),
    "change": lambda: plot_ablation(ablation_curve(("mean",)), "change", title="Removed"),
    "direct effects": direct_effects,
    "two direct effects": lambda: direct_effects(
        {"direct_effect": "before", "growth": "growth after the name movers are removed"}
    ),
    "attention": attention,
    "precision and recall": precision_recall,
    "over training": over_training,
    "by depth": by_depth,
    "kinds of tokens": kinds,
}
