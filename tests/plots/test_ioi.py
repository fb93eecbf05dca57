"""The task's figures hold the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.ioi.class_agreement import precision_recall
from analysis.plots.ioi import (
    plot_attention_against_output,
    plot_direct_effects,
    plot_precision_recall,
)

INDEX = pd.MultiIndex.from_product([range(3), range(2)], names=["layer", "head"])


def test_direct_effects_are_white_at_zero_on_one_scale() -> None:
    numbers = pd.DataFrame(
        {"direct_effect": [0, 1, 2, -3, 0.5, 0], "growth": [0, 0, 0, 0, 5, 0]}, index=INDEX
    )
    fig = plot_direct_effects(numbers, "title", {"direct_effect": "before", "growth": "change"})
    before, change = fig.data
    # Rows are heads (y), columns are layers (x).
    assert np.array_equal(np.array(before.z), [[0, 2, 0.5], [1, -3, 0]])
    assert np.array_equal(np.array(change.z), [[0, 0, 5], [0, 0, 0]])
    for trace in fig.data:
        assert (trace.zmin, trace.zmax) == (-5, 5)
        assert dict(trace.colorscale)[0.5] == "#ffffff"
    for none, what in ((0, "all zero"), (np.nan, "nothing ablated")):
        trace = plot_direct_effects(numbers * none, what).data[0]
        assert (trace.zmin, trace.zmax) == (-1, 1)


def test_the_scatter_has_a_panel_for_each_head() -> None:
    points = pd.DataFrame(
        {
            "layer": [1, 1, 2, 2],
            "head": 0,
            "prompt": 0,
            "name": ["IO", "S"] * 2,
            "attention": [0.9, 0.1, 0.2, 0.3],
            "written": [3.0, 0.5, -1.0, -2.0],
        }
    )
    fig = plot_attention_against_output(points, "title")
    said = [note.text for note in fig.layout.annotations]
    assert said == ["1.0", "2.0", "Attention to the name"]
    assert [(trace.name, trace.x[0], trace.y[0]) for trace in fig.data] == [
        ("IO", 0.9, 3.0),
        ("S", 0.1, 0.5),
        ("IO", 0.2, -1.0),
        ("S", 0.3, -2.0),
    ]
    assert plot_attention_against_output(points.iloc[:0], "no head").data == ()


def test_precision_recall_has_a_line_for_each_score() -> None:
    curve = pd.DataFrame(
        {
            "score": ["a", "a", "a", "b"],
            "threshold": 1,
            "recall": [0.5, 0.5, 1, 1],
            "precision": [1, 0.8, 0.5, 0.2],
        }
    )
    fig = plot_precision_recall({"one": curve, "two": curve}, "title")
    assert [trace.name for trace in fig.data] == ["b", "a"] * 2
    below, first = fig.data[:2]
    assert first.x == (0, 0.5, 1) and first.y == (1, 1, 0.5)
    assert below.line.width > first.line.width, "where they coincide, both show, the first on top"
    assert first.legendrank < below.legendrank
    assert [trace.showlegend for trace in fig.data] == [True, True, False, False]
    assert len({trace.line.color for trace in fig.data}) == 2


def test_the_panel_of_a_class_without_heads_says_so() -> None:
    scores = pd.DataFrame({"a": range(6), "b": range(6)}, index=INDEX)
    classes = pd.DataFrame({"class": "name mover"}, index=INDEX[3:4])
    curves = {name: precision_recall(scores, classes, name) for name in ("backup", "name mover")}
    fig = plot_precision_recall(curves, "title")
    empty, *drawn = fig.data
    assert (empty.xaxis, empty.x, empty.showlegend) == ("x", (), False)
    assert [(trace.name, trace.xaxis) for trace in drawn] == [("b", "x2"), ("a", "x2")]
    assert all(trace.showlegend for trace in drawn)
    said = {note.text: note.xref for note in fig.layout.annotations}
    assert said == {"backup": "paper", "name mover": "paper", "no head is in this class": "x"}
