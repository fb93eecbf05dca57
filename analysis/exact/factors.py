"""Weights as a product ``R·Q`` with orthonormal rows in Q, in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.exact.arithmetic import gamma


def orthonormal_rows(
    W: Float[Tensor, "d_head d_model"],
) -> tuple[Float[Tensor, "d_head r"], Float[Tensor, "r d_model"]]:
    """``W = R·Q`` in float64 with orthonormal rows in Q.

    By a Cholesky factor of ``W·Wᵀ``, and a second one where the first leaves too much (CholeskyQR2;
    Yamamoto et al., ETNA 44, 2015): much faster than Householder's reflections, which are used
    where the result is not as accurate as theirs.
    """
    Q, R, one = W, torch.eye(len(W), dtype=W.dtype), torch.eye(len(W), dtype=W.dtype)
    accuracy = factor_error(W) / 2
    gram = W @ W.T
    for _ in range(2 if len(W) <= W.shape[1] else 0):
        L, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            break
        Q, R = torch.linalg.solve_triangular(L, one, upper=False) @ Q, R @ L
        gram = Q @ Q.T
        if (gram - one).norm() <= accuracy:
            if (R @ Q - W).norm() <= accuracy * W.norm():
                return R, Q
            break
    q, r = torch.linalg.qr(W.T)
    return r.T.contiguous(), q.T


def factor_error(W: Float[Tensor, "d_head d_model"]) -> float:
    """Relative error of Householder's factors (Higham, theorem 19.4)."""
    return gamma(8 * W.shape[1] * min(W.shape), torch.float64)
