"""The same question asked of every token: which tokens does a head copy, which suppress?

Each token of the vocabulary is its own source and its own target. Nothing is estimated: the exact
scorer decides every (head, token). Effective embedding, folding and k are parameters, so that
published figures with other definitions can be compared, among them the mean rank of a token's own
logit of McDougall et al. (*Copy Suppression*, arXiv 2310.04625).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from analysis.architecture.readable import ModelOrName
from analysis.embeddings import check_embedding
from analysis.errors import ParameterError
from analysis.exact.batches import OVBatch
from analysis.exact.prepared import PREPARED
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import HeadPair, chosen_heads, head_index
from analysis.models.admission import admit
from analysis.models.open_checkpoint import readable_model
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.static.padding import n_real_tokens
from analysis.validation import check_choice, check_flag, check_int, check_list, check_seed, shown
from analysis.weights import embedding_matrix, folded_unembedding, unembedding_matrix


@dataclass(frozen=True)
class VocabularyScores:
    """Which tokens every head copies and suppresses.

    Attributes:
        heads: the (layer, head) pairs asked about, in order.
        tokens: int64 ``[n_tokens]``, the tokens that were sources, in ascending order.
        copied: bool ``[n_heads_asked, n_tokens]``.
        suppressed: bool ``[n_heads_asked, n_tokens]``.
        d_vocab: tokens of the vocabulary (without padding unless it was asked for); ``tokens`` is
            a sample of it where shorter.
        model: which model was scored.
        provenance: everything else that made the result, ready for JSON.
    """

    heads: tuple[HeadPair, ...]
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
            index=head_index(self.heads),
        )
        if n < self.d_vocab:
            for name, answers in (("copied", self.copied), ("suppressed", self.suppressed)):
                frame[f"{name}_se"] = _standard_error(answers, self.d_vocab)
        return frame

    def tokens_of(self, head: HeadPair, which: str = "copied") -> Int[np.ndarray, "m"]:
        """The tokens that one head copies (``which="suppressed"``: suppresses), ascending.

        Raises:
            ParameterError: the head was not asked about, or ``which`` is something else.
        """
        check_choice("which", which, ("copied", "suppressed"))
        asked = tuple(check_list("head", head, "two numbers"))
        if asked not in self.heads:
            raise ParameterError(f"the head {shown(head)} is not among those asked about.")
        row = self.heads.index(asked)
        return self.tokens[(self.copied if which == "copied" else self.suppressed)[row]]


@torch.no_grad()
def score_vocabulary(
    model: ModelOrName,
    *,
    k: int = 1,
    embedding: str = "mlp",
    folded: bool = False,
    heads: Sequence[HeadPair] | None = None,
    n_tokens: int | None = None,
    seed: int = 0,
    include_padding: bool = False,
) -> VocabularyScores:
    """Decide for every head and token whether the head copies or suppresses it.

    Args:
        model: raw weights, from ``load_model``; or a name or folder, read layer by layer.
        k: a token is copied (suppressed) where fewer than k others have a larger (smaller) logit.
        embedding: the source vector: ``embedding``, ``mlp``, ``embedding_plus_mlp``,
            ``first_block_adds`` or ``block`` (``analysis.embeddings``).
        folded: fold norms into W_V and W_U and centre them, as TransformerLens does by default
            and the copy-suppression paper has it.
        heads: (layer, head) pairs; all heads if None.
        n_tokens: size of a random sample of sources; all tokens if None. Every token stays a
            competitor.
        seed: of the sample.
        include_padding: let rows of the vocabulary that are no token be sources and competitors.

    Raises:
        ParameterError: a parameter is out of its range.
        ArchitectureError: the model's weights would be misread.
        WeightsError: a weight is NaN or infinite.
    """
    asked = _every_token(model, embedding, folded, heads, n_tokens, seed, include_padding)
    d_vocab = asked.vocabulary.size
    k = check_int("k", k, 1, d_vocab, "the vocabulary's size")
    copied = np.zeros((len(asked.heads), len(asked.sources)), dtype=bool)
    suppressed = np.zeros_like(copied)
    n_float64_rechecks = n_zero_output = multiply_adds = 0
    for place, part, decided in asked.decisions(k, "scoring the vocabulary"):
        copied[place, part] = decided.in_top_k.numpy()
        suppressed[place, part] = decided.in_bottom_k.numpy()
        n_float64_rechecks += decided.n_float64_rechecks
        n_zero_output += decided.n_zero_output
        multiply_adds += decided.multiply_adds
    dense = copied.size * asked.vocabulary.rows.numel()
    return VocabularyScores(
        heads=asked.heads,
        tokens=asked.sources.numpy(),
        copied=copied,
        suppressed=suppressed,
        d_vocab=d_vocab,
        model=model_identity(asked.model),
        provenance=_provenance(asked, seed)
        | {
            "k": k,
            "tokens_for_which_a_head_writes_nothing": n_zero_output,
            "decisions_settled_in_float64": n_float64_rechecks,
            "share_of_dense_product": float(f"{multiply_adds / dense:.3g}"),
        },
    )


@torch.no_grad()
def rank_vocabulary(
    model: ModelOrName,
    *,
    embedding: str = "mlp",
    folded: bool = False,
    heads: Sequence[HeadPair] | None = None,
    n_tokens: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean rank of a token's own logit, exactly, over the vocabulary or a random sample of it.

    Args:
        model: raw weights, from ``load_model``; or a name or folder, read layer by layer.
        embedding: as for ``score_vocabulary``; the published mean ranks of
            copy suppression use ``first_block_adds`` with ``folded=True``.
        folded: as for ``score_vocabulary``.
        heads: as for ``score_vocabulary``.
        n_tokens: as for ``score_vocabulary``.
        seed: as for ``score_vocabulary``.

    Returns:
        Columns ``mean_rank`` (how many tokens have a smaller logit, so 0 is the most suppressed;
        the vocabulary's size where the head writes nothing), ``standard_error`` (0 for the whole
        vocabulary), ``median_rank``, ``n_tokens``, indexed by ``layer`` and ``head``.

    Raises:
        ParameterError: the embedding is unknown, ``n_tokens`` is out of its range, or a head does
            not exist.
        ArchitectureError: the model's weights would be misread.
        WeightsError: a weight is NaN or infinite.
    """
    asked = _every_token(model, embedding, folded, heads, n_tokens, seed)
    n, d_vocab = len(asked.sources), asked.vocabulary.size
    smaller = np.zeros((len(asked.heads), n), dtype=np.int64)
    for place, part, ranks in asked.ranks("ranking"):
        smaller[place, part] = ranks.smaller.numpy()
    return pd.DataFrame(
        {
            "mean_rank": smaller.mean(1),
            "standard_error": _standard_error(smaller, d_vocab),
            "median_rank": np.median(smaller, axis=1),
            "n_tokens": n,
        },
        index=head_index(asked.heads),
    )


