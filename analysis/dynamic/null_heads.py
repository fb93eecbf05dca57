"""Does a head's score stand out from heads of random weights?

The null: heads whose W_V and W_O have the singular values of the model's own, hence their norms,
but read and write random directions: ``W_V = A·S·Bᵀ`` becomes ``A'·S·B'ᵀ`` with A' and B' drawn
uniformly (Haar) among orthonormal frames, likewise W_O. Each of the model's heads is redrawn a few
times and scored by the exact scorer on the same names. A random head's negative is as likely as
the head itself, so that its suppression score is one more random copying score, and the null is
the same for both. A head's p-value is the share of null scores at least as high as its own, pooled
over the random heads of the whole model; Benjamini and Hochberg's q-values control the false
discovery rate over heads (J. R. Stat. Soc. B 57, 1995).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.embeddings import source_vectors
from analysis.exact.arithmetic import full_float32, slices
from analysis.exact.head_logits import OV
from analysis.exact.topk import N_TOGETHER, decide_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import all_heads, head_index
from analysis.progress import progress_bar
from analysis.static.head_scores import HeadScores
from analysis.validation import check_int
from analysis.weights import output_weights, unembedding_matrix, value_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


FDR = 0.05
"""False discovery rate over heads at which a head is said to stand out."""
MIN_DRAWS = math.ceil(0.5 / FDR)
"""With fewer random heads for each head, no single head could stand out: the smallest p-value is
1 / (1 + 2 · draws · heads), and its q-value so many times the number of heads."""
AT_LEAST = 0.01
"""Share of the names from which a head that stands out is worth removing: random heads score so
near 0 that a single name makes a head stand out."""


def significant_heads(null: pd.DataFrame, kind: str, n: int) -> list[tuple[int, int]]:
    """The heads that stand out from random ones and score ``AT_LEAST``, highest first, at most n.

    Args:
        null: of ``against_random_heads``.
        kind: ``copying_score`` or ``suppression_score``.
        n: how many at most.

    Returns:
        (layer, head) pairs; where no head stands out, the one with the highest score.
    """
    order = null.sort_values(kind, ascending=False, kind="stable").index
    found = [head for head in order if are_significant(null, kind, [head])][: check_int("n", n)]
    return [(int(layer), int(head)) for layer, head in found or order[:1]]


def are_significant(null: pd.DataFrame, kind: str, heads: Iterable[tuple[int, int]]) -> bool:
    """Whether all these heads stand out from random ones and score ``AT_LEAST``."""
    asked = null.loc[list(heads)]
    return bool(((asked[f"{kind}_q"] <= FDR) & (asked[kind] >= AT_LEAST)).all())


@torch.no_grad()
def against_random_heads(
    model: TransformerBridge,
    static: HeadScores,
    n_draws: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """p- and q-values of every head's copying and suppression score.

    Args:
        model: the model that was scored.
        static: its heads' scores, from ``score_heads``; names, k and source vectors are theirs.
        n_draws: random heads for each head, ``MIN_DRAWS`` or more.
        seed: of the random weights.

    Returns:
        The two scores, each with its p-value (``copying_score_p``) and q-value
        (``copying_score_q``), indexed by ``layer`` and ``head``; in ``attrs`` the number of random
        scores, ``n_random``, and the ``highest`` of them.

    Raises:
        ParameterError: ``n_draws`` is below ``MIN_DRAWS``.
    """
    n_draws = check_int("n_draws", n_draws, MIN_DRAWS)
    from statsmodels.stats.multitest import multipletests

    null = _null_counts(model, static, n_draws, seed)
    n_layers, n_heads, n_names = static.in_top_k.shape
    columns = {}
    both = (static.n_in_top_k, static.n_in_bottom_k)
    for kind, counts in zip(static.score_columns, map(np.ravel, both), strict=True):
        at_least = len(null) - np.searchsorted(np.sort(null), counts, side="left")
        p = (1 + at_least) / (1 + len(null))
        columns[kind] = counts / n_names
        columns[f"{kind}_p"], columns[f"{kind}_q"] = p, multipletests(p, method="fdr_bh")[1]
    index = head_index(all_heads(n_layers, n_heads))
    frame = pd.DataFrame(columns, index=index)
    frame.attrs = {"n_random": len(null), "highest": null.max(initial=0) / n_names}
    return frame


def _null_counts(
    model: TransformerBridge, static: HeadScores, n_draws: int, seed: int
) -> np.ndarray:
    """Names in the top, and in the bottom, k of every random head."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.tensor(static.pairs.source_tokens)
    targets = torch.tensor(static.pairs.target_tokens)
    n_layers, n_heads, _ = static.in_top_k.shape
    counts = []
    with (
        full_float32(),
        progress_bar(n_layers * n_draws * n_heads, "scoring random heads", "head") as bar,
    ):
        vocabulary = Vocabulary(unembedding_matrix(model))
        for layer in range(n_layers):
            if layer < 2:  # every later layer has the sources of layer 1
                x = source_vectors(model, sources, layer=layer, first_mlp=static.first_mlp)
            W_O = output_weights(model, layer)
            W_V = value_weights(model, layer)
            W_V = W_V.repeat_interleave(len(W_O) // len(W_V), dim=0)
            spectra = [_singular_values(W.cpu().double()) for W in (W_V, W_O.mT)]
            for some in slices(n_draws, max(1, N_TOGETHER // n_heads)):
                heads = []
                for _ in range(n_draws)[some]:
                    V = _rotated(spectra[0], W_V.shape[1:], generator)
                    O = _rotated(spectra[1], W_O.shape[1:], generator)  # noqa: E741
                    heads += [OV(*weights) for weights in zip(V, O, strict=True)]
                for decided in decide_heads(x, targets, heads, vocabulary, static.k):
                    if decided.n_zero_output < len(targets):  # a head without weights tells nothing
                        counts += [int(decided.in_top_k.sum()), int(decided.in_bottom_k.sum())]
                    bar.update()
    return np.array(counts, dtype=np.int64)


def _singular_values(
    W: Float[Tensor, "n_heads d_model d_head"],
) -> Float[Tensor, "n_heads r"]:
    """The roots of the eigenvalues of ``WᵀW``, much sooner had than by a decomposition of W."""
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
    G = torch.randn(n, length, r, generator=generator).double()
    if length < 2 * r:  # where GᵀG may be all but singular
        Q, R = torch.linalg.qr(G)
        return Q * R.diagonal(dim1=1, dim2=2).sign()[:, None]
    R = torch.linalg.cholesky(G.mT @ G, upper=True)
    return torch.linalg.solve_triangular(R, G, upper=True, left=False)
