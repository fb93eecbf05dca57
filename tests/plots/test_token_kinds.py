"""The heatmaps of kinds of tokens show the shares that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.plots.token_kinds import plot_kinds

KINDS = ["name", "number", "other"]


def shares(heads: list[str], values: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(values, index=heads, columns=KINDS)


def test_each_side_shows_its_heads_and_shares_on_one_scale_from_0_to_1() -> None:
    copied = shares(["23.2", "23.10"], [[0.9, 0.25, 0.5], [0.125, 0.0, 1.0]])
    suppressed = shares(["24.4"], [[0.0, 0.5, 0.75]])
    fig = plot_kinds(copied, suppressed, "Model")
    assert fig.layout.title.text == "Model: kinds of tokens"
    above = [note.text for note in fig.layout.annotations]
    assert above == ["Tokens copied", "Tokens suppressed"]
    for trace, frame in zip(fig.data, (copied, suppressed), strict=True):
        np.testing.assert_array_equal(np.array(trace.z, dtype=float), frame.to_numpy())
        assert list(trace.x) == KINDS
        assert list(trace.y) == list(frame.index)
        assert trace.coloraxis == "coloraxis"
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (0, 1)


def test_heads_are_labels_and_not_numbers_and_read_from_the_top() -> None:
    frame = shares(["2.1", "2.10"], [[0.0] * 3] * 2)
    for axis in plot_kinds(frame, frame, "Model").select_yaxes():
        assert (axis.type, axis.autorange) == ("category", "reversed")


def test_a_models_name_is_no_markup() -> None:
    frame = shares(["2.1"], [[0.0] * 3])
    assert plot_kinds(frame, frame, "a<b>").layout.title.text == "a&lt;b&gt;: kinds of tokens"