def _every_token(
    model: ModelOrName,
    embedding: str,
    folded: bool,
    heads: Sequence[HeadPair] | None,
    n_tokens: int | None,
    seed: int,
    include_padding: bool = False,
) -> OVBatch:
    """Every token, or a random sample of them, as its own source and target; all checked."""
    model = readable_model(model)
    admit(model)
    check_embedding(embedding)
    check_flag("folded", folded)
    check_flag("include_padding", include_padding)
    if unembedding_matrix(model).shape[1] != embedding_matrix(model).shape[0]:
        raise ParameterError("every token must be able to be a source and a target.")
    d_vocab = embedding_matrix(model).shape[0] if include_padding else n_real_tokens(model)
    n = d_vocab if n_tokens is None else n_tokens
    n = check_int("n_tokens", n, 1, d_vocab, "the vocabulary's size")
    seed = check_seed(seed)
    chosen = chosen_heads(model, heads)
    vocabulary = PREPARED.vocabulary(model, d_vocab)
    if folded:
        vocabulary = Vocabulary(folded_unembedding(model)[:, :d_vocab])
    order = torch.randperm(d_vocab, generator=torch.Generator().manual_seed(seed))
    tokens = torch.arange(d_vocab) if n == d_vocab else order[:n].sort().values
    return OVBatch(model, tokens, tokens, chosen, embedding, vocabulary, folded)


def _standard_error(values: np.ndarray, n_population: int) -> Float[np.ndarray, "n_heads"]:
    """Of each row's mean, for a simple random sample without replacement; NaN for a sample of one.

    ``sqrt(s²/n · (1 - n/N))`` with the sample's variance s² (Cochran, *Sampling Techniques*, 1977,
    theorem 2.4).
    """
    n = values.shape[1]
    if n == 1 < n_population:
        return np.full(len(values), np.nan)
    variance = values.var(1, ddof=1 if n > 1 else 0)
    return np.asarray(np.sqrt(variance / n * (1 - n / n_population)))


def _provenance(asked: OVBatch, seed: int) -> dict[str, object]:
    n_tokens, d_vocab = len(asked.sources), asked.vocabulary.size
    return provenance_of(
        asked.model,
        {
            "embedding": asked.embedding,
            "folded": asked.folded,
            "tokens": n_tokens,
            "d_vocab": d_vocab,
            "padding_rows_left_out": unembedding_matrix(asked.model).shape[1] - d_vocab,
            "seed": seed if n_tokens < d_vocab else None,
        },
    )
