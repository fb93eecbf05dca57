"""The sorted view: heads in order of score, the best named beside their points."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import ParameterError
from analysis.ioi.head_classes import published_classes
from analysis.plots.heatmaps import plot_heatmaps
from analysis.plots.style import text_width
from tests.plots.heatmap_scores import GPT2, blank, gpt2_scores, scores_of


def test_the_sorted_view_names_the_best_apart_from_each_other() -> None:
    fig = plot_heatmaps(gpt2_scores((10, 7)), view="sorted", panels=("suppression",))
    points, _, names = fig.data
    assert list(points.y) == [0.11] + [0.0] * 143
    assert names.text == ("10.7  0.11",)
    crowded = plot_heatmaps(scores_of(np.full((12, 12), 50)), view="sorted")
    heights = np.array(crowded.data[3].y)
    assert len(heights) == 10 and (np.diff(heights) < -0.05).all()
    assert heights.min() >= 0 and heights.max() <= 1


@pytest.mark.parametrize("n_heads", [1, 4, 10, 12, 16, 40])
def test_the_sorted_view_has_room_for_the_names_however_few_the_heads(n_heads: int) -> None:
    fig = plot_heatmaps(scores_of(np.full((1, n_heads), 50)), view="sorted")
    start, end = fig.layout.xaxis.range
    names = fig.data[3]
    assert len(names.text) == min(10, n_heads)
    assert all(len(names.text) < x + 0.5 for x in names.x)  # right of the points that they name
    room = fig.layout.width * (fig.layout.xaxis.domain[1] - fig.layout.xaxis.domain[0])
    free = (end - names.x[0]) / (end - start) * room
    assert free > max(text_width(text, fig.layout.font.size) for text in names.text)
    assert fig.layout.xaxis2.range == fig.layout.xaxis.range


def test_the_sorted_view_of_many_heads_ends_with_the_last() -> None:
    fig = plot_heatmaps(blank(30, 9), view="sorted")
    assert fig.layout.xaxis.range == (1 - 0.02 * 270 - 0.5, 270 * 1.01 + 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "step"), [((126, 128), 5000), ((80, 100), 1000)])
def test_the_sorted_view_takes_any_number_of_heads(shape: tuple[int, int], step: int) -> None:
    fig = plot_heatmaps(blank(*shape), view="sorted", panels="copying")
    assert fig.layout.xaxis.dtick == step


def test_the_sorted_view_refuses_classes_that_it_would_not_show() -> None:
    for view in ("grid", "sorted"):
        assert plot_heatmaps(gpt2_scores(), published_classes("none"), marks={}, view=view).data
    assert plot_heatmaps(gpt2_scores(), view="sorted").data
    with pytest.raises(ParameterError, match="leave out classes, vmax, or take view='grid'"):
        plot_heatmaps(gpt2_scores(), published_classes(GPT2), view="sorted", vmax=0.5)
