"""A head's card: everything known about one head, as frames.

>>> card = head_card(model, (23, 2))
>>> card.names.head()
>>> card.writes_for("Mary").most
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.explorer.evidence import Evidence
from analysis.explorer.measuring import MEASUREMENTS, absent_measurements
from analysis.explorer.payload import N_EXTREMES
from analysis.explorer.queries import AskedHead, ExtremeTokens, extreme_tokens
from analysis.explorer.results import Relations, Results, collect
from analysis.heads import HeadPair, check_head, head_name
from analysis.names import TokenPairs
from analysis.static.head_scores import HeadScores, check_scores_of
from analysis.tokenizers import token_texts
from analysis.validation import check_flag, check_model, check_type, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformer_lens.model_bridge import TransformerBridge

_RELATION_COLUMNS = [
    *("relation_score", "relation_score_low", "relation_score_high"),
    *("suppression_score", "suppression_score_low", "suppression_score_high"),
    "n_pairs",
]
N_SHOWN = 12
"""Names of each kind that the card's text shows."""


@dataclass(frozen=True)
class HeadCard(AskedHead):
    """What is known about one head, which can be asked more.

    Attributes:
        scores: the static scores of all heads.
        evidence: measured numbers of all heads.
        table: indexed by ``measure``: ``value``, ``low``, ``high`` (float64), ``of`` (how it was
            measured). What has not been measured is not in it; ``absent`` lists that.
        names: as ``HeadScores.names_of`` returns it, ranks missing where 100 tokens or more come
            before; with ``before_top`` and ``before_bottom``: the tokens that come before the name
            at either end, at most 5, quoted; and ``writes_nothing``: whether all logits are 0, so
            that none does.
        classes: of this head, as ``published_classes`` and ``measured_classes`` have them.
        relations: indexed by ``relation``, the strongest for this head first: ``relation_score``
            and ``suppression_score`` (float64) with ``_low`` and ``_high``, 95 % intervals, and
            ``n_pairs``, at the k of ``scores``. Without rows where no relation was scored.
        absent: what has not been measured.
        results: of which this is one card; with other measured numbers,
            ``results.with_evidence(...)``, they make another.
    """

    scores: HeadScores = field(repr=False)
    evidence: Evidence = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    names: pd.DataFrame = field(repr=False)
    classes: pd.DataFrame = field(repr=False)
    relations: pd.DataFrame = field(repr=False)
    results: Results = field(repr=False)
    absent: tuple[str, ...] = ()

    @property
    def copied(self) -> pd.DataFrame:
        """The names in the head's top k."""
        return self.names[self.names["in_top_k"]]

    @property
    def nearly_copied(self) -> pd.DataFrame:
        """The names outside the top k with fewer than 100 tokens before them."""
        return self.names[~self.names["in_top_k"] & self.names["rank_top"].notna()]

    @property
    def missed(self) -> pd.DataFrame:
        """The names that 100 tokens or more come before."""
        after = self.names["rank_top"].isna() & ~self.names["writes_nothing"]
        return self.names[~self.names["in_top_k"] & after]

    @property
    def without_output(self) -> pd.DataFrame:
        """The names for which the head writes nothing."""
        return self.names[self.names["writes_nothing"]]

    @property
    def suppressed(self) -> pd.DataFrame:
        """The names in the head's bottom k."""
        return self.names[self.names["in_bottom_k"]].sort_values("rank_bottom", kind="stable")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        table = self.table.to_html(float_format=lambda x: f"{x:.3f}", escape=True)
        lines = [html.escape(line) for line in self._lines(table=False)]
        return f"<p><strong>{lines[0]}</strong></p>{table}" + "".join(
            f"<p>{line}</p>" for line in lines[1:]
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": str(self)}

    def _lines(self, table: bool = True) -> list[str]:
        title = f"Head {head_name(*self.head)} of {self.scores.model.title}, k = {self.scores.k}"
        classes = [
            f"{row['class']} ({row['origin']})" for row in self.classes.to_dict(orient="records")
        ]
        lines = [title + (f": {', '.join(classes)}" if classes else "")]
        if table:
            numbers = self.table[["value", "low", "high"]].astype(float).round(4)
            lines.append(numbers.to_string(na_rep=""))
        pairs = self.scores.pairs
        verb = "copies" if pairs.copying else "answers"
        nothing = self.without_output
        for what, names, rank in (
            (verb, self.copied, "rank_top"),
            (f"nearly {verb}", self.nearly_copied, "rank_top"),
            ("misses", self.missed, "rank_top"),
            *([("writes nothing for", nothing, "rank_top")] if len(nothing) else []),
            ("suppresses", self.suppressed, "rank_bottom"),
        ):
            texts = [
                _name(name) if pd.isna(place) else f"{_name(name)} ({place})"
                for name, place in names[rank].items()
            ]
            lines.append(
                f"{what} {len(names)} of {len(self.names)} {pairs.unit}"
                + (f": {listed(texts, N_SHOWN)}" if texts else "")
            )
        if len(self.relations):
            shown = ", ".join(
                f"{relation} {max(row['relation_score'], row['suppression_score']):.3f}"
                f"{'' if row['relation_score'] >= row['suppression_score'] else ' suppressed'}"
                for relation, row in self.relations.head(N_SHOWN).iterrows()
            )
            lines.append(f"strongest relations: {shown}")
        if self.absent:
            lines.append("not measured: " + "; ".join(self.absent))
        lacking = set(MEASUREMENTS) - set(self.evidence.done)
        if any(self.scores.n_pairs >= MEASUREMENTS[what].least for what in lacking):
            lines.append(
                "to measure that, in minutes, with this as card: "
                "from analysis import head_card, measure_all; "
                f"head_card(model, {self.head}, "
                "results=card.results.with_evidence(measure_all(model, card.scores)))"
            )
        return lines


def head_card(
    model: TransformerBridge,
    head: HeadPair,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]] | None = None,
    *,
    k: int = 1,
    first_mlp: bool = True,
    relations: Relations | None = None,
    results: Results | None = None,
) -> HeadCard:
    """Everything known about one head.

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        names: as ``score_heads`` takes them; data/names.csv if None.
        k: of the two scores, up to 100.
        first_mlp: as ``score_heads`` takes it.
        relations: pairs by what they are called, as ``explore`` takes them.
        results: made already (``explore(model).results``); names, relations, k and the first MLP's
            setting are then those of its scores.

    Raises:
        ParameterError: the head does not exist, k is out of its range, or the results are another
            model's.
        NamesError: no name is usable, or the results' are those of another tokenizer.
    """
    check_model(model)
    check_head(head, model.cfg.n_layers, model.cfg.n_heads)
    check_flag("first_mlp", first_mlp)
    if results is not None:
        check_type("results", results, Results, "explore(model).results")
        check_scores_of(model, results.scores, "the results")
    else:
        results = collect(model, names, k=k, first_mlp=first_mlp, relations=relations)
    return card_of(model, head, results)


