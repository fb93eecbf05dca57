"""Is a head's score more than chance? Three nulls, each a way in which names could count by chance.

1. ``random weights``: W_V and W_O have the singular values of the model's own, hence their norms,
   but read and write random directions: ``W_V = A·S·Bᵀ`` becomes ``A'·S·B'ᵀ`` with A' and B' drawn
   uniformly (Haar) among orthonormal frames, likewise W_O. Such heads hardly ever write any name at
   all, so that one name is enough to exceed them.
2. ``random W_V``: W_O is the model's own and W_V alone is drawn so. The head writes what it can
   write, for sources that have nothing to do with it.
3. ``other targets``: the head is the model's own, and each source is asked about the target of
   another, by a random permutation without fixed points. A head that writes the same few names
   whatever it reads scores here as it does on its own.

Each of the model's heads is drawn a few times and scored by the exact scorer on the same names. A
random head's negative is as likely as the head itself, so that its suppression score is one more
random copying score: the nulls of random weights hold both. A head's p-value is the share of null
scores, pooled over the heads of the whole model, at least as high as its own; Benjamini and
Hochberg's q-values control the false discovery rate over heads (J. R. Stat. Soc. B 57, 1995). A
head is *significant* when it is so against all three nulls. One that writes nothing for any source
ties everywhere: it is not tested (p = q = 1) and is no part of the nulls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.embeddings import source_vectors
from analysis.errors import NamesError
from analysis.exact.arithmetic import TILE, full_float32, slices
from analysis.exact.head_logits import OV
from analysis.exact.prepared import PREPARED
from analysis.exact.topk import decide_heads, layer_heads, pairs_at_once
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import HeadPair, all_heads, head_index, head_pairs
from analysis.models.precision import plain_settings
from analysis.progress import progress_bar
from analysis.static.head_scores import HeadScores, check_scores_of
from analysis.static.padding import n_real_tokens
from analysis.validation import check_int, check_seed
from analysis.weights import output_weights, value_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

RANDOM_WEIGHTS, RANDOM_W_V, OTHER_TARGETS = "random weights", "random W_V", "other targets"
NULLS = (RANDOM_WEIGHTS, RANDOM_W_V, OTHER_TARGETS)

FDR = 0.05
"""False discovery rate over heads at which a head is significant."""
MIN_DRAWS = math.ceil(1 / FDR)
"""With fewer draws for each head, no single head could be significant: the smallest p-value is
1 / (1 + draws · heads), and its q-value is that times the number of heads, which are here those
that write something."""
RANDOM_BYTES = 64 << 20
"""Random weights, in float64, that are held at once, or those of one layer where they are more."""
AT_LEAST = 0.01
"""Share of the names from which a significant head is worth removing."""


@dataclass(frozen=True)
class NullComparison:
    """Every head's scores against the three nulls.

    Attributes:
        frame: the two scores, shares in [0, 1]; for each its p- and q-value against each null, such
            as ``copying_score_q random W_V``, and the largest of the three, ``copying_score_p`` and
            ``copying_score_q``; indexed by ``layer`` and ``head``.
        nulls: a row for each null and kind of score: ``n_random`` (random scores), ``highest`` of
            them, and ``share_above_0`` of them, indexed by ``null`` and ``kind``.
    """

    frame: pd.DataFrame = field(repr=False)
    nulls: pd.DataFrame = field(repr=False)


def significant_heads(null: NullComparison, kind: str, n: int) -> list[HeadPair]:
    """The significant heads that score ``AT_LEAST``, highest first, at most n.

    Args:
        null: of ``compare_with_nulls``.
        kind: ``copying_score`` or ``suppression_score``.
        n: how many at most.

    Returns:
        (layer, head) pairs; where there is none, the one with the highest score, and none
        where every head scores 0.
    """
    n = check_int("n", n)
    ranked = null.frame.sort_values(kind, ascending=False, kind="stable")
    ranked = ranked[ranked[kind] > 0]
    found = ranked.index[which_significant(null, kind).loc[ranked.index]][:n]
    return head_pairs(found if len(found) else ranked.index[:1])


def which_significant(null: NullComparison, kind: str) -> pd.Series:
    """Whether each head is significant and scores ``AT_LEAST``, bool."""
    return (null.frame[f"{kind}_q"] <= FDR) & (null.frame[kind] >= AT_LEAST)


@plain_settings()
def compare_with_nulls(
    model: TransformerBridge,
    static: HeadScores,
    n_draws: int = MIN_DRAWS,
    seed: int = 0,
) -> NullComparison:
    """p- and q-values of every head's copying and suppression score against the three nulls.

    Args:
        model: the model that was scored.
        static: its heads' scores, from ``score_heads``; names, k and source vectors are theirs.
        n_draws: random scores for each head and null, ``MIN_DRAWS`` or more. Random weights give
            two each, so that half as many heads are drawn.
        seed: of the random weights and permutations.

    Raises:
        ParameterError: ``n_draws`` is below ``MIN_DRAWS``, the seed is none, or the scores are
            another model's.
        NamesError: they were made with another tokenizer, or of fewer than 2 pairs.
    """
    from statsmodels.stats.multitest import multipletests

    seed = check_seed(seed)
    check_scores_of(model, static)
    n_draws = check_int("n_draws", n_draws, MIN_DRAWS)
    if static.n_pairs < 2:
        raise NamesError(
            "heads are asked about the targets of other sources, so at least 2 names or pairs are "
            "needed: score the heads on more."
        )
    counts = _null_counts(model, static, n_draws, seed)
    n_layers, n_heads, n_names = static.in_top_k.shape
    silent = static.n_zero_output
    tested = np.ones(n_layers * n_heads, bool) if silent is None else silent.ravel() < n_names
    columns: dict[str, np.ndarray] = {}
    described = {}
    both = (static.n_in_top_k.ravel(), static.n_in_bottom_k.ravel())
    for end, (kind, own) in enumerate(zip(static.score_columns, both, strict=True)):
        columns[kind] = own / n_names
        for null in NULLS:
            at_random = counts[null][:, end]
            if null != OTHER_TARGETS:
                at_random = counts[null].ravel()
            reached = len(at_random) - np.searchsorted(np.sort(at_random), own, side="left")
            p = (1 + reached) / (1 + len(at_random))
            columns[f"{kind}_p {null}"] = p
            columns[f"{kind}_q {null}"] = q = np.ones_like(p)
            q[tested] = multipletests(p[tested], method="fdr_bh")[1]
            described[null, kind] = {
                "n_random": len(at_random),
                "highest": at_random.max(initial=0) / n_names,
                "share_above_0": float((at_random > 0).mean()) if len(at_random) else 0.0,
            }
        for value in "pq":
            each = [columns[f"{kind}_{value} {null}"] for null in NULLS]
            columns[f"{kind}_{value}"] = np.max(each, axis=0)
    nulls = pd.DataFrame.from_dict(described, orient="index").rename_axis(["null", "kind"])
    return NullComparison(
        pd.DataFrame(columns, index=head_index(all_heads(n_layers, n_heads))), nulls
    )


def _null_counts(
    model: TransformerBridge, static: HeadScores, n_draws: int, seed: int
) -> dict[str, Int[np.ndarray, "n 2"]]:
    """Names in the top, and in the bottom, k of every random score of each null."""
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    sources = torch.tensor(static.pairs.source_tokens)
    targets = torch.tensor(static.pairs.target_tokens)
    n_layers, n_heads, _ = static.in_top_k.shape
    counts: dict[str, list[tuple[int, int]]] = {null: [] for null in NULLS}
    n_weights = -(-n_draws // 2)
    n_scored = n_layers * n_heads * (2 * n_weights + n_draws)
    vocabulary = PREPARED.vocabulary(model, n_real_tokens(model))
    with full_float32(), progress_bar(n_scored, "scoring random heads", "head") as bar:
        for layer in range(n_layers):
            if layer < 2:  # every later layer has the sources of layer 1
                x = source_vectors(model, sources, layer=layer, first_mlp=static.first_mlp)
            own = layer_heads(value_weights(model, layer), output_weights(model, layer), layer)
            orders = [_without_fixed_points(len(targets), rng) for _ in range(n_draws)]
            counts[OTHER_TARGETS] += _permuted_counts(
                x, targets, own, vocabulary, static.k, orders, bar.update
            )
            for null in (RANDOM_WEIGHTS, RANDOM_W_V):
                for heads in _random_heads(own, n_weights, null == RANDOM_WEIGHTS, generator):
                    for decided in decide_heads(x, targets, heads, vocabulary, static.k):
                        bar.update()
                        if decided.n_zero_output < len(targets):  # else it ties everywhere
                            ends = (decided.in_top_k, decided.in_bottom_k)
                            top, bottom = (int(end.sum()) for end in ends)
                            counts[null].append((top, bottom))
    return {null: np.array(found, dtype=np.int64).reshape(-1, 2) for null, found in counts.items()}


def _random_heads(
    own: list[OV], n_draws: int, both: bool, generator: torch.Generator
) -> Iterator[list[OV]]:
    """Heads with W_V, or both matrices, turned at random, some at a time."""
    W_V, W_O = torch.stack([ov.W_V for ov in own]), torch.stack([ov.W_O for ov in own])
    spectra = [_singular_values(W.cpu().double()) for W in (W_V, W_O.mT)]
    each = 8 * (W_V.numel() + W_O.numel())
    for some in slices(n_draws, max(1, RANDOM_BYTES // each)):
        heads = []
        for _ in range(n_draws)[some]:
            V = _rotated(spectra[0], W_V.shape[1:], generator)
            O = _rotated(spectra[1], W_O.shape[1:], generator) if both else W_O  # noqa: E741
            # Where W_O is the model's, so is what the head is known by.
            heads += [
                OV(v, o, key=None if both else ov.key) for v, o, ov in zip(V, O, own, strict=True)
            ]
        yield heads


def _permuted_counts(
    x: Float[Tensor, "n d_model"],
    targets: Int[Tensor, "n"],
    own: Sequence[OV],
    vocabulary: Vocabulary,
    k: int,
    orders: Sequence[Int[np.ndarray, "n"]],
    done: Callable[[int], object],
) -> Iterator[tuple[int, int]]:
    """How often the model's heads have a permuted target in their top, and bottom, k.

    Of all targets, no more than k can be among a source's k largest logits: the k largest of the
    targets' own logits. Those alone are decided, once, and every permutation counts its pairs among
    them.

    Yields:
        For each head and order the names in the top k and in the bottom k; nothing for a head that
        writes nothing for any source.
    """
    tokens, place = targets.unique(return_inverse=True)
    asked = place.numpy()[np.stack(orders)]
    rows = vocabulary.rows[tokens].to(x)

    def count(ov: OV) -> list[tuple[int, int]]:
        source, target = _extreme_targets(x, rows, ov, k)
        counts = np.zeros((2, len(orders)), dtype=np.int64)
        n_zero_output = 0
        for some in slices(len(source), pairs_at_once(*ov.W_V.shape)):
            s, t = source[some], target[some]
            (decided,) = decide_heads(x[s], tokens[t], [ov], vocabulary, k)
            permuted = asked[:, s.numpy()] == t.numpy()
            for end, answer in enumerate((decided.in_top_k, decided.in_bottom_k)):
                counts[end] += permuted[:, answer.numpy()].sum(1)
            n_zero_output += decided.n_zero_output
        return list(zip(*counts.tolist(), strict=True)) if n_zero_output < len(source) else []

    for found in vocabulary.map(count, own):
        done(len(orders))
        yield from found


def _extreme_targets(
    x: Float[Tensor, "n d_model"], rows: Float[Tensor, "m d_model"], ov: OV, k: int
) -> tuple[Int[Tensor, "n_found"], Int[Tensor, "n_found"]]:
    """Each source's k largest and k smallest logits of some tokens, and any too near to tell.

    Returns:
        The found pairs, each once: the source's place and the token's.
    """
    W_V, W_O = ov.W_V.to(x), ov.W_O.to(x)
    written = x @ W_V @ W_O
    # A bound on float64's rounding: three products of at most 10,000 terms each.
    size = 1e-12 * W_V.norm() * W_O.norm() * rows.norm(dim=1).max()
    found = []
    for some in slices(len(x), max(1, TILE // len(rows))):
        logits = written[some] @ rows.T
        near = (size * x[some].norm(dim=1))[:, None]
        n = min(k, len(rows))
        least, most = (logits.topk(n, 1, end).values[:, -1:] for end in (False, True))
        pairs = ((logits >= most - 2 * near) | (logits <= least + 2 * near)).nonzero()
        found.append(pairs + pairs.new_tensor([some.start, 0]))
    source, target = torch.cat(found).cpu().T
    return source, target


def _without_fixed_points(n: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A random permutation that leaves nothing in its place: one cycle through everything."""
    order = rng.permutation(n)
    shifted = np.empty(n, dtype=np.int64)
    shifted[order] = np.roll(order, 1)
    return shifted


