"""Marks and small scores stand out from every colour, for every kind of colour vision and in grey.

Colour vision is simulated by the matrices of Viénot, Brettel & Mollon (1999) for protanopia and
deuteranopia, applied to linear light. Tritanopia is made in the same way: S is what the plane of
white and the screen's red makes of L and M, a red near the 660 nm that Brettel, Viénot & Mollon
(1997) leave as it is. Contrast is the ratio of relative luminances of WCAG 2, which asks for 3 of
graphics. Grey is the luminance alone, the same ratio.
"""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from plotly.colors import get_colorscale

from analysis.export.still.resolved import colours_on
from analysis.plots import marks
from analysis.plots.heatmaps import plot_heatmaps
from analysis.plots.style import PAPER, SEQUENTIAL, rgba
from tests.made_up import scores_from_counts

LEAST = 3.0
_RGB_TO_LMS = np.array(
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
)
_WHITE, _RED = _RGB_TO_LMS.sum(axis=1), _RGB_TO_LMS[:, 0]
_S_OF_LM = np.linalg.solve([_WHITE[:2], _RED[:2]], [_WHITE[2], _RED[2]])
_SIMULATED = {
    "usual": np.eye(3),
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
    "tritanopia": np.array([[1, 0, 0], [0, 1, 0], [*_S_OF_LM, 0]]),
}
PUBLISHED = [marks.MOVER, marks.BACKUP]
MEASURED = [marks.MEASURED_MOVER, marks.MEASURED_BACKUP, marks.MEASURED_SUPPRESSOR]
LOOKS = [*PUBLISHED, *MEASURED, *marks.OWN]


def luminance(rgb: np.ndarray, vision: str) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.linalg.inv(_RGB_TO_LMS) @ _SIMULATED[vision] @ _RGB_TO_LMS @ linear.T
    return np.asarray([0.2126, 0.7152, 0.0722] @ seen.clip(0, 1))


def contrast(a: np.ndarray, b: np.ndarray, vision: str) -> np.ndarray:
    first, second = luminance(a, vision) + 0.05, luminance(b, vision) + 0.05
    return np.maximum(first / second, second / first)


@pytest.mark.parametrize("vision", _SIMULATED)
def test_the_simulation_keeps_white_and_loses_one_kind_of_cone(vision: str) -> None:
    seen = np.linalg.inv(_RGB_TO_LMS) @ _SIMULATED[vision] @ _RGB_TO_LMS
    assert np.allclose(seen @ np.ones(3), 1, atol=0.01)
    assert np.linalg.matrix_rank(seen, tol=1e-6) == (3 if vision == "usual" else 2)
    assert np.allclose(seen @ seen, seen, atol=0.01)


@pytest.mark.parametrize("vision", _SIMULATED)
@pytest.mark.parametrize("look", LOOKS)
def test_marks_stand_out_from_every_colour(look: marks.Look, vision: str) -> None:
    ground = colours_on(get_colorscale(SEQUENTIAL), np.linspace(0, 1, 101))
    parts = (look.colour, PAPER if look.is_open else look.edge)
    best = np.max([contrast(ground, np.array([to_rgb(p)]), vision) for p in parts], axis=0)
    assert best.min() >= LEAST


@pytest.mark.parametrize("vision", _SIMULATED)
def test_dots_stand_out_from_small_scores(vision: str) -> None:
    ground = colours_on(get_colorscale(SEQUENTIAL), np.linspace(0, 0.1, 11))
    assert contrast(ground, np.array([to_rgb(PAPER)]), vision).min() >= LEAST


@pytest.mark.parametrize(
    "first",
    ["white", "#fff", "#440154", "rgb(255, 255, 255)", "rgba(255,255,255,1)", "rgba(0,0,0,.05)",
     "hsl(0,0%,100%)", "hsla(240, 100%, 20%, 1.0)", "black", "rgb(100%,100%,100%)", "navy"],
)  # fmt: skip
def test_dots_stand_out_from_the_low_end_of_any_scale(first: str) -> None:
    fig = plot_heatmaps(scores_from_counts(np.array([[1, 0], [0, 90]])), colorscale=[first, "red"])
    dots = next(trace for trace in fig.data if trace.name == "above 0")
    ground = colours_on([[0.0, first], [1.0, "red"]], np.zeros(1))
    assert contrast(ground, np.array([to_rgb(dots.marker.color)]), "usual").min() >= LEAST


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("#ff0000", (1, 0, 0, 1)),
        ("#00f8", (0, 0, 1, 136 / 255)),
        ("rgb(0, 128, 255)", (0, 128 / 255, 1, 1)),
        ("RGBA(0,0,0,.5)", (0, 0, 0, 0.5)),
        ("rgb(50%,0%,100%)", (0.5, 0, 1, 1)),
        ("hsl(120,50%,50%)", (0.25, 0.75, 0.25, 1)),  # a green between a quarter and three
        ("hsla(-240, 100%, 50%, 0.3)", (0, 1, 0, 0.3)),
        ("rebeccapurple", (0x66 / 255, 0x33 / 255, 0x99 / 255, 1)),
    ],
)
def test_colours_are_read_however_they_are_written(
    written: str, expected: tuple[float, ...]
) -> None:
    assert rgba(written) == pytest.approx(expected)


def test_translucent_colours_of_a_scale_lie_on_white_paper() -> None:
    scale = [[0.0, "white"], [0.3, "hsl(120,50%,50%)"], [1.0, "rgba(0,0,0,.5)"]]
    assert colours_on(scale, np.array([0.3, 1.0])) == pytest.approx(
        np.array([[0.25, 0.75, 0.25], [0.5, 0.5, 0.5]])
    )
