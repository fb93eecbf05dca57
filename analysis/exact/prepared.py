"""What scoring derives from a model's weights alone, kept for the next call on the same weights.

Whether all weights are finite, the length of every row of W_U, each head's orthonormal factors, the
tokens that it writes most and least with their projections, and the vocabulary projected by the
heads that many names had to be held against: none of it depends on the names. It is kept for one
model, the last one scored, and let go with it. A fingerprint of all weights, taken at each call,
tells whether they are still those of before.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.architecture.readable import ReadableModel
from analysis.exact.arithmetic import MEMORY
from analysis.exact.threads import map_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.weights import check_finite, unembedding_matrix

KEEP_BYTES = MEMORY // 4
"""Of projected vocabularies, at most, between calls."""
SIDE, SQUARES_TOGETHER = 127, 16
"""Of the squares into which a parameter's bits are cut for its fingerprint."""


@dataclass(frozen=True)
class _Kept:
    model: weakref.ref[torch.nn.Module]
    fingerprint: int
    n_tokens: int
    vocabulary: Vocabulary


class PreparedWeights:
    """The last scored model's vocabulary, with the projections that heads needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def vocabulary(self, model: ReadableModel, n_tokens: int | None = None) -> Vocabulary:
        """The model's unembedding, made anew where its weights are not those of the last call.

        Raises:
            WeightsError: a weight is NaN or infinite.
        """
        W_U = unembedding_matrix(model)
        n_tokens = W_U.shape[1] if n_tokens is None else n_tokens
        if not isinstance(model, torch.nn.Module):  # a checkpoint, which is never held
            return Vocabulary(W_U[:, :n_tokens])
        found = fingerprint(model)
        with self._lock:
            kept = self._kept
        if (
            kept is not None
            and kept.model() is model
            and (kept.fingerprint, kept.n_tokens) == (found, n_tokens)
        ):
            return kept.vocabulary
        self.clear()
        check_finite(model)
        vocabulary = Vocabulary(W_U[:, :n_tokens], KEEP_BYTES)
        gone = weakref.ref(model, lambda _: self.clear())
        with self._lock:
            self._kept = _Kept(gone, found, n_tokens, vocabulary)
        return vocabulary

    def clear(self) -> None:
        """Let go of everything kept."""
        with self._lock:
            self._kept = None


PREPARED = PreparedWeights()
"""What ``score_heads`` and ``score_vocabulary`` reuse; ``PREPARED.clear()`` frees it."""


def fingerprint(model: ReadableModel) -> int:
    """A number of every parameter's place, shape and bits, which tells their order too.

    A change of one weight, of signs, or of the order of heads, rows or columns changes it.
    """
    parameters = [p.detach() for p in model.original_model.parameters()]
    large = sorted(parameters, key=Tensor.numel, reverse=True)
    on_cpu = all(p.device.type == "cpu" for p in parameters)
    bits = map_heads(_digest, large) if on_cpu else map(_digest, large)
    where = [(p.data_ptr(), tuple(p.shape), p.dtype, p.device) for p in large]
    return hash(tuple(zip(where, bits, strict=True)))


def _digest(p: Tensor) -> bytes:
    """A hash of a parameter: of the sums of rows and columns of its bits in squares, as integers.

    Squares are small enough for a processor's cache, so that the weights are read once. Their side
    is odd: the highest bit, in a square that is negated, is not cancelled by another.
    """
    flat = p.contiguous().view(-1)
    n_bytes = flat.numel() * flat.element_size()
    aligned = n_bytes % 8 == 0 and flat.storage_offset() * flat.element_size() % 8 == 0
    words = flat.view(torch.int64 if aligned else torch.uint8)
    n = len(words) // SIDE**2 * SIDE**2
    digest = hashlib.blake2b(words[n:].cpu().numpy().data, digest_size=16)
    for squares in words[:n].view(-1, SIDE, SIDE).split(SQUARES_TOGETHER):
        for axis in (1, 2):
            digest.update(squares.sum(axis, dtype=torch.int64).cpu().numpy().data)
    return digest.digest()
