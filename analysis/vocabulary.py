"""The same question asked of every token: which tokens does a head copy, which suppress?

Each token of the vocabulary is its own source and its own target. Nothing is estimated: the exact
scorer decides every (head, token). Effective embedding, folding and k are parameters, so that
published figures with other definitions can be compared, among them the mean rank of a token's own
logit of McDougall et al. (*Copy Suppression*, arXiv 2310.04625).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis import circuits
from analysis.errors import ParameterError
from analysis.exact_ranks import rank_targets
from analysis.exact_topk import OV, decide_heads, layer_heads
from analysis.head_logits import Vocabulary, full_float32
from analysis.identity import ModelIdentity, model_identity, package_versions
from analysis.progress import progress_bar
from analysis.scores import check_whole

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EMBEDDINGS = ("embedding", "mlp", "block")


@dataclass(frozen=True)
class VocabularyScores:
    """Which tokens every head copies and suppresses.

    Attributes:
        heads: the (layer, head) pairs asked about, in order.
        tokens: int64 ``[n_tokens]``, the tokens that were sources, in ascending order.
        copied: bool ``[n_heads_asked, n_tokens]``.
        suppressed: bool ``[n_heads_asked, n_tokens]``.
        d_vocab: size of the vocabulary; ``tokens`` is a sample of it where shorter.
        model: which model was scored.
        provenance: everything else that made the result, ready for JSON.
    """

    heads: tuple[tuple[int, int], ...]
    tokens: Int[np.ndarray, "n_tokens"]
    copied: Bool[np.ndarray, "n_heads_asked n_tokens"] = field(repr=False)
    suppressed: Bool[np.ndarray, "n_heads_asked n_tokens"] = field(repr=False)
    d_vocab: int
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Shares of tokens.

        Returns:
            float64 columns ``copied`` and ``suppressed`` in [0, 1], indexed by ``layer`` and
            ``head``; for a sample also ``copied_se`` and ``suppressed_se``, the standard errors of
            a simple random sample without replacement.
        """
        n = len(self.tokens)
        frame = pd.DataFrame(
            {"copied": self.copied.mean(1), "suppressed": self.suppressed.mean(1)},
            index=_head_index(self.heads),
        )
        if n < self.d_vocab:
            remaining = (self.d_vocab - n) / max(1, self.d_vocab - 1)
            for name in ("copied", "suppressed"):
                frame[f"{name}_se"] = np.sqrt(frame[name] * (1 - frame[name]) / n * remaining)
        return frame

    def tokens_of(self, layer: int, head: int, which: str = "copied") -> Int[np.ndarray, "m"]:
        """The tokens that one head copies (``which="suppressed"``: suppresses), ascending."""
        row = self.heads.index((layer, head))
        return self.tokens[(self.copied if which == "copied" else self.suppressed)[row]]


@torch.no_grad()
def score_vocabulary(
    model: TransformerBridge,
    *,
    k: int = 1,
    embedding: str = "mlp",
    folded: bool = False,
    heads: Sequence[tuple[int, int]] | None = None,
    n_tokens: int | None = None,
    seed: int = 0,
) -> VocabularyScores:
    """Decide for every head and token whether the head copies or suppresses it.

    Args:
        model: raw weights, from ``load_model``.
        k: a token is copied (suppressed) where fewer than k others have a larger (smaller) logit.
        embedding: the source vector of later layers, as ``circuits.effective_embedding`` names
            it; heads of layer 0 always read the token embedding.
        folded: fold norms into W_V and W_U and centre them, as TransformerLens does by default
            and the copy-suppression paper has it.
        heads: (layer, head) pairs; all heads if None.
        n_tokens: size of a random sample of sources; all tokens if None. Every token stays a
            competitor.
        seed: of the sample.

    Raises:
        ParameterError: a parameter is out of its range.
        ArchitectureError: the model's weights would not be read rightly.
        WeightsError: a weight is NaN or infinite.
    """
    question = _question(model, embedding, folded, heads, n_tokens, seed)
    d_vocab = question.W_U.shape[1]
    k = check_whole("k", k, d_vocab)
    shape = (len(question.heads), len(question.tokens))
    copied, suppressed = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    n_close = multiply_adds = 0
    with full_float32(), progress_bar(shape[0], "scoring the vocabulary", "head") as bar:
        vocabulary = Vocabulary(question.W_U)
        for rows in question.first_layer_and_rest():
            x = question.sources(rows)
            decisions = decide_heads(x, question.tokens, question.weights(rows), vocabulary, k)
            for row, decided in zip(rows, decisions, strict=True):
                copied[row], suppressed[row] = decided.top.numpy(), decided.bottom.numpy()
                n_close += decided.n_close
                multiply_adds += decided.multiply_adds
                bar.update()
            del x  # before the next sources are made: they are the largest thing in memory
    dense = copied.size * question.W_U.numel()
    return VocabularyScores(
        heads=question.heads,
        tokens=question.tokens.numpy(),
        copied=copied,
        suppressed=suppressed,
        d_vocab=d_vocab,
        model=model_identity(model),
        provenance=question.provenance()
        | {
            "k": k,
            "decisions_settled_in_float64": n_close,
            "share_of_dense_product": float(f"{multiply_adds / dense:.3g}"),
        },
    )


