"""Static scores: which heads copy, and which suppress, read off the weights.

For head (l, h) and a source token s with target t, the logits are
``m(s) = x(s)·W_V·W_O·W_U`` with the source vector of ``source_vectors``. The relation
score is the share of pairs whose target is among the k largest entries of m(s), the suppression
score the share among the k smallest; for copying the target is the source (Elhelo & Geva, MAPS,
arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from analysis.architecture.readable import ModelOrName, ReadableModel
from analysis.errors import NamesError
from analysis.exact.batches import OVBatch
from analysis.exact.prepared import PREPARED
from analysis.heads import HeadPair, chosen_heads
from analysis.models.admission import admit
from analysis.models.open_checkpoint import readable_model
from analysis.names import TokenPairs, token_pairs
from analysis.provenance import model_identity, provenance_of
from analysis.static.head_scores import HeadScores
from analysis.static.padding import n_real_tokens
from analysis.validation import check_flag, check_int
from analysis.weights import unembedding_matrix


@torch.no_grad()
def score_heads(
    model: ModelOrName,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]],
    k: int = 1,
    first_mlp: bool = True,
    *,
    max_rank: int | None = None,
    include_padding: bool = False,
) -> HeadScores:
    """Copying and suppression score of every head.

    Every (head, source, target) is decided exactly: the target is in the top k when fewer than k
    other tokens have a strictly larger logit, in the bottom k when fewer than k have a strictly
    smaller one (``analysis.exact.topk`` says how). Where a head writes nothing for a source, all
    logits are equal and the target counts as neither. A progress bar appears after two seconds.

    Args:
        model: raw weights, from ``load_model``, on any device and of any floating dtype; or the
            name or folder of a model, which is then read layer by layer.
        names: from ``load_names``; or words; or (source, target) pairs of words for another
            relation. Words that are not one token are left out, duplicates counted once.
        k: from 1 to the vocabulary's size. MAPS uses 1 for copying on GPT-2-like models, 10 for
            other relations (3 and 25 on Llama-3).
        first_mlp: send sources through the first block's MLP for heads of later layers; False
            gives every head the token embedding.
        max_rank: keep each target's exact rank from both ends, up to this number, so that
            ``HeadScores.at_k`` gives the scores of any k up to it; k if larger. None keeps no
            ranks, which is faster.
        include_padding: let rows of the vocabulary that are no token (vocabularies are often padded
            to a round number) compete with the targets.

    Raises:
        NamesError: no name is usable, or a name is no row of this model's vocabulary.
        ParameterError: k or ``max_rank`` is not a whole number in its range.
        ArchitectureError: the scores would misread the model's weights.
        WeightsError: a weight is NaN or infinite.
    """
    model = readable_model(model)
    admit(model)
    check_flag("first_mlp", first_mlp)
    check_flag("include_padding", include_padding)
    d_vocab = unembedding_matrix(model).shape[1]
    n_real = n_real_tokens(model)
    n_tokens = d_vocab if include_padding else n_real
    k = check_int("k", k, 1, n_tokens, "the vocabulary's size")
    if max_rank is not None:
        max_rank = max(k, check_int("max_rank", max_rank, 1, n_tokens, "the vocabulary's size"))
    pairs = token_pairs(model, names)

    asked = _batch(model, pairs, chosen_heads(model, None), first_mlp, n_tokens)
    shape = (len(asked.heads), len(pairs))
    top, bottom, zero_output = (np.zeros(shape, dtype=bool) for _ in range(3))
    ranks = None if max_rank is None else np.zeros((2, *shape), dtype=_rank_dtype(max_rank))
    n_float64_rechecks = multiply_adds = 0
    decisions = asked.decisions(max_rank or k, "scoring heads", ranks=max_rank is not None)
    for place, part, decided in decisions:
        top[place, part] = decided.in_top_k.numpy()
        bottom[place, part] = decided.in_bottom_k.numpy()
        zero_output[place, part] = decided.zero_output.numpy()
        if ranks is not None and decided.ranks_top is not None and decided.ranks_bottom is not None:
            ranks[0, place, part] = decided.ranks_top.numpy()
            ranks[1, place, part] = decided.ranks_bottom.numpy()
        n_float64_rechecks += decided.n_float64_rechecks
        multiply_adds += decided.multiply_adds
    if ranks is not None:
        top, bottom = ranks < k

    identity = model_identity(model)
    dense = top.size * asked.vocabulary.rows.numel()
    provenance = provenance_of(
        model,
        {
            "pairs": len(pairs),
            "pairs_given": pairs.n_given,
            "pairs_sha256": pairs.checksum,
            "names" if pairs.copying else "source_target_pairs": list(
                pairs.sources if pairs.copying else zip(pairs.sources, pairs.targets, strict=True)
            ),
            "k": k,
            "max_rank": max_rank,
            "first_mlp": first_mlp,
            "vocabulary_size": n_tokens,
            "padding_rows_left_out": d_vocab - n_tokens,
            **({"padding_rows_counted": n_tokens - n_real} if n_tokens > n_real else {}),
            "decisions_settled_in_float64": n_float64_rechecks,
            "pairs_for_which_a_head_writes_nothing": int(zero_output.sum()),
            "share_of_dense_product": float(f"{multiply_adds / dense:.3g}"),
        },
    )
    cells = (model.cfg.n_layers, model.cfg.n_heads, len(pairs))
    return HeadScores(
        in_top_k=top.reshape(cells),
        in_bottom_k=bottom.reshape(cells),
        pairs=pairs,
        k=k,
        first_mlp=first_mlp,
        model=identity,
        provenance=provenance,
        max_rank=max_rank,
        ranks_top=None if ranks is None else ranks[0].reshape(cells),
        ranks_bottom=None if ranks is None else ranks[1].reshape(cells),
        n_zero_output=zero_output.sum(1).reshape(cells[:2]),
    )


def _rank_dtype(max_rank: int) -> type[np.integer]:
    """The smallest numbers that hold ranks up to ``max_rank``."""
    kinds = (np.uint8, np.int16, np.int32)
    return next(kind for kind in kinds if max_rank <= np.iinfo(kind).max)


@torch.no_grad()
def target_ranks(
    model: ReadableModel,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]],
    heads: Sequence[HeadPair],
    first_mlp: bool = True,
) -> pd.DataFrame:
    """Each target's exact rank from both ends, among all tokens, for some heads alone.

    Every logit of these heads is computed; the other heads are not touched.

    Args:
        model: as ``score_heads`` takes it.
        names: likewise.
        heads: (layer, head) pairs.
        first_mlp: as for ``score_heads``.

    Returns:
        int64 columns ``larger`` and ``smaller``, how many tokens have a strictly larger (smaller)
        logit than the target (the vocabulary's size where the head writes nothing), indexed by
        ``layer``, ``head``, ``source``, ``target``.

    Raises:
        NamesError: no name is usable.
        ParameterError: a head does not exist.
        ArchitectureError: the scores would misread the model's weights.
        WeightsError: a weight is NaN or infinite.
    """
    admit(model)
    check_flag("first_mlp", first_mlp)
    chosen = chosen_heads(model, heads)
    pairs = token_pairs(model, names)
    asked = _batch(model, pairs, chosen, first_mlp, n_real_tokens(model))
    ranks = np.zeros((2, len(chosen), len(pairs)), dtype=np.int64)
    for place, part, found in asked.ranks("ranking targets"):
        ranks[:, place, part] = found.larger.numpy(), found.smaller.numpy()
    index = pd.MultiIndex.from_tuples(
        [
            (layer, head, source, target)
            for layer, head in chosen
            for source, target in zip(pairs.sources, pairs.targets, strict=True)
        ],
        names=["layer", "head", "source", "target"],
    )
    return pd.DataFrame({"larger": ranks[0].ravel(), "smaller": ranks[1].ravel()}, index=index)


def _batch(
    model: ReadableModel,
    pairs: TokenPairs,
    heads: tuple[HeadPair, ...],
    first_mlp: bool,
    n_tokens: int,
) -> OVBatch:
    """The pairs, once they are known to be among the model's ``n_tokens``, and the heads asked."""
    largest = max(*pairs.source_tokens, *pairs.target_tokens)
    if largest >= n_tokens:
        raise NamesError(
            f"the names have token {largest:,}, but this model has {n_tokens:,} tokens: load the "
            "names with this model's tokenizer."
        )
    return OVBatch(
        model,
        torch.tensor(pairs.source_tokens),
        torch.tensor(pairs.target_tokens),
        heads,
        "mlp" if first_mlp else "embedding",
        PREPARED.vocabulary(model, n_tokens),
    )
