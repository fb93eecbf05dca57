"""Static scores: which heads copy, and which suppress, read off the weights.

For head (l, h) and a source token s with target t, the logits are
``m(s) = x(s)·W_V·W_O·W_U`` with the source vector of ``circuits.source_vectors``. The relation
score is the share of pairs whose target is among the k largest entries of m(s), the suppression
score the share among the k smallest; for copying the target is the source (Elhelo & Geva, MAPS,
arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from analysis import circuits
from analysis.errors import ParameterError
from analysis.exact_topk import Vocabulary, decide_layer, full_float32
from analysis.head_scores import HeadScores
from analysis.identity import model_identity, package_versions
from analysis.names import TokenPairs, token_pairs
from analysis.progress import progress_bar

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def score_heads(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]],
    k: int = 1,
    first_mlp: bool = True,
) -> HeadScores:
    """Copying and suppression score of every head.

    Every (head, source, target) is decided exactly: the target is in the top k when fewer than k
    other tokens have a strictly larger logit, in the bottom k when fewer than k have a strictly
    smaller one (``exact_topk`` says how). A progress bar appears after two seconds.

    Args:
        model: raw weights, from ``load_model``; any device and floating dtype.
        names: from ``load_names``; or words; or (source, target) pairs of words for another
            relation. Words that are not one token are left out, duplicates counted once.
        k: from 1 to the vocabulary's size. MAPS uses 1 for copying on GPT-2-like models, 10 for
            other relations (3 and 25 on Llama-3).
        first_mlp: send sources through the first block's MLP for heads of later layers; False
            gives every head the token embedding.

    Raises:
        NamesError: no name is usable.
        ParameterError: k is not a whole number in its range.
        ArchitectureError: the model's weights would not be read rightly.
        WeightsError: a weight is NaN or infinite.
    """
    circuits.check_readable(model)
    k = check_k(k, circuits.unembedding(model).shape[1])
    pairs = token_pairs(model, names)
    circuits.check_finite(model)

    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    n_top = np.zeros((n_layers, n_heads), dtype=np.int64)
    n_bottom = np.zeros_like(n_top)
    n_close = n_silent = multiply_adds = 0
    sources = torch.tensor(pairs.source_tokens)
    targets = torch.tensor(pairs.target_tokens)
    with (
        full_float32(),
        progress_bar(n_layers * n_heads, "scoring heads", "head") as bar,
    ):
        vocabulary = Vocabulary(circuits.unembedding(model))
        for layer in range(n_layers):
            if layer < 2:  # every later layer has the sources of layer 1
                x = circuits.source_vectors(model, sources, layer=layer, first_mlp=first_mlp)
            W_V = circuits.value_weights(model, layer)
            W_O = circuits.output_weights(model, layer)
            for head, decided in enumerate(decide_layer(x, targets, W_V, W_O, vocabulary, k)):
                n_top[layer, head] = int(decided.top.sum())
                n_bottom[layer, head] = int(decided.bottom.sum())
                n_close += decided.n_close
                n_silent += decided.n_silent
                multiply_adds += decided.multiply_adds
                bar.update()

    identity = model_identity(model)
    dense = n_layers * n_heads * len(pairs) * vocabulary.rows.numel()
    provenance: dict[str, object] = {
        "model": asdict(identity),
        "pairs": len(pairs),
        "pairs_given": pairs.n_given,
        "pairs_sha256": pairs.checksum,
        "k": k,
        "first_mlp": first_mlp,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "decisions_settled_in_float64": n_close,
        "pairs_for_which_a_head_writes_nothing": n_silent,
        "share_of_dense_product": float(f"{multiply_adds / dense:.3g}"),
        "versions": package_versions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return HeadScores(
        n_top=n_top,
        n_bottom=n_bottom,
        n_pairs=len(pairs),
        relation="copying" if pairs.copying else "relation",
        k=k,
        first_mlp=first_mlp,
        model=identity,
        provenance=provenance,
    )


def check_k(k: int, d_vocab: int) -> int:
    """``k`` as an int from 1 to ``d_vocab``.

    Raises:
        ParameterError: it is not.
    """
    try:
        whole = operator.index(k)
    except TypeError:
        whole = 0
    if isinstance(k, bool) or not 1 <= whole <= d_vocab:
        raise ParameterError(
            f"k must be a whole number from 1 to {d_vocab:,} (the vocabulary's size), not {k!r}."
        )
    return whole
