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

from analysis.exact.arithmetic import TILE, compare_rows, slices
from analysis.exact.head_logits import OV, Head, Sources, scale_errors, zero_outputs
from analysis.exact.vocabulary import Vocabulary

BLOCK = 1024
"""Tokens in each block."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of one head's targets, 0 for the most extreme.

    Attributes:
        larger: int64 ``[n_pairs]``, tokens whose logit is strictly larger than the target's; the
            vocabulary's size where the head writes nothing, so that it is in no top k.
        smaller: int64 ``[n_pairs]``, tokens whose logit is strictly smaller, likewise.
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

    The source vectors, a row for each pair, are float64, on a device that computes it.
    """
    head = Head(Sources(x), ov, vocabulary)
    targets = targets.to(x.device)
    W_O = head.W_O
    values = x @ head.W_V
    scale = (values @ W_O).norm(dim=1)
    zero_output = zero_outputs([head], scale[:, None], scale_errors([head]))[:, 0]
    norms = vocabulary.norms.to(x.device).double()
    d_model = ov.W_V.shape[0]
    error = head.float64_error() * head.sources.lengths
    larger = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    smaller = torch.zeros_like(larger)

    def project(tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n d_head"]:
        return vocabulary.rows[tokens].to(x.device).double() @ W_O.T

    target_logit = torch.cat(
        [(values[s] * project(targets[s])).sum(1) for s in slices(len(x), max(1, tile // d_model))]
    )
    for tokens in slices(vocabulary.size, BLOCK):
        projected = project(tokens)
        numbers = torch.arange(tokens.start, tokens.stop, device=x.device)
        for s in slices(len(x), max(1, tile // BLOCK)):
            logits = values[s] @ projected.T
            tolerance = error[s] * (norms[targets[s]] + norms[tokens].max())
            n_larger, n_smaller, row, near = compare_rows(
                logits, target_logit[s] - tolerance, target_logit[s] + tolerance
            )
            larger[s] += n_larger
            smaller[s] += n_smaller
            token = numbers[near]
            open_ = (token != targets[s][row]) & ~zero_output[s][row]
            for i in row[open_].unique().tolist():
                at = s.start + i
                rivals = token[open_ & (row == i)]
                for gaps in head.logit_gaps_float64(at, int(targets[at]), rivals):
                    larger[at] += int((gaps > 0).sum())
                    smaller[at] += int((gaps < 0).sum())
    larger[zero_output] = smaller[zero_output] = vocabulary.size
    return Ranks(larger.cpu(), smaller.cpu())
