"""Which attention heads copy names, and which suppress them?

The public face is a handful of functions, loaded when first used so that ``import analysis``
stays fast:

>>> from analysis import load_model, load_names, score_heads, plot_heatmaps, export_figure
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "load_model": "analysis.models",
    "load_names": "analysis.names",
    "score_heads": "analysis.scores",
    "score_vocabulary": "analysis.vocabulary",
    "rank_vocabulary": "analysis.vocabulary",
    "eigenvalue_scores": "analysis.eigenvalues",
    "dynamic_scores": "analysis.dynamic.scores",
    "ablation_curve": "analysis.ablation.curve",
    "ioi_prompts": "analysis.ioi.task",
    "measured_classes": "analysis.ioi.measured",
    "published_classes": "analysis.classes",
    "plot_heatmaps": "analysis.figures.heatmaps",
    "show_figure": "analysis.figures.display",
    "export_figure": "analysis.figures.export",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
