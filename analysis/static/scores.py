"""Static scores: which heads copy, and which suppress, read off the weights.

For head (l, h) and a source token s with target t, the logits are
``m(s) = x(s)·W_V·W_O·W_U`` with the source vector of ``source_vectors``. The relation
score is the share of pairs whose target is among the k largest entries of m(s), the suppression
score the share among the k smallest; for copying the target is the source (Elhelo & Geva, MAPS,
arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from analysis.exact.batches import OVBatch
from analysis.heads import HeadPair, chosen_heads
from analysis.models.open_checkpoint import readable_model
from analysis.names import TokenPairs, token_pairs
from analysis.provenance import model_identity, package_versions
from analysis.static.head_scores import HeadScores
from analysis.validation import check_flag, check_int
from analysis.weights import check_finite, check_readable, unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def score_heads(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]],
    k: int = 1,
    first_mlp: bool = True,
    *,
    ranks: bool | Sequence[HeadPair] = False,
) -> HeadScores:
    """Copying and suppression score of every head.

    Every (head, source, target) is decided exactly: the target is in the top k when fewer than k
    other tokens have a strictly larger logit, in the bottom k when fewer than k have a strictly
    smaller one (``analysis.exact.topk`` says how). A progress bar appears after two seconds.

    Args:
        model: raw weights, from ``load_model``; any device and floating dtype.
        names: from ``load_names``; or words; or (source, target) pairs of words for another
            relation. Words that are not one token are left out, duplicates counted once.
        k: from 1 to the vocabulary's size. MAPS uses 1 for copying on GPT-2-like models, 10 for
            other relations (3 and 25 on Llama-3).
        first_mlp: send sources through the first block's MLP for heads of later layers; False
            gives every head the token embedding.
        ranks: find each target's exact rank from both ends too, which takes every logit: for all
            heads, or for the (layer, head) given.

    Raises:
        NamesError: no name is usable.
        ParameterError: k is not a whole number in its range, or a head does not exist.
        ArchitectureError: the model's weights would not be read rightly.
        WeightsError: a weight is NaN or infinite.
    """
    model = readable_model(model)
    check_readable(model)
    k = check_int("k", k, 1, unembedding_matrix(model).shape[1], "the vocabulary's size")
    check_flag("first_mlp", first_mlp)
    ranked = () if ranks is False else chosen_heads(model, None if ranks is True else ranks)
    pairs = token_pairs(model, names)
    check_finite(model)

    asked = OVBatch(
        model,
        torch.tensor(pairs.source_tokens),
        torch.tensor(pairs.target_tokens),
        chosen_heads(model, None),
        "mlp" if first_mlp else "embedding",
        unembedding_matrix(model),
    )
    top = np.zeros((len(asked.heads), len(pairs)), dtype=bool)
    bottom = np.zeros_like(top)
    n_float64_rechecks = n_zero_output = multiply_adds = 0
    for place, part, decided in asked.decisions(k, "scoring heads"):
        top[place, part], bottom[place, part] = (
            decided.in_top_k.numpy(),
            decided.in_bottom_k.numpy(),
        )
        n_float64_rechecks += decided.n_float64_rechecks
        n_zero_output += decided.n_zero_output
        multiply_adds += decided.multiply_adds

    identity = model_identity(model)
    dense = top.size * unembedding_matrix(model).numel()
    provenance: dict[str, object] = {
        "model": asdict(identity),
        "pairs": len(pairs),
        "pairs_given": pairs.n_given,
        "pairs_sha256": pairs.checksum,
        "names" if pairs.copying else "source_target_pairs": list(
            pairs.sources if pairs.copying else zip(pairs.sources, pairs.targets, strict=True)
        ),
        "k": k,
        "first_mlp": first_mlp,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "decisions_settled_in_float64": n_float64_rechecks,
        "pairs_for_which_a_head_writes_nothing": n_zero_output,
        "share_of_dense_product": float(f"{multiply_adds / dense:.3g}"),
        "versions": package_versions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    shape = (model.cfg.n_layers, model.cfg.n_heads, len(pairs))
    return HeadScores(
        in_top_k=top.reshape(shape),
        in_bottom_k=bottom.reshape(shape),
        pairs=pairs,
        k=k,
        first_mlp=first_mlp,
        model=identity,
        provenance=provenance,
        ranks=_target_ranks(asked, pairs, ranked) if ranked else None,
    )


def _target_ranks(asked: OVBatch, pairs: TokenPairs, heads: tuple[HeadPair, ...]) -> pd.DataFrame:
    """The column ``HeadScores.ranks`` of some heads."""
    ranks = np.zeros((2, len(heads), len(pairs)), dtype=np.int64)
    for place, part, found in replace(asked, heads=heads).ranks("ranking targets"):
        ranks[:, place, part] = found.larger.numpy(), found.smaller.numpy()
    index = pd.MultiIndex.from_tuples(
        [
            (layer, head, source, target)
            for layer, head in heads
            for source, target in zip(pairs.sources, pairs.targets, strict=True)
        ],
        names=["layer", "head", "source", "target"],
    )
    return pd.DataFrame({"larger": ranks[0].ravel(), "smaller": ranks[1].ravel()}, index=index)
