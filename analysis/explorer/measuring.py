"""What can be measured of a model's heads, next to the static scores, and the measuring.

Each measurement is one function of a model that returns what ``analysis`` computes, as numbers of
every head. The explorer offers those that have not been made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.errors import ArchitectureError, ParameterError, PromptError
from analysis.explorer.evidence import Asked, Evidence, Measure, check_evidence_of
from analysis.ioi.head_classes import published_classes
from analysis.names import TokenPairs, load_names
from analysis.prompts.templates import MIN_NAMES
from analysis.provenance import model_identity
from analysis.static.head_scores import HeadScores, check_scores_of
from analysis.static.padding import n_real_tokens
from analysis.validation import check_choice, check_model, check_type

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_DYNAMIC = 60
"""Names, taken evenly from the list, that the dynamic scores run."""
N_VOCABULARY = 1000
"""Tokens drawn for the whole-vocabulary shares."""


@dataclass(frozen=True)
class Measurement:
    """One way to measure heads, with ``least`` names; ``python`` does it in a notebook."""

    title: str
    group: str
    measure: Callable[[TransformerBridge, HeadScores], tuple[list[Measure], pd.DataFrame]]
    python: str
    least: int = 1


def first_evidence(model: TransformerBridge) -> Evidence:
    """What is known before anything is measured: the published classes."""
    identity = model_identity(model)
    return Evidence(classes=published_classes(identity), model=identity)


def measure(
    model: TransformerBridge, scores: HeadScores, what: str, evidence: Evidence | None = None
) -> Evidence:
    """Make one measurement.

    Args:
        model: that was scored.
        scores: its static scores.
        what: a key of ``MEASUREMENTS``.
        evidence: that it is added to.

    Raises:
        ParameterError: no measurement has that name, or the scores or the evidence are another
            model's.
    """
    check_model(model)
    check_choice("what", what, tuple(MEASUREMENTS))
    check_type("scores", scores, HeadScores, "score_heads")
    check_scores_of(model, scores)
    evidence = evidence or first_evidence(model)
    check_evidence_of(scores.model, scores.n_layers * scores.n_heads, evidence)
    measures, classes = MEASUREMENTS[what].measure(model, scores)
    return replace(evidence, model=scores.model).with_(what, measures, classes)


def measure_all(model: TransformerBridge, scores: HeadScores) -> Evidence:
    """Make every measurement; minutes on a laptop for a model of a hundred million parameters.

    Of fewer than ``MIN_NAMES`` names there are no dynamic scores. What cannot be measured of the
    model's architecture (Gemma 2's heads cannot be patched), or in its tokens (no place word is a
    single one), is left out, with a warning.

    Args:
        model: that was scored.
        scores: its static scores, from ``score_heads``.

    Returns:
        What ``explore(model, evidence=...)`` takes.

    Raises:
        NamesError: there are fewer than 2 names, or they are another tokenizer's.
        ParameterError: the scores are another model's.
    """
    check_model(model)
    evidence = first_evidence(model)
    check_type("scores", scores, HeadScores, "score_heads")
    for what, one in MEASUREMENTS.items():
        if scores.n_pairs >= one.least:
            try:
                evidence = measure(model, scores, what, evidence)
            except (ArchitectureError, PromptError) as error:
                warnings.warn(f"not measured: {one.title}: {error}", stacklevel=2)
    return evidence


def dynamic_names(model: TransformerBridge, pairs: TokenPairs) -> TokenPairs:
    """``N_DYNAMIC`` of the names, taken evenly, or all of them where there are few."""
    if len(pairs) <= N_DYNAMIC or not pairs.copying:
        return pairs
    return load_names(model, pairs.sources[:: len(pairs) // N_DYNAMIC][:N_DYNAMIC])


def _dynamic(model: TransformerBridge, scores: HeadScores) -> tuple[list[Measure], pd.DataFrame]:
    from analysis.dynamic.scores import CONTEXTS, dynamic_scores

    if len(scores.pairs) < MIN_NAMES:
        raise ParameterError(
            f"dynamic scores need at least {MIN_NAMES} {scores.pairs.kind}, not {scores.n_pairs}."
        )
    names = dynamic_names(model, scores.pairs)
    found_in = dynamic_scores(model, names, k=scores.k)
    means = found_in.means()
    step = max(1, len(scores.pairs) // N_DYNAMIC)
    sample = (
        f"load_names(model, names.sources[::{step}][:{N_DYNAMIC}])"
        if names is not scores.pairs
        else "names"
    )
    python = (
        "from analysis import dynamic_scores\n"
        f"dynamic_scores(model, {sample}, k={scores.k}).means()"
    )
    n = len(found_in.templates)
    note = f"mean over {n} templates, {len(names)} {names.kind}, k = {found_in.k}"
    top, bottom = scores.score_columns
    found = []
    for context in CONTEXTS[::-1]:
        of_context = means.xs(context, level="context")
        for column, title in ((top, scores.relation.capitalize()), (bottom, "Suppression")):
            found.append(
                Measure(
                    key=f"dynamic_{context}_{column}",
                    title=f"{title} {context} context",
                    group="dynamic",
                    values=of_context[column].to_numpy(),
                    range=(0.0, 1.0),
                    note=note,
                    python=python,
                    asked=Asked(scores.pairs, scores.k),
                )
            )
    return found, pd.DataFrame()


def _vocabulary(model: TransformerBridge, scores: HeadScores) -> tuple[list[Measure], pd.DataFrame]:
    from analysis.static.vocabulary import score_vocabulary

    n = min(N_VOCABULARY, n_real_tokens(model))
    shares = score_vocabulary(model, n_tokens=n).to_frame()
    python = (
        f"from analysis import score_vocabulary\nscore_vocabulary(model, n_tokens={n}).to_frame()"
    )
    note = f"share of {n:,} tokens drawn from the vocabulary, k = 1, first MLP on"
    return [
        Measure(
            f"vocabulary_{column}",
            f"Share of tokens {column}",
            "vocabulary",
            shares[column].to_numpy(),
            (0.0, 1.0),
            note=note,
            python=python,
        )
        for column in ("copied", "suppressed")
    ], pd.DataFrame()


def _eigenvalue(model: TransformerBridge, scores: HeadScores) -> tuple[list[Measure], pd.DataFrame]:
    from analysis.static.eigenvalues import eigenvalue_scores

    values = eigenvalue_scores(model)["eigenvalue_score"].to_numpy()
    return [
        Measure(
            "eigenvalue_score",
            "Eigenvalue copying score",
            "vocabulary",
            values,
            (-1.0, 1.0),
            note="Re(Σλ)/Σ|λ| of W_E·W_V·W_O·W_U",
            python="from analysis import eigenvalue_scores\neigenvalue_scores(model)",
        )
    ], pd.DataFrame()


def _null(model: TransformerBridge, scores: HeadScores) -> tuple[list[Measure], pd.DataFrame]:
    from analysis.dynamic.null_heads import compare_with_nulls

    frame = compare_with_nulls(model, scores).frame
    setting = (
        f"{scores.n_pairs} {scores.pairs.unit}, k = {scores.k}, "
        f"first MLP {'on' if scores.first_mlp else 'off'}"
    )
    python = (
        "from analysis.dynamic.null_heads import compare_with_nulls\n"
        "compare_with_nulls(model, scores).frame"
    )
    return [
        Measure(
            f"{column}_q",
            f"q-value, {title}",
            "null",
            frame[f"{column}_q"].to_numpy(),
            (0.0, 1.0),
            note="largest of three: against random weights, against a random W_V, and against the "
            f"head asked about other names; false discovery rate over heads; {setting}",
            python=python,
            asked=Asked(scores.pairs, scores.k, scores.first_mlp),
        )
        for column, title in zip(
            scores.score_columns, (scores.relation, "suppression"), strict=True
        )
    ], pd.DataFrame()


CAUSAL = (
    ("direct_effect", "Direct effect (logits)", None),
    ("direct_logit_attribution", "Direct logit attribution (logits)", None),
    ("attention_io", "Attention from END to IO", (0.0, 1.0)),
    ("attention_s1", "Attention from END to S1", (0.0, 1.0)),
    ("attention_s2", "Attention from END to S2", (0.0, 1.0)),
    ("correlation", "Attention × output correlation", (-1.0, 1.0)),
    ("copy_score", "Copy score on the task", (0.0, 1.0)),
    ("negative_copy_score", "Negative copy score on the task", (0.0, 1.0)),
    ("effect_after", "Direct effect without the name movers (logits)", None),
)
"""Columns of ``measure_heads``: key, title, range."""


def _causal(model: TransformerBridge, scores: HeadScores) -> tuple[list[Measure], pd.DataFrame]:
    from analysis.ioi.measured_classes import measure_heads

    measured = measure_heads(model)
    numbers = measured.numbers
    note = f"indirect-object task, {len(measured.prompts)} prompts, seed {measured.prompts.seed}"
    python = "from analysis.ioi.measured_classes import measure_heads\nmeasure_heads(model).numbers"
    found = []
    for key, title, ends in CAUSAL:
        low, high = (
            numbers[f"{key}_{end}"].to_numpy() if f"{key}_{end}" in numbers else None
            for end in ("low", "high")
        )
        values = numbers[key].to_numpy(dtype=float)
        if np.isfinite(values).any():
            found.append(Measure(key, title, "causal", values, ends, low, high, note, python))
    return found, measured.classes


MEASUREMENTS: dict[str, Measurement] = {
    "null": Measurement(
        "Against chance",
        "null",
        _null,
        "from analysis.dynamic.null_heads import compare_with_nulls; "
        "compare_with_nulls(model, score_heads(model, names))",
    ),
    "vocabulary": Measurement(
        "Share of the whole vocabulary", "vocabulary", _vocabulary, "score_vocabulary(model)"
    ),
    "eigenvalue": Measurement(
        "Eigenvalue copying score", "vocabulary", _eigenvalue, "eigenvalue_scores(model)"
    ),
    "dynamic": Measurement(
        "Dynamic scores, with and without context",
        "dynamic",
        _dynamic,
        "dynamic_scores(model, names)",
        MIN_NAMES,
    ),
    "causal": Measurement(
        "Direct effect, attention and copy score on the indirect-object task",
        "causal",
        _causal,
        "measured_classes(model)",
    ),
}
"""What can be measured, in the order shown."""


def absent_measurements(evidence: Evidence, *, relations: bool) -> list[dict[str, str]]:
    """What has not been measured, and what would measure it; ``relations``: whether any is scored.

    Returns:
        For each ``what`` (a key of ``MEASUREMENTS``, empty where only lines of Python measure it),
        ``title``, ``group`` and ``python``.
    """
    missing = [
        {"what": what, "title": one.title, "group": one.group, "python": one.python}
        for what, one in MEASUREMENTS.items()
        if what not in evidence.done
    ]
    if not relations:
        missing.append(
            {
                "what": "",
                "title": "Strongest relations",
                "group": "relations",
                "python": 'explore(model, relations={"capitals": "capitals.csv"})',
            }
        )
    return missing
