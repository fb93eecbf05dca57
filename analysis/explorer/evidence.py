"""The measured numbers that stand next to the static scores, and what would measure them.

Each measurement is one function of a model that returns what ``analysis`` computes, as numbers of
every head. The explorer offers those that have not been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.errors import ParameterError
from analysis.ioi.head_classes import published_classes
from analysis.names import TokenPairs, are_shipped, load_names
from analysis.prompts.templates import MIN_NAMES
from analysis.provenance import ModelIdentity, is_same_model, model_identity
from analysis.static.head_scores import HeadScores, check_scores_of
from analysis.static.padding import n_real_tokens
from analysis.validation import check_choice, check_model, check_type, shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_DYNAMIC = 60
"""Names, taken evenly from the list, that the dynamic scores run."""
N_VOCABULARY = 1000
"""Tokens drawn for the whole-vocabulary shares."""


@dataclass(frozen=True)
class Asked:
    """What a number depends on besides the model.

    Attributes:
        pairs: names, or pairs, that were asked about.
        k: of the scores.
        first_mlp: as ``score_heads`` takes it; None where static scores play no part.
    """

    pairs: TokenPairs
    k: int
    first_mlp: bool | None = None

    def is_of(self, scores: HeadScores) -> bool:
        """Whether these scores were asked the same."""
        return (
            self.pairs.checksum == scores.pairs.checksum
            and self.k == scores.k
            and self.first_mlp in (None, scores.first_mlp)
        )

    @property
    def python(self) -> str:
        """Lines that make ``names``, and ``scores`` where they play a part."""
        given = "" if are_shipped(self.pairs) else f", {list(self.pairs)}"
        lines = (
            f"from analysis import load_names\nnames = load_names(model{given})\n"
            if self.pairs.copying
            else f"names = {list(self.pairs)}\n"
        )
        if self.first_mlp is not None:
            lines += (
                "from analysis import score_heads\n"
                f"scores = score_heads(model, names, k={self.k}, first_mlp={self.first_mlp})\n"
            )
        return lines

    @property
    def note(self) -> str:
        """Whose names they are, for a note beside other names."""
        some = ", ".join(
            source if source == target else f"{source} → {target}"
            for source, target in zip(self.pairs.sources[:3], self.pairs.targets, strict=False)
        )
        return f"; {self.pairs.kind} of its own: {some}{', …' if len(self.pairs) > 3 else ''}"


@dataclass(frozen=True)
class Measure:
    """One number for every head.

    Attributes:
        key: a short word, as frames call the column.
        title: as the explorer shows it.
        group: ``null``, ``vocabulary``, ``dynamic`` or ``causal``: its place on the card.
        values: float64 ``[n_layers * n_heads]``, layer by layer, NaN where there is none.
        range: of the values, or None where it has no fixed ends.
        low: lower ends of 95 % intervals, likewise, or None.
        high: upper ends.
        note: how it was measured.
        python: lines that return it, given ``model``, and ``names`` and ``scores`` as ``asked``.
        asked: the names, k and first MLP's setting that it depends on; None where on none.
    """

    key: str
    title: str
    group: str
    values: Float[np.ndarray, "n"] = field(repr=False)
    range: tuple[float, float] | None = None
    low: Float[np.ndarray, "n"] | None = field(default=None, repr=False)
    high: Float[np.ndarray, "n"] | None = field(default=None, repr=False)
    note: str = ""
    python: str = ""
    asked: Asked | None = field(default=None, repr=False)

    def beside(self, scores: HeadScores) -> Measure:
        """This as it is shown with scores that may have been asked something else.

        The lines then make names and scores of their own, and the note names other names.
        """
        if self.asked is None:
            return self
        own, note = self.asked.python, self.asked.note
        python, says = self.python.removeprefix(own), self.note.removesuffix(note)
        if self.asked.pairs.checksum != scores.pairs.checksum:
            says += note
        return replace(self, note=says, python=python if self.asked.is_of(scores) else own + python)


@dataclass(frozen=True)
class Evidence:
    """Measured numbers and classes of one model's heads.

    Attributes:
        measures: in the order shown.
        classes: as ``published_classes`` and ``measured_classes`` return them; None if unknown.
        done: names of the measurements made, keys of ``MEASUREMENTS``.
        model: that was measured; None if nobody recorded it.
    """

    measures: tuple[Measure, ...] = ()
    classes: pd.DataFrame | None = field(default=None, repr=False)
    done: tuple[str, ...] = ()
    model: ModelIdentity | None = None

    def with_(self, what: str, measures: Iterable[Measure], classes: pd.DataFrame) -> Evidence:
        """This with one more measurement, in place of an earlier one of the same name."""
        new = tuple(measures)
        keys = {measure.key for measure in new}
        kept = tuple(measure for measure in self.measures if measure.key not in keys)
        before = self.classes
        if before is not None and len(before) and len(classes):
            before = before[~before["origin"].isin(classes["origin"])]
        known = [frame for frame in (before, classes) if frame is not None and len(frame)]
        return replace(
            self,
            measures=kept + new,
            classes=pd.concat(known) if known else self.classes,
            done=(*(name for name in self.done if name != what), what),
        )

    def beside(self, scores: HeadScores) -> Evidence:
        """This as it is shown with a model's scores (:meth:`Measure.beside`).

        Raises:
            ParameterError: it is of another model (:func:`check_evidence_of`).
        """
        check_evidence_of(scores.model, scores.n_layers * scores.n_heads, self)
        return replace(self, measures=tuple(one.beside(scores) for one in self.measures))


@dataclass(frozen=True)
class Measurement:
    """One way to measure heads.

    Attributes:
        title: as the explorer names what is missing.
        group: of its measures.
        measure: from a model and its static scores.
        python: what to run instead, in a notebook.
        least: names, or pairs, that it needs.
    """

    title: str
    group: str
    measure: Callable[[TransformerBridge, HeadScores], tuple[list[Measure], pd.DataFrame]]
    python: str
    least: int = 1


def first_evidence(model: TransformerBridge) -> Evidence:
    """What is known before anything is measured: the published classes."""
    identity = model_identity(model)
    return Evidence(classes=published_classes(identity), model=identity)


def check_evidence_of(model: ModelIdentity, n_heads: int, evidence: Evidence) -> None:
    """Refuse what is no evidence, or that of another model.

    Args:
        model: that is shown.
        n_heads: of all its layers together.
        evidence: to be shown with it.

    Raises:
        ParameterError: it is none, is another model's, or has not a number for each head.
    """
    check_type("evidence", evidence, Evidence, "measure_all")
    of = evidence.model
    if of is not None and not is_same_model(of, model):
        raise ParameterError(
            f"the evidence was measured of {shown(of.title)}, and this is another model, "
            f"{shown(model.title)}: measure this one with measure_all(model, scores)."
        )
    for one in evidence.measures:
        if len(one.values) != n_heads:
            raise ParameterError(
                f"the evidence was measured of another model: {shown(one.key)} has "
                f"{len(one.values)} numbers, and this one {n_heads} heads: measure this one with "
                "measure_all(model, scores)."
            )


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

    Of fewer than ``MIN_NAMES`` names there are no dynamic scores.

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
            evidence = measure(model, scores, what, evidence)
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
        f"{scores.n_pairs} {scores.pairs.kind}, k = {scores.k}, "
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


def absent_measurements(evidence: Evidence, *, relations: bool = False) -> list[dict[str, str]]:
    """What has not been measured, and what would measure it.

    Args:
        evidence: what has been measured.
        relations: whether any relation has been scored.

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


def views_of(evidence: Evidence, copying: bool) -> list[dict[str, Any]]:
    """Pairs of numbers that the two heatmaps can show."""
    top = "copying_score" if copying else "relation_score"
    views: list[dict[str, Any]] = [
        {
            "key": "static",
            "title": "Static: copying and suppression" if copying else "Static: relation",
            "left": "copying",
            "right": "suppression",
        }
    ]
    known = {measure.key for measure in evidence.measures}
    for key, title, left, right in (
        (
            "without",
            "Dynamic, without context",
            f"dynamic_without_{top}",
            "dynamic_without_suppression_score",
        ),
        ("with", "Dynamic, with context", f"dynamic_with_{top}", "dynamic_with_suppression_score"),
        ("vocabulary", "Whole vocabulary", "vocabulary_copied", "vocabulary_suppressed"),
        ("effects", "Direct effect and attribution", "direct_effect", "direct_logit_attribution"),
        ("copy", "Copy scores on the task", "copy_score", "negative_copy_score"),
        ("attention", "Attention and eigenvalue", "attention_io", "eigenvalue_score"),
    ):
        if left in known and right in known:
            views.append({"key": key, "title": title, "left": left, "right": right})
    return views
