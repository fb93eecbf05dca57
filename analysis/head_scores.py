"""The result of scoring: two numbers for every head, and what made them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from analysis.identity import ModelIdentity
from analysis.names import TokenPairs


@dataclass(frozen=True)
class HeadScores:
    """A copying score and a suppression score for every attention head.

    Attributes:
        top: bool ``[n_layers, n_heads, n_pairs]``, is the pair's target among the k largest logits
            of the head?
        bottom: bool ``[n_layers, n_heads, n_pairs]``, is it among the k smallest?
        pairs: the (source, target) pairs that were asked about.
        k: how many of the largest (smallest) logits count.
        first_mlp: whether sources of later layers pass through the first block's MLP.
        model: which model was scored.
        provenance: everything else that made the result, ready for JSON.
        ranks: exact ranks of the targets where they were asked for (``score_heads`` says how):
            int64 columns ``larger`` and ``smaller``, how many tokens have a strictly larger
            (smaller) logit than the target, indexed by ``layer``, ``head``, ``source``, ``target``.
    """

    top: Bool[np.ndarray, "n_layers n_heads n_pairs"] = field(repr=False)
    bottom: Bool[np.ndarray, "n_layers n_heads n_pairs"] = field(repr=False)
    pairs: TokenPairs
    k: int
    first_mlp: bool
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)
    ranks: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def n_top(self) -> Int[np.ndarray, "n_layers n_heads"]:
        """Pairs whose target is among the k largest logits, int64."""
        return np.asarray(self.top.sum(2))

    @property
    def n_bottom(self) -> Int[np.ndarray, "n_layers n_heads"]:
        """Pairs whose target is among the k smallest logits, int64."""
        return np.asarray(self.bottom.sum(2))

    @property
    def n_pairs(self) -> int:
        """How many pairs were asked about, the denominator of both scores."""
        return int(self.top.shape[2])

    @property
    def relation(self) -> str:
        """``"copying"`` where every target is its source, else ``"relation"``."""
        return "copying" if self.pairs.copying else "relation"

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.top.shape[0])

    @property
    def n_heads(self) -> int:
        """Number of heads in each layer."""
        return int(self.top.shape[1])

    @property
    def score(self) -> np.ndarray:
        """Copying (relation) score, float64 ``[n_layers, n_heads]`` in [0, 1]."""
        return np.asarray(self.n_top / self.n_pairs)

    @property
    def suppression(self) -> np.ndarray:
        """Suppression score, float64 ``[n_layers, n_heads]`` in [0, 1]."""
        return np.asarray(self.n_bottom / self.n_pairs)

    def to_frame(self, intervals: bool = False) -> pd.DataFrame:
        """The scores as a frame.

        Args:
            intervals: add each score's 95 % interval over names (Wilson, 1927).

        Returns:
            float64 columns ``score`` and ``suppression``, with intervals also ``score_low``,
            ``score_high``, ``suppression_low`` and ``suppression_high``, indexed by ``layer`` and
            ``head``.
        """
        index = pd.MultiIndex.from_product(
            [range(self.n_layers), range(self.n_heads)], names=["layer", "head"]
        )
        columns = {"score": self.score.ravel(), "suppression": self.suppression.ravel()}
        if intervals:
            for name, counts in (("score", self.n_top), ("suppression", self.n_bottom)):
                low, high = wilson_interval(counts.ravel(), self.n_pairs)
                columns |= {f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame(columns, index=index)


def wilson_interval(counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval for shares, each end ``[...]`` in [0, 1].

    Args:
        counts: of successes, whole numbers ``[...]``.
        n: of trials.
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(counts, n, alpha=0.05, method="wilson")
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
