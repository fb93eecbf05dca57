"""The result of scoring: two numbers for every head, and what made them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer

from analysis.errors import ParameterError
from analysis.heads import HeadPair, all_heads, check_head, head_index, listed_heads
from analysis.models.admission import admit
from analysis.names import TokenPairs, check_pairs_of
from analysis.provenance import ModelIdentity, check_made_of
from analysis.statistics import wilson_interval
from analysis.validation import check_flag, check_int

if TYPE_CHECKING:
    from analysis.architecture.readable import ReadableModel

SUPPRESSION_SCORE = "suppression_score"
COPYING_SCORE = "copying_score"
RELATION_SCORE = "relation_score"
HIGH = 0.5
"""A head with at least this score is called a copier or a suppressor."""


def score_columns(pairs: TokenPairs) -> tuple[str, str]:
    """What frames call the share of targets in the top k, and that in the bottom k."""
    return COPYING_SCORE if pairs.copying else RELATION_SCORE, SUPPRESSION_SCORE


@dataclass(frozen=True, repr=False)
class HeadScores:
    """A copying score and a suppression score for every attention head.

    Attributes:
        in_top_k: bool ``[n_layers, n_heads, n_pairs]``, is the pair's target among the
            head's k largest logits?
        in_bottom_k: bool ``[n_layers, n_heads, n_pairs]``, is it among the k smallest?
        pairs: the (source, target) pairs that were asked about.
        k: how many of the largest (smallest) logits count.
        first_mlp: whether sources of later layers pass through the first block's MLP.
        model: which model was scored.
        provenance: everything else that made the result, ready for JSON.
        max_rank: up to which ranks are known; None where they were not asked for.
        ranks_top: uint8 (int16 for ``max_rank`` above 255, int32 above 32,767) ``[n_layers,
            n_heads, n_pairs]``, how many tokens have a strictly larger logit than the target,
            ``max_rank`` where there are as many or more, or where the head writes nothing; None
            without ``max_rank``.
        ranks_bottom: likewise, how many have a strictly smaller logit.
        n_zero_output: int64 ``[n_layers, n_heads]``, pairs for which the head writes exactly
            nothing, which count neither in the top nor in the bottom k; None if not known.
    """

    in_top_k: Bool[np.ndarray, "n_layers n_heads n_pairs"]
    in_bottom_k: Bool[np.ndarray, "n_layers n_heads n_pairs"]
    pairs: TokenPairs
    k: int
    first_mlp: bool
    model: ModelIdentity
    provenance: dict[str, object]
    max_rank: int | None = None
    ranks_top: Integer[np.ndarray, "n_layers n_heads n_pairs"] | None = None
    ranks_bottom: Integer[np.ndarray, "n_layers n_heads n_pairs"] | None = None
    n_zero_output: Int[np.ndarray, "n_layers n_heads"] | None = None

    def __repr__(self) -> str:
        frame = self.to_frame()
        verbs = ("copy", "copies") if self.pairs.copying else ("answer", "answers")
        said = []
        for column, (many, one) in zip(
            self.score_columns, (verbs, ("suppress", "suppresses")), strict=True
        ):
            high = high_heads(frame[column])
            which = f" ({listed_heads(high, 5)})" if len(high) else ""
            said.append(f"{len(high)}{which} {one if len(high) == 1 else many} at least half")
        return (
            f"{self.model.title}, k = {self.k}, {self.n_pairs} {self.pairs.unit}: of {len(frame)} "
            f"heads {', '.join(said)}"
        )

    @property
    def n_in_top_k(self) -> Int[np.ndarray, "n_layers n_heads"]:
        """Pairs whose target is among the k largest logits, int64."""
        return np.asarray(self.in_top_k.sum(2))

    @property
    def n_in_bottom_k(self) -> Int[np.ndarray, "n_layers n_heads"]:
        """Pairs whose target is among the k smallest logits, int64."""
        return np.asarray(self.in_bottom_k.sum(2))

    @property
    def n_pairs(self) -> int:
        """How many pairs were asked about, the denominator of both scores."""
        return int(self.in_top_k.shape[2])

    @property
    def relation(self) -> str:
        """``"copying"`` where every target is its source, else ``"relation"``."""
        return "copying" if self.pairs.copying else "relation"

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.in_top_k.shape[0])

    @property
    def n_heads(self) -> int:
        """Number of heads in each layer."""
        return int(self.in_top_k.shape[1])

    @property
    def score_columns(self) -> tuple[str, str]:
        """What ``to_frame`` calls the two scores."""
        return score_columns(self.pairs)

    @property
    def relation_score(self) -> Float[np.ndarray, "n_layers n_heads"]:
        """Share of pairs whose target is in the top k, float64 in [0, 1]."""
        return np.asarray(self.n_in_top_k / self.n_pairs)

    @property
    def copying_score(self) -> Float[np.ndarray, "n_layers n_heads"]:
        """The relation score where every target is its source, float64 in [0, 1].

        Raises:
            ParameterError: the pairs are those of another relation.
        """
        if not self.pairs.copying:
            raise ParameterError(
                "these scores are of a relation whose targets are not their sources: use "
                "relation_score."
            )
        return self.relation_score

    @property
    def suppression_score(self) -> Float[np.ndarray, "n_layers n_heads"]:
        """Share of pairs whose target is in the bottom k, float64 in [0, 1]."""
        return np.asarray(self.n_in_bottom_k / self.n_pairs)

    def at_k(self, k: int) -> HeadScores:
        """The scores for another k, looked up in the ranks.

        Args:
            k: from 1 to ``max_rank``.

        Raises:
            ParameterError: ranks were not kept, or k is out of its range.
        """
        if self.ranks_top is None or self.ranks_bottom is None or self.max_rank is None:
            if k == self.k:
                return self
            raise ParameterError(
                f"these scores hold k = {self.k} alone: score again with max_rank for other k."
            )
        k = check_int("k", k, 1, self.max_rank, "max_rank")
        return replace(
            self,
            in_top_k=self.ranks_top < k,
            in_bottom_k=self.ranks_bottom < k,
            k=k,
            provenance=self.provenance | {"k": k},
        )

    def names_of(self, head: HeadPair) -> pd.DataFrame:
        """What one head does with each name.

        Args:
            head: (layer, head).

        Returns:
            Bool columns ``in_top_k`` and ``in_bottom_k``, indexed by ``name`` (by ``source`` and
            ``target`` for another relation). Where ranks were kept, also ``rank_top`` and
            ``rank_bottom``: how many tokens have a strictly larger (smaller) logit, missing where
            ``max_rank`` or more, and the names in order of ``rank_top``.

        Raises:
            ParameterError: the head does not exist.
        """
        here = check_head(head, self.n_layers, self.n_heads)
        pairs = self.pairs
        index = (
            pd.Index(pairs.sources, name="name")
            if pairs.copying
            else pd.MultiIndex.from_arrays(
                [pairs.sources, pairs.targets], names=["source", "target"]
            )
        )
        frame = pd.DataFrame(
            {"in_top_k": self.in_top_k[here], "in_bottom_k": self.in_bottom_k[here]}, index=index
        )
        if self.ranks_top is None or self.ranks_bottom is None:
            return frame
        for column, ranks in (("rank_top", self.ranks_top), ("rank_bottom", self.ranks_bottom)):
            known = pd.array(ranks[here].astype(np.int64), dtype="Int64")
            known[ranks[here] == self.max_rank] = pd.NA
            frame[column] = known
        return frame.sort_values("rank_top", kind="stable")

    def to_frame(self, intervals: bool = False) -> pd.DataFrame:
        """The scores as a frame.

        Args:
            intervals: add each score's 95 % interval over names (Wilson, 1927).

        Returns:
            float64 columns ``copying_score`` (``relation_score`` for another relation) and
            ``suppression_score``, with intervals also each one's ``_low`` and ``_high``, indexed by
            ``layer`` and ``head``.
        """
        check_flag("intervals", intervals)
        counted = dict(zip(self.score_columns, (self.n_in_top_k, self.n_in_bottom_k), strict=True))
        columns = {name: counts.ravel() / self.n_pairs for name, counts in counted.items()}
        if intervals:
            for name, counts in counted.items():
                low, high = wilson_interval(counts.ravel(), self.n_pairs)
                columns |= {f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame(columns, index=head_index(all_heads(self.n_layers, self.n_heads)))


def high_heads(scores: pd.Series) -> pd.Index:
    """The heads that score ``HIGH`` or more, the highest first."""
    return scores[scores >= HIGH].sort_values(ascending=False, kind="stable").index


def check_scores_of(model: ReadableModel, scores: HeadScores, what: str = "the scores") -> None:
    """Refuse scores of another model, or of names that another tokenizer made tokens of."""
    admit(model)  # which notes weights that were changed
    check_made_of(model, scores.model, what)
    check_pairs_of(model, scores.pairs)
