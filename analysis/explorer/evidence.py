"""Measured numbers and classes of a model's heads, as they stand next to the static scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.errors import ParameterError
from analysis.names import TokenPairs, are_shipped
from analysis.provenance import ModelIdentity, is_same_model
from analysis.static.head_scores import HeadScores
from analysis.validation import check_type, shown


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
        note: how it was measured; whose names they are, ``asked`` says.
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
        others = self.asked.pairs.checksum != scores.pairs.checksum
        return replace(
            self,
            note=self.note + (self.asked.note if others else ""),
            python=("" if self.asked.is_of(scores) else self.asked.python) + self.python,
        )


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

    def beside(self, scores: HeadScores) -> tuple[Measure, ...]:
        """The measures as they are shown with a model's scores (:meth:`Measure.beside`)."""
        return tuple(one.beside(scores) for one in self.measures)


def check_evidence_of(model: ModelIdentity, n_heads: int, evidence: Evidence) -> None:
    """Refuse what is no evidence, another model's, or has not a number for each of its heads."""
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