def card_of(model: TransformerBridge, head: HeadPair, results: Results) -> HeadCard:
    """The card of one head from results made already."""
    scores, evidence = results.scores, results.evidence
    head = check_head(head, scores.n_layers, scores.n_heads)
    around = extreme_tokens(model, head, scores.pairs, N_EXTREMES, first_mlp=scores.first_mlp)
    classes = evidence.classes
    if classes is None or not len(classes):
        own = pd.DataFrame(columns=["class", "model", "source", "origin"])
    else:
        own = classes[[at == head for at in classes.index]]
    return HeadCard(
        model=model,
        head=head,
        first_mlp=scores.first_mlp,
        scores=scores,
        evidence=evidence,
        table=_table(scores, evidence, head),
        names=_with_tokens(model, scores.names_of(head), scores, around),
        classes=own,
        relations=_relations(results, head),
        results=results,
        absent=_absent(results, head),
    )


def _absent(results: Results, head: HeadPair) -> tuple[str, ...]:
    """The titles of what has not been measured, and what else these need."""
    pairs = results.scores.pairs
    needs = {
        what: f" (of {one.least} {pairs.kind} or more)"
        for what, one in MEASUREMENTS.items()
        if len(pairs) < one.least
    }
    needs[""] = f' (head_card(model, {head}, relations={{"capitals": "capitals.csv"}}))'
    absent = absent_measurements(results.evidence, relations=results.has_relations)
    return tuple(one["title"] + needs.get(one["what"], "") for one in absent)


def _relations(results: Results, head: HeadPair) -> pd.DataFrame:
    """The scores of every relation for one head, the strongest first."""
    k, first_mlp = results.scores.k, results.scores.first_mlp
    labels: list[str] = []
    rows: list[dict[str, float]] = []
    for one in results.sets:
        if one.scores.pairs.copying or one.scores.first_mlp != first_mlp:
            continue
        scores = one.scores.at_k(k)
        labels.append(one.label)
        rows.append({**scores.to_frame(intervals=True).loc[head], "n_pairs": scores.n_pairs})
    frame = pd.DataFrame(rows, index=pd.Index(labels), columns=_RELATION_COLUMNS)
    strength = frame[["relation_score", "suppression_score"]].max(axis=1)
    order = np.argsort(-strength.to_numpy(), kind="stable")
    return frame.iloc[order].rename_axis("relation")


def _name(key: object) -> str:
    """A name, or the pair of a relation, as text."""
    return " → ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _table(scores: HeadScores, evidence: Evidence, head: HeadPair) -> pd.DataFrame:
    rows: dict[str, dict[str, object]] = {}
    own = scores.to_frame(intervals=True).loc[head]
    for column, counted in zip(
        scores.score_columns, (scores.in_top_k, scores.in_bottom_k), strict=True
    ):
        rows[column] = {
            "value": own[column],
            "low": own[f"{column}_low"],
            "high": own[f"{column}_high"],
            "of": f"{counted[head].sum()} of {scores.n_pairs} {scores.pairs.unit}, k = {scores.k}",
        }
    at = head[0] * scores.n_heads + head[1]
    for measure in evidence.beside(scores):
        nothing = float("nan")
        rows[measure.key] = {
            "value": float(measure.values[at]),
            "low": nothing if measure.low is None else float(measure.low[at]),
            "high": nothing if measure.high is None else float(measure.high[at]),
            "of": measure.note,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def _with_tokens(
    model: TransformerBridge, names: pd.DataFrame, scores: HeadScores, around: ExtremeTokens
) -> pd.DataFrame:
    """The names with the tokens before them, at most ``N_EXTREMES``, at either end."""
    place_of = {key: place for place, key in enumerate(scores.pairs)}
    places = [place_of[key] for key in names.index]
    nothing = around.zero_output[places]
    columns: dict[str, object] = {}
    for end, ids in (("top", around.top), ("bottom", around.bottom)):
        ranks = names[f"rank_{end}"].fillna(ids.shape[1]).clip(upper=ids.shape[1])
        shown = np.where(nothing, 0, ranks.to_numpy(dtype=np.int64))
        before = [ids[place, :n] for place, n in zip(places, shown, strict=True)]
        columns[f"before_{end}"] = [
            ", ".join(map(repr, token_texts(model.tokenizer, some))) for some in before
        ]
    return names.assign(**columns, writes_nothing=nothing)
