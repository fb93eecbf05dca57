"""Exact ranks of targets among an attention head's logits, from both ends.

The question of ``topk`` without its k: how many tokens have a strictly larger, how many a
strictly smaller logit than the target? Here every logit counts, so all are computed, in float64
and block by block; those within float64's rounding bound of the target's are compared once more in
the fixed summation order, so that equal tokens tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.exact.head_logits import TILE, Head, Sources, Vocabulary, count_true, gamma, slices
from analysis.exact.topk import OV

BLOCK = 1024
"""Tokens in each block."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of one head's targets, 0 for the most extreme.

    Attributes:
        larger: int64 ``[n_pairs]``, tokens whose logit is strictly larger than the target's.
        smaller: int64 ``[n_pairs]``, tokens whose logit is strictly smaller.
    """

    larger: Int[Tensor, "n_pairs"]
    smaller: Int[Tensor, "n_pairs"]


def rank_targets(
    x: Float[Tensor, "n_pairs d_model"],
    targets: Int[Tensor, "n_pairs"],
    ov: OV,
    vocabulary: Vocabulary,
    tile: int = TILE,
) -> Ranks:
    """Rank every pair's target among one head's logits.

    Args:
        x: float64 source vectors, a row for each pair, where float64 can be computed.
        targets: int64, the token ranked in each pair.
        ov: the head's weights.
        vocabulary: the unembedding.
        tile: logits held at once.
    """
    head = Head(Sources(x), ov.W_V, ov.W_O, vocabulary)
    targets = targets.to(x.device)
    values = x @ head.W_V
    silent = head.silent((values @ head.W_O).norm(dim=1))  # every logit is equal
    norms = vocabulary.norms.to(x.device).double()
    d_model, d_head = head.W_V.shape
    # |logit - computed logit| ≤ γ·|x|·|W_V|·|W_O|·|w_v|, with the Frobenius norms of the matrices;
    # twice that, since the logits in the fixed order are rounded too.
    rounding = 2 * gamma(2 * d_model + d_head + 2, torch.float64)
    rounding = rounding * head.W_V.norm() * head.W_O.norm()
    error = rounding * head.sources.lengths
    larger = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    smaller = torch.zeros_like(larger)

    def project(tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n d_head"]:
        return vocabulary.rows[tokens].to(x.device).double() @ head.W_O.T

    level = torch.cat(
        [(values[s] * project(targets[s])).sum(1) for s in slices(len(x), max(1, tile // d_model))]
    )
    for tokens in slices(vocabulary.size, BLOCK):
        projected = project(tokens)
        numbers = torch.arange(tokens.start, tokens.stop, device=x.device)
        for s in slices(len(x), max(1, tile // BLOCK)):
            logits = values[s] @ projected.T
            tolerance = error[s] * (norms[targets[s]] + norms[tokens].max())
            above = logits > (level[s] + tolerance)[:, None]
            below = logits < (level[s] - tolerance)[:, None]
            larger[s] += count_true(above)
            smaller[s] += count_true(below)
            near = ~(above | below) & ~silent[s, None] & (numbers != targets[s, None])
            for row in near.any(1).nonzero()[:, 0].tolist():
                at = s.start + row
                rivals = numbers[near[row]]
                for leads in head.logit_gaps_float64(at, int(targets[at]), rivals):
                    larger[at] += int((leads > 0).sum())
                    smaller[at] += int((leads < 0).sum())
    larger[silent], smaller[silent] = 0, 0
    return Ranks(larger.cpu(), smaller.cpu())
