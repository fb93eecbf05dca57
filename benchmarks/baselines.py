"""The baselines: the scores as plain torch gives them, head by head, every logit computed.

The plain loop is what anyone writes first: multiply out W_V·W_O, project every source on the whole
vocabulary, take the k largest and the k smallest logits. The factored loop is what one writes
after a minute's thought, and as good as plain torch gets: (x·W_V)·(W_O·W_U), and for k = 1 the
maximum and the minimum instead of a sort. The README quotes the factored loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

SOURCES = 1024
"""Sources whose logits the plain loop holds at once."""
FACTORED_SOURCES = 256
"""Likewise the factored loop: more are slower, for the logits no longer fit into the cache."""


def plain_counts(
    x: Tensor, targets: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor, k: int
) -> tuple[int, int]:
    """Pairs of one head whose target is among the k largest, and the k smallest, logits.

    Args:
        x: float32 ``[n_pairs, d_model]``.
        targets: int64 ``[n_pairs]``.
        W_V: float32 ``[d_model, d_head]``.
        W_O: float32 ``[d_head, d_model]``.
        W_U: float32 ``[d_model, d_vocab]``.
        k: how many count.
    """
    W_OV = W_V @ W_O
    top = bottom = 0
    for part, of in zip(x.split(SOURCES), targets.split(SOURCES), strict=True):
        logits = part @ W_OV @ W_U
        top += int((logits.topk(k).indices == of[:, None]).any(1).sum())
        bottom += int((logits.topk(k, largest=False).indices == of[:, None]).any(1).sum())
    return top, bottom


class FactoredLoop:
    """The same counts by way of d_head dimensions, in memory that is taken once for all heads."""

    def __init__(self, n_pairs: int, d_head: int, d_vocab: int) -> None:
        self.W_OU = torch.empty(d_head, d_vocab)
        self.logits = torch.empty(min(n_pairs, FACTORED_SOURCES), d_vocab)

    def counts(
        self, x: Tensor, targets: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor, k: int
    ) -> tuple[int, int]:
        """Arguments and result as for ``plain_counts``."""
        values = x @ W_V
        torch.mm(W_O, W_U, out=self.W_OU)
        top = bottom = 0
        blocks = (values.split(len(self.logits)), targets.split(len(self.logits)))
        for part, of in zip(*blocks, strict=True):
            logits = torch.mm(part, self.W_OU, out=self.logits[: len(part)])
            own = logits.gather(1, of[:, None])
            if k == 1:
                largest, smallest = logits.amax(1, keepdim=True), logits.amin(1, keepdim=True)
            else:
                largest = logits.topk(k, sorted=False).values.amin(1, keepdim=True)
                smallest = logits.topk(k, largest=False, sorted=False).values.amax(1, keepdim=True)
            top += int((own >= largest).sum())
            bottom += int((own <= smallest).sum())
        return top, bottom
