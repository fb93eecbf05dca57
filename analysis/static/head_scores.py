"""The result of scoring: two numbers for every head, and what made them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.errors import ParameterError
from analysis.heads import all_heads, head_index
from analysis.names import TokenPairs
from analysis.provenance import ModelIdentity
from analysis.statistics import wilson_interval

SUPPRESSION_SCORE = "suppression_score"
COPYING_SCORE = "copying_score"
RELATION_SCORE = "relation_score"


def score_columns(pairs: TokenPairs) -> tuple[str, str]:
    """What frames call the share of targets in the top k, and that in the bottom k."""
    return COPYING_SCORE if pairs.copying else RELATION_SCORE, SUPPRESSION_SCORE


@dataclass(frozen=True)
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
        ranks: exact ranks of the targets where they were asked for (``score_heads`` says how):
            int64 columns ``larger`` and ``smaller``, how many tokens have a strictly larger
            (smaller) logit than the target, indexed by ``layer``, ``head``, ``source``, ``target``.
    """

    in_top_k: Bool[np.ndarray, "n_layers n_heads n_pairs"] = field(repr=False)
    in_bottom_k: Bool[np.ndarray, "n_layers n_heads n_pairs"] = field(repr=False)
    pairs: TokenPairs
    k: int
    first_mlp: bool
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)
    ranks: pd.DataFrame | None = field(default=None, repr=False)

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

    def to_frame(self, intervals: bool = False) -> pd.DataFrame:
        """The scores as a frame.

        Args:
            intervals: add each score's 95 % interval over names (Wilson, 1927).

        Returns:
            float64 columns ``copying_score`` (``relation_score`` for another relation) and
            ``suppression_score``, with intervals also each one's ``_low`` and ``_high``, indexed by
            ``layer`` and ``head``.
        """
        counted = dict(zip(self.score_columns, (self.n_in_top_k, self.n_in_bottom_k), strict=True))
        columns = {name: counts.ravel() / self.n_pairs for name, counts in counted.items()}
        if intervals:
            for name, counts in counted.items():
                low, high = wilson_interval(counts.ravel(), self.n_pairs)
                columns |= {f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame(columns, index=head_index(all_heads(self.n_layers, self.n_heads)))
