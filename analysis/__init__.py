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
    from analysis.ioi.measured_classes import HeadMeasurements, measured_classes
    from analysis.models import load_model
    from analysis.models.hub_errors import HubError
    from analysis.names import TokenPairs, load_names
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
    "load_model": "analysis.models",
    "load_names": "analysis.names",
    "score_heads": "analysis.static.scores",
    "score_vocabulary": "analysis.static.vocabulary",
    "rank_vocabulary": "analysis.static.vocabulary",
    "eigenvalue_scores": "analysis.static.eigenvalues",
    "top_tokens": "analysis.static.top_tokens",
    "dynamic_scores": "analysis.dynamic.scores",
    "attention_on": "analysis.dynamic.one_prompt",
    "ablation_curve": "analysis.ablation.curve",
    "ioi_prompts": "analysis.prompts.indirect_object",
    "measured_classes": "analysis.ioi.measured_classes",
    "published_classes": "analysis.ioi.head_classes",
    "plot_heatmaps": "analysis.plots.heatmaps",
    "explore": "analysis.explorer.widget",
    "head_card": "analysis.explorer.cards",
    "measure_all": "analysis.explorer.measuring",
    "export_site": "analysis.explorer.site",
    "show_figure": "analysis.export.display",
    "export_figure": "analysis.export.files",
    "sweep": "analysis.sweeps.run",
    "sweep_frame": "analysis.sweeps.run",
    "Question": "analysis.sweeps.questions",
    # what they return
    "AblationCurve": "analysis.ablation.curve",
    "DynamicScores": "analysis.dynamic.scores",
    "Explorer": "analysis.explorer.widget",
    "HeadCard": "analysis.explorer.cards",
    "HeadClass": "analysis.ioi.head_classes",
    "HeadMeasurements": "analysis.ioi.measured_classes",
    "HeadScores": "analysis.static.head_scores",
    "IOIPrompts": "analysis.prompts.indirect_object",
    "ModelIdentity": "analysis.provenance",
    "SweepResult": "analysis.sweeps.run",
    "TokenPairs": "analysis.names",
    "VocabularyScores": "analysis.static.vocabulary",
    # what they raise
    "AnalysisError": "analysis.errors",
    "ArchitectureError": "analysis.errors",
    "ClassesError": "analysis.errors",
    "ExportError": "analysis.errors",
    "HubError": "analysis.models.hub_errors",
    "ModelError": "analysis.errors",
    "NamesError": "analysis.errors",
    "ParameterError": "analysis.errors",
    "PromptError": "analysis.errors",
    "WeightsError": "analysis.errors",
}

__all__ = [
    "AblationCurve",
    "AnalysisError",
    "ArchitectureError",
    "ClassesError",
    "DynamicScores",
    "Explorer",
    "ExportError",
    "HeadCard",
    "HeadClass",
    "HeadMeasurements",
    "HeadScores",
    "HubError",
    "IOIPrompts",
    "ModelError",
    "ModelIdentity",
    "NamesError",
    "ParameterError",
    "PromptError",
    "Question",
    "SweepResult",
    "TokenPairs",
    "VocabularyScores",
    "WeightsError",
    "ablation_curve",
    "attention_on",
    "dynamic_scores",
    "eigenvalue_scores",
    "explore",
    "export_figure",
    "export_site",
    "head_card",
    "ioi_prompts",
    "load_model",
    "load_names",
    "measure_all",
    "measured_classes",
    "plot_heatmaps",
    "published_classes",
    "rank_vocabulary",
    "score_heads",
    "score_vocabulary",
    "show_figure",
    "sweep",
    "sweep_frame",
    "top_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