@torch.no_grad()
def rank_vocabulary(
    model: TransformerBridge,
    *,
    embedding: str = "mlp",
    folded: bool = False,
    heads: Sequence[tuple[int, int]] | None = None,
    n_tokens: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean rank of a token's own logit, exactly, over the vocabulary or a random sample of it.

    Args:
        model: raw weights, from ``load_model``.
        embedding: as for ``score_vocabulary``; the published copy-suppression figures use
            ``block`` with ``folded=True``.
        folded: as for ``score_vocabulary``.
        heads: as for ``score_vocabulary``.
        n_tokens: as for ``score_vocabulary``.
        seed: as for ``score_vocabulary``.

    Returns:
        Columns ``mean_rank`` (0 where every other token's logit is larger, so 0 is the most
        suppressed), ``standard_error`` (0 for the whole vocabulary), ``median_rank``, ``n_tokens``,
        indexed by ``layer`` and ``head``.
    """
    question = _question(model, embedding, folded, heads, n_tokens, seed)
    n, d_vocab = len(question.tokens), question.W_U.shape[1]
    remaining = (d_vocab - n) / max(1, d_vocab - 1)
    rows = []
    with full_float32(), progress_bar(len(question.heads), "ranking", "head") as bar:
        vocabulary = Vocabulary(question.W_U)
        for places in question.first_layer_and_rest():
            x = question.sources(places)
            for ov in question.weights(places):
                ranks = rank_targets(x, question.tokens, ov.W_V, ov.W_O, vocabulary)
                rank = ranks.smaller.double()
                spread = float(rank.std() * (remaining / n) ** 0.5) if n > 1 else float("nan")
                rows.append((float(rank.mean()), spread, float(rank.quantile(0.5)), n))
                bar.update()
            del x
    columns = ["mean_rank", "standard_error", "median_rank", "n_tokens"]
    return pd.DataFrame(rows, columns=columns, index=_head_index(question.heads))


@dataclass(frozen=True)
class _Question:
    """Checked parameters of a question about the vocabulary."""

    model: TransformerBridge
    embedding: str
    folded: bool
    heads: tuple[tuple[int, int], ...]
    tokens: Int[Tensor, "n_tokens"]
    seed: int
    W_U: Float[Tensor, "d_model d_vocab"]

    def first_layer_and_rest(self) -> list[list[int]]:
        """Places in ``heads`` of the first layer's heads and of all others: each has one x."""
        first = [place for place, (layer, _) in enumerate(self.heads) if layer == 0]
        return [places for places in (first, list(range(len(self.heads)))[len(first) :]) if places]

    def sources(self, places: list[int]) -> Float[Tensor, "n_tokens d_model"]:
        """float64 source vectors of the heads at these places."""
        kind = "embedding" if self.heads[places[0]][0] == 0 else self.embedding
        return circuits.effective_embedding(self.model, self.tokens, kind)

    def weights(self, places: list[int]) -> list[OV]:
        """Weights of the heads at these places."""
        value = circuits.folded_value_weights if self.folded else circuits.value_weights
        layers = {
            layer: layer_heads(value(self.model, layer), circuits.output_weights(self.model, layer))
            for layer in sorted({self.heads[place][0] for place in places})
        }
        return [layers[layer][head] for layer, head in (self.heads[place] for place in places)]

    def provenance(self) -> dict[str, object]:
        return {
            "model": asdict(model_identity(self.model)),
            "embedding": self.embedding,
            "folded": self.folded,
            "tokens": len(self.tokens),
            "d_vocab": self.W_U.shape[1],
            "seed": self.seed if len(self.tokens) < self.W_U.shape[1] else None,
            "dtype": str(self.model.cfg.dtype).removeprefix("torch."),
            "versions": package_versions(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _question(
    model: TransformerBridge,
    embedding: str,
    folded: bool,
    heads: Sequence[tuple[int, int]] | None,
    n_tokens: int | None,
    seed: int,
) -> _Question:
    circuits.check_readable(model)
    if embedding not in EMBEDDINGS:
        raise ParameterError(
            f"embedding must be one of {', '.join(EMBEDDINGS)}, not {embedding!r}."
        )
    d_vocab = circuits.embedding(model).shape[0]
    if circuits.unembedding(model).shape[1] != d_vocab:
        raise ParameterError("every token must be able to be a source and a target.")
    n = check_whole("n_tokens", d_vocab if n_tokens is None else n_tokens, d_vocab)
    chosen = check_heads(model, heads)
    circuits.check_finite(model)
    order = torch.randperm(d_vocab, generator=torch.Generator().manual_seed(seed))
    tokens = torch.arange(d_vocab) if n == d_vocab else order[:n].sort().values
    W_U = circuits.folded_unembedding(model) if folded else circuits.unembedding(model)
    return _Question(model, embedding, folded, chosen, tokens, seed, W_U)


def check_heads(
    model: TransformerBridge, heads: Sequence[tuple[int, int]] | None
) -> tuple[tuple[int, int], ...]:
    """Distinct (layer, head) pairs in ascending order; all of the model's if None.

    Raises:
        ParameterError: none is given, or one does not exist.
    """
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    if heads is None:
        return tuple((layer, head) for layer in range(n_layers) for head in range(n_heads))
    chosen = tuple(sorted({(int(layer), int(head)) for layer, head in heads}))
    absent = [f"{a}.{b}" for a, b in chosen if not (0 <= a < n_layers and 0 <= b < n_heads)]
    if absent or not chosen:
        raise ParameterError(
            f"{'no such head: ' + ', '.join(absent) if absent else 'no head is asked about'}; the "
            f"model has layers 0 to {n_layers - 1} with heads 0 to {n_heads - 1} each."
        )
    return chosen


def _head_index(heads: Sequence[tuple[int, int]]) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(heads, names=["layer", "head"])
