"""How the scorer's time grows with names, heads, d_model, vocabulary and k, as curves.

It grows as heads × d_model: every further head is as much work as the one before, and each of a
head's products (its sources, the rows of its targets and competitors) has d_model terms.

``make bench`` writes ``figures/scorer_growth.svg`` and ``.csv``, from the packaged model.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import torch
from cases import Case, random_case, seconds, smollm2
from plotly.subplots import make_subplots

from analysis import export_figure
from analysis.exact.arithmetic import full_float32
from analysis.exact.vocabulary import Vocabulary

FIGURES = Path(__file__).parents[1] / "figures"
REPEATS = 3


def some_names(case: Case, share: float) -> Case:
    """The case with a share of its pairs."""
    n = max(1, int(share * len(case.targets)))
    return replace(
        case, x_first=case.x_first[:n], x_later=case.x_later[:n], targets=case.targets[:n]
    )


def some_layers(case: Case, share: float) -> Case:
    """The case with a share of its layers, evenly spread."""
    n = max(2, int(share * len(case.layers)))
    places = torch.linspace(0, len(case.layers) - 1, n).round().long().tolist()
    return replace(case, layers=[case.layers[i] for i in places])


def some_vocabulary(case: Case, share: float) -> Case:
    """The case with a share of the vocabulary: the targets, and others at random."""
    d_vocab = case.W_U.shape[1]
    others = torch.randperm(d_vocab, generator=torch.Generator().manual_seed(0))
    others = others[~torch.isin(others, case.targets)]
    kept = torch.cat([case.targets, others])[: max(len(case.targets), int(share * d_vocab))]
    W_U = case.W_U[:, kept]
    targets = torch.arange(len(case.targets))
    return replace(case, W_U=W_U, targets=targets, vocabulary=Vocabulary(W_U))


def measure() -> pd.DataFrame:
    """Seconds for each size: the least of a few runs after a first one that is not timed."""
    whole = smollm2()
    shares = (0.125, 0.25, 0.5, 1.0)
    cases = [("names", c, 1, len(c.targets)) for c in (some_names(whole, s) for s in shares)]
    cases += [("heads", c, 1, c.n_heads) for c in (some_layers(whole, s) for s in shares)]
    for d_model in (256, 512, 1024, 2048):  # 72 heads of 64 dimensions each, random weights
        shape = random_case(n_layers=6, n_heads=12, d_model=d_model, n_pairs=300)
        cases.append(("d_model", shape, 1, d_model))
    cases += [
        ("vocabulary", c, 1, c.W_U.shape[1]) for c in (some_vocabulary(whole, s) for s in shares)
    ]
    cases += [("k", whole, k, k) for k in (1, 3, 10, 30, 100)]
    rows = []
    for what, case, k, size in cases:
        case.exact(k)
        times = [seconds(partial(case.exact, k))[0] for _ in range(REPEATS)]
        rows.append({"what": what, "size": size, "seconds": min(times)})
    return pd.DataFrame(rows)


def plot(times: pd.DataFrame) -> go.Figure:
    """A panel for each, time over size, both from zero but for k, whose axis is logarithmic."""
    kinds = list(dict.fromkeys(times["what"]))
    fig = make_subplots(rows=1, cols=len(kinds), shared_yaxes=True, horizontal_spacing=0.03)
    for column, kind in enumerate(kinds, start=1):
        part = times[times["what"] == kind]
        trace = go.Scatter(x=part["size"], y=part["seconds"], mode="lines+markers", name=kind)
        fig.add_trace(trace.update(line={"color": "#3b528b"}), row=1, col=column)
        axis = {"type": "log"} if kind == "k" else {"rangemode": "tozero", "nticks": 5}
        fig.update_xaxes(title=kind, row=1, col=column, **axis)
    fig.update_yaxes(rangemode="tozero")
    fig.update_yaxes(title="seconds", row=1, col=1)
    return fig.update_layout(
        title="Time of the scorer: SmolLM2-135M, every head (d_model: random weights)",
        showlegend=False,
        width=1250,
        height=330,
        font={"size": 13},
        template="simple_white",
    )


def main() -> None:
    """Measure, draw and write."""
    times = measure()
    print(times.to_string(index=False))
    times.to_csv(FIGURES / "scorer_growth.csv", index=False, lineterminator="\n")
    export_figure(plot(times), FIGURES / "scorer_growth", ["svg"])


if __name__ == "__main__":
    with torch.no_grad(), full_float32():
        main()
