"""The baseline: the scores as anyone would write them first, in torch, head by head.

Multiply out W_V·W_O, project every source on the whole vocabulary, and take the k largest and the
k smallest logits.
"""

from __future__ import annotations

from torch import Tensor


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
    for part, of in zip(x.split(1024), targets.split(1024), strict=True):
        logits = part @ W_OV @ W_U
        top += int((logits.topk(k).indices == of[:, None]).any(1).sum())
        bottom += int((logits.topk(k, largest=False).indices == of[:, None]).any(1).sum())
    return top, bottom
