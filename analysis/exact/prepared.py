"""What scoring derives from a model's weights alone, kept for the next call on the same weights.

Whether all weights are finite, the length of every row of W_U, each head's orthonormal factors, the
tokens that it writes most and least with their projections, and the vocabulary projected by the
heads that many names had to be held against: none of it depends on the names. It is kept for one
model, the last one scored, and let go with it. The fingerprint of all weights that ``admit`` takes
at each call tells whether they are still those of before.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import torch

from analysis.architecture.readable import ReadableModel
from analysis.exact.arithmetic import MEMORY
from analysis.exact.vocabulary import Vocabulary
from analysis.models.admission import Admission
from analysis.models.fingerprint import fingerprint
from analysis.weights import check_finite, unembedding_matrix

KEEP_BYTES = MEMORY // 4
"""Of projected vocabularies, at most, between calls."""


@dataclass(frozen=True)
class _Kept:
    model: weakref.ref[torch.nn.Module]
    weights: tuple[object, ...]
    n_tokens: int
    vocabulary: Vocabulary


class PreparedWeights:
    """The last scored model's vocabulary, with the projections that heads needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def vocabulary(self, model: ReadableModel, n_tokens: int) -> Vocabulary:
        """The unembedding of ``n_tokens``, made anew where weights are not those of the last call.

        They are those that were admitted, so ``admit`` comes first.

        Raises:
            WeightsError: a weight is NaN or infinite.
        """
        W_U = unembedding_matrix(model)
        if not isinstance(model, torch.nn.Module):  # a checkpoint, which is never held
            return Vocabulary(W_U[:, :n_tokens])
        admission = getattr(model, "admission", None)
        weights = admission.weights if isinstance(admission, Admission) else fingerprint(model)
        found = (weights, *((p.data_ptr(), p.device) for p in model.parameters()))
        with self._lock:
            kept = self._kept
        if (
            kept is not None
            and kept.model() is model
            and (kept.weights, kept.n_tokens) == (found, n_tokens)
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
