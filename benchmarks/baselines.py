"""The baselines: the scores as plain torch gives them, head by head, every logit computed.

The plain loop is what anyone writes first: multiply out W_V·W_O, project every source on the whole
vocabulary, take the k largest and the k smallest logits. The factored loop is what one writes
after a minute's thought, and as good as plain torch gets: (x·W_V)·(W_O·W_U), and for k = 1 the
maximum and the minimum instead of a sort. The README quotes the factored loop.
"""

from __future__ import annotations

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


def factored_counts(
    x: Tensor, targets: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor, k: int
) -> tuple[int, int]:
    """The same counts by way of d_head dimensions; arguments as for ``plain_counts``."""
    values, W_OU = x @ W_V, W_O @ W_U
    top = bottom = 0
    blocks = (values.split(FACTORED_SOURCES), targets.split(FACTORED_SOURCES))
    for part, of in zip(*blocks, strict=True):
        logits = part @ W_OU
        own = logits.gather(1, of[:, None])
        if k == 1:
            largest, smallest = logits.amax(1, keepdim=True), logits.amin(1, keepdim=True)
        else:
            largest = logits.topk(k, sorted=False).values.amin(1, keepdim=True)
            smallest = logits.topk(k, largest=False, sorted=False).values.amax(1, keepdim=True)
        top += int((own >= largest).sum())
        bottom += int((own <= smallest).sum())
    return top, bottom
