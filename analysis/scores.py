"""Static scores: which heads copy, and which suppress, read off the weights.

For head (l, h) and a source token s with target t, the logits are
``m(s) = x(s)·W_V·W_O·W_U`` with the source vector of ``circuits.source_vectors``. The relation
score is the share of pairs whose target is among the k largest entries of m(s), the suppression
score the share among the k smallest; for copying the target is the source (Elhelo & Geva, MAPS,
arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from analysis import circuits
from analysis.errors import ParameterError
from analysis.exact_topk import Decisions, decide_heads, layer_heads
from analysis.head_logits import Vocabulary, full_float32
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
    k = check_whole("k", k, circuits.unembedding(model).shape[1])
    pairs = token_pairs(model, names)
    circuits.check_finite(model)

    n_top = np.zeros((model.cfg.n_layers, model.cfg.n_heads), dtype=np.int64)
    n_bottom = np.zeros_like(n_top)
    n_close = n_silent = multiply_adds = 0
    for layer, head, decided in head_decisions(model, pairs, k, first_mlp):
        n_top[layer, head] = int(decided.top.sum())
        n_bottom[layer, head] = int(decided.bottom.sum())
        n_close += decided.n_close
        n_silent += decided.n_silent
        multiply_adds += decided.multiply_adds

    identity = model_identity(model)
    dense = n_top.size * len(pairs) * circuits.unembedding(model).numel()
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


@torch.no_grad()
def head_decisions(
    model: TransformerBridge, pairs: TokenPairs, k: int, first_mlp: bool
) -> Iterator[tuple[int, int, Decisions]]:
    """Each head's answers for every pair, in the order of layers and heads.

    Args:
        model: readable and finite, which ``score_heads`` checks first.
        pairs: the pairs asked about.
        k: from 1 to the vocabulary's size.
        first_mlp: send sources of later layers through the first block's MLP.

    Yields:
        layer, head, ``Decisions`` with bool ``[n_pairs]`` answers.
    """
    sources, targets = torch.tensor(pairs.source_tokens), torch.tensor(pairs.target_tokens)
    n_heads = model.cfg.n_layers * model.cfg.n_heads
    with full_float32(), progress_bar(n_heads, "scoring heads", "head") as bar:
        vocabulary = Vocabulary(circuits.unembedding(model))
        for layers in (range(1), range(1, model.cfg.n_layers)):
            heads = {
                (layer, h): ov
                for layer in layers
                for h, ov in enumerate(
                    layer_heads(
                        circuits.value_weights(model, layer), circuits.output_weights(model, layer)
                    )
                )
            }
            if not heads:
                continue
            # Every layer after the first has the same sources.
            x = circuits.source_vectors(model, sources, layer=layers[0], first_mlp=first_mlp)
            decisions = decide_heads(x, targets, list(heads.values()), vocabulary, k)
            for (layer, head), decided in zip(heads, decisions, strict=True):
                yield layer, head, decided
                bar.update()


def check_whole(name: str, value: int, largest: int) -> int:
    """``value`` as an int from 1 to ``largest``, the vocabulary's size.

    Raises:
        ParameterError: it is not.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    if isinstance(value, bool) or not 1 <= whole <= largest:
        raise ParameterError(
            f"{name} must be a whole number from 1 to {largest:,} (the vocabulary's size), not "
            f"{value!r}."
        )
    return whole
