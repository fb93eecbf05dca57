"""Which attention heads copy names, and which suppress them?

The public face is a handful of functions and the results that they return, loaded when first used
so that ``import analysis`` stays fast:

>>> from analysis import load_model, load_names, score_heads, plot_heatmaps, export_figure
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.ablation.curve import AblationCurve, ablation_curve
    from analysis.dynamic.one_prompt import attention_on
    from analysis.dynamic.scores import DynamicScores, dynamic_scores
    from analysis.errors import (
        AnalysisError,
        ArchitectureError,
        ClassesError,
        ExportError,
        ModelError,
        NamesError,
        ParameterError,
        PromptError,
        WeightsError,
    )
    from analysis.explorer.cards import HeadCard, head_card
    from analysis.explorer.measuring import measure_all
    from analysis.explorer.site import export_site
    from analysis.explorer.widget import Explorer, explore
    from analysis.export.display import show_figure
    from analysis.export.files import export_figure
    from analysis.ioi.head_classes import HeadClass, published_classes
    from analysis.ioi.measured_classes import (
        HeadMeasurements,
        Thresholds,
        measure_heads,
        measured_classes,
    )
    from analysis.models import load_model
    from analysis.models.hub_errors import HubError
    from analysis.names import TokenPairs, load_names, load_pairs
    from analysis.plots.heatmaps import plot_heatmaps
    from analysis.prompts.indirect_object import IOIPrompts, ioi_prompts
    from analysis.provenance import ModelIdentity
    from analysis.static.eigenvalues import eigenvalue_scores
    from analysis.static.head_scores import HeadScores
    from analysis.static.scores import score_heads
    from analysis.static.top_tokens import top_tokens
    from analysis.static.vocabulary import VocabularyScores, rank_vocabulary, score_vocabulary
    from analysis.sweeps.questions import Question
    from analysis.sweeps.run import SweepResult, sweep, sweep_frame

_HOME = {
    name: module
    for module, names in {
        "analysis.ablation.curve": "ablation_curve AblationCurve",
        "analysis.dynamic.one_prompt": "attention_on",
        "analysis.dynamic.scores": "dynamic_scores DynamicScores",
        "analysis.errors": "AnalysisError ArchitectureError ClassesError ExportError ModelError "
        "NamesError ParameterError PromptError WeightsError",
        "analysis.explorer.cards": "head_card HeadCard",
        "analysis.explorer.measuring": "measure_all",
        "analysis.explorer.site": "export_site",
        "analysis.explorer.widget": "explore Explorer",
        "analysis.export.display": "show_figure",
        "analysis.export.files": "export_figure",
        "analysis.ioi.head_classes": "published_classes HeadClass",
        "analysis.ioi.measured_classes": "measure_heads measured_classes HeadMeasurements "
        "Thresholds",
        "analysis.models": "load_model",
        "analysis.models.hub_errors": "HubError",
        "analysis.names": "load_names load_pairs TokenPairs",
        "analysis.plots.heatmaps": "plot_heatmaps",
        "analysis.prompts.indirect_object": "ioi_prompts IOIPrompts",
        "analysis.provenance": "ModelIdentity",
        "analysis.static.eigenvalues": "eigenvalue_scores",
        "analysis.static.head_scores": "HeadScores",
        "analysis.static.scores": "score_heads",
        "analysis.static.top_tokens": "top_tokens",
        "analysis.static.vocabulary": "rank_vocabulary score_vocabulary VocabularyScores",
        "analysis.sweeps.questions": "Question",
        "analysis.sweeps.run": "sweep sweep_frame SweepResult",
    }.items()
    for name in names.split()
}

# fmt: off
__all__ = [
    "AblationCurve", "AnalysisError", "ArchitectureError", "ClassesError", "DynamicScores",
    "Explorer", "ExportError", "HeadCard", "HeadClass", "HeadMeasurements", "HeadScores",
    "HubError", "IOIPrompts", "ModelError", "ModelIdentity", "NamesError", "ParameterError",
    "PromptError", "Question", "SweepResult", "Thresholds", "TokenPairs", "VocabularyScores",
    "WeightsError",
    "ablation_curve", "attention_on", "dynamic_scores", "eigenvalue_scores", "explore",
    "export_figure", "export_site", "head_card", "ioi_prompts", "load_model", "load_names",
    "load_pairs", "measure_all", "measure_heads", "measured_classes", "plot_heatmaps",
    "published_classes", "rank_vocabulary", "score_heads", "score_vocabulary", "show_figure",
    "sweep", "sweep_frame", "top_tokens",
]
# fmt: on


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
