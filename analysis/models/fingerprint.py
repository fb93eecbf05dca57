"""Are a model's weights still those of before, and those that it was loaded with?

A fingerprint is of every bit in its place. ``admit`` takes one at each call, so that what was kept
for other weights is let go, and results of weights that were changed after loading say so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from analysis.architecture.readable import ReadableModel
from analysis.provenance import ModelIdentity, model_identity, set_identity

SIDE, SQUARES_TOGETHER = 127, 16
"""Of the squares into which a parameter's bits are cut for its fingerprint."""


@dataclass(frozen=True)
class Loaded:
    """What a model was when it was loaded, as its attribute ``loaded``.

    Attributes:
        identity: of the checkpoint.
        weights: their fingerprint.
        said: the identity that the model was given last.
    """

    identity: ModelIdentity
    weights: str
    said: ModelIdentity


def set_loaded(model: Any, identity: ModelIdentity, weights: str | None = None) -> None:
    """Say that the model is what its identity says; of weights that have this fingerprint."""
    set_identity(model, identity)
    model.loaded = Loaded(identity, fingerprint(model) if weights is None else weights, identity)


def note_weights(model: Any, weights: str) -> None:
    """Say by the model's ``identity`` whether its weights are those that it was loaded with.

    Of a model that was made in memory, which has a name at most, it tells the fingerprint.
    """
    if weights and not isinstance(getattr(model, "identity", None), ModelIdentity):
        made = replace(model_identity(model), note=f"made in memory (fingerprint {weights[:12]})")
        set_loaded(model, made, weights)
    loaded = getattr(model, "loaded", None)
    if not isinstance(loaded, Loaded) or model_identity(model) != loaded.said:
        return  # its identity is somebody else's word
    said = loaded.identity
    if weights != loaded.weights:
        note = f"weights changed after loading (fingerprint {weights[:12]})"
        said = replace(
            said,
            title=f"{said.title}, weights changed",
            revision=None,
            checksum=None,
            source="memory",
            note=f"{said.note}; {note}" if said.note else note,
        )
    set_identity(model, said)
    model.loaded = replace(loaded, said=said)


def fingerprint(model: ReadableModel) -> str:
    """A number of every parameter's shape, dtype and bits, which tells their order too, in hex.

    A change of one weight, of signs, or of the order of heads, rows or columns changes it. A
    checkpoint that is read layer by layer has none.
    """
    if not isinstance(getattr(model, "original_model", None), nn.Module):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the sums are too small to be split
    try:
        for p in model.original_model.parameters():
            digest.update(f"{tuple(p.shape)} {p.dtype}".encode() + _digest(p.detach()))
    finally:
        torch.set_num_threads(before)
    return digest.hexdigest()


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