def _singular_values(
    W: Float[Tensor, "n_heads d_model d_head"],
) -> Float[Tensor, "n_heads r"]:
    """The roots of the eigenvalues of ``WᵀW``, which is much faster than decomposing W."""
    rank = min(W.shape[1:])
    return torch.linalg.eigvalsh(W.mT @ W)[:, -rank:].clamp_min(0).sqrt()


def _rotated(
    spectrum: Float[Tensor, "n_heads r"], shape: torch.Size, generator: torch.Generator
) -> Float[Tensor, "n_heads rows columns"]:
    """A random matrix with each of the given spectra, float64."""
    left, right = (_frames(len(spectrum), n, spectrum.shape[1], generator) for n in shape)
    return (left * spectrum[:, None]) @ right.mT


def _frames(n: int, length: int, r: int, generator: torch.Generator) -> Float[Tensor, "n length r"]:
    """Uniformly drawn orthonormal frames (Mezzadri, Notices AMS 54, 2007).

    The QR factors of a Gaussian matrix with a positive diagonal in R, by way of ``GᵀG = RᵀR``,
    which is much faster for tall matrices.
    """
    G = torch.randn(n, length, r, generator=generator, dtype=torch.float64)
    if length < 2 * r:  # where GᵀG may be all but singular
        Q, R = torch.linalg.qr(G)
        return Q * R.diagonal(dim1=1, dim2=2).sign()[:, None]
    R = torch.linalg.cholesky(G.mT @ G, upper=True)
    return torch.linalg.solve_triangular(R, G, upper=True, left=False)
