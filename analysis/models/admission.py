"""May a model be scored? Where identities hold on its weights; else it is refused.

A family is supported because its weights, as read here, pass the identities of
``models.identities``, not because its name is on a list: three of them for the static scores, one
more for what runs the model, two more for direct effects.

What was found is kept in the open, as the model's attribute ``admission``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from analysis.architecture.readable import ReadableModel
from analysis.errors import ArchitectureError
from analysis.models.families import refusal
from analysis.models.fingerprint import fingerprint, note_weights
from analysis.models.identities import (
    Identity,
    attention_identity,
    direct_identities,
    first_block_identities,
    layers_compared,
    logits_identity,
    refuses_errors,
    unembedding_identity,
)
from analysis.validation import check_model
from analysis.weights import (
    attention_output_weights,
    check_finite,
    final_norm,
    value_weights,
)


@dataclass(frozen=True)
class Admission:
    """What was found of a model.

    Attributes:
        identities: that were checked so far, all of which hold.
        weights: the fingerprint of the weights of which they hold, empty for a checkpoint.
    """

    identities: tuple[Identity, ...] = ()
    weights: str = ""

    def has(self, name: str) -> bool:
        """Whether an identity was checked."""
        return any(identity.name == name for identity in self.identities)


def check_additive(model: ReadableModel) -> None:
    """Refuse a model whose heads do not write z·W_O into the residual stream as it is.

    A norm or factor stands between in Gemma 2, OLMo 2 and Granite; and transformer_lens names no
    final norm of OPT.
    """
    found = admit_runs(model)
    if found.has("residual stream"):
        return
    if final_norm(model) is None:
        raise ArchitectureError(
            f"{model.cfg.model_name}: transformer_lens names no final norm, which direct effects "
            "go through; use another model."
        )
    verdict = "cannot be patched head by head"
    identities = [_held(model, identity, verdict) for identity in direct_identities(model)]
    model.admission = replace(found, identities=(*found.identities, *identities))  # type: ignore[attr-defined]


def admit(model: ReadableModel) -> Admission:
    """Check that the static scores read a model as it is, once for the weights that it has.

    What was found is also the model's attribute ``admission``; where the weights are not those that
    it was loaded with, its ``identity`` says so.
    """
    check_model(model)
    _check_raw(model)
    weights = fingerprint(model)
    note_weights(model, weights)
    known = getattr(model, "admission", None)
    if isinstance(known, Admission) and known.weights == weights:
        return known
    _check_heads(model)
    found = Admission(
        (
            _held(model, attention_identity(model)),
            *(_held(model, identity) for identity in first_block_identities(model)),
            _held(model, unembedding_identity(model)),
        ),
        weights,
    )
    model.admission = found  # type: ignore[attr-defined]
    return found


def admit_runs(model: ReadableModel) -> Admission:
    """Check that a loaded model also runs as transformers runs it, once for each model."""
    found = admit(model)
    name = model.cfg.model_name
    if not isinstance(model, nn.Module):
        raise ArchitectureError(
            f"{name} is a checkpoint that is read layer by layer, which cannot be run: load it "
            "with load_model."
        )
    bridge: Any = model
    if any(module.training for module in bridge.original_model.modules()):
        raise ArchitectureError(
            f"{name} is in training mode, where dropout changes what heads write: "
            "call model.eval() first."
        )
    if not found.has("logits"):
        identity = _held(model, logits_identity(model))
        found = replace(found, identities=(*found.identities, identity))
        model.admission = found  # type: ignore[assignment]
    return found


def _held(model: ReadableModel, identity: Identity, verdict: str = "is not scored") -> Identity:
    if identity.holds:
        return identity
    check_finite(model)  # a weight that is NaN or infinite fails every identity
    raise ArchitectureError(
        f"{model.cfg.model_name} ({model.cfg.architecture}) {verdict}, since its "
        f"{identity.name} identity fails: {identity.where} differ by {identity.error:.2g} of "
        f"their size (at most {identity.limit:.0e} is admitted); use another model."
    )


def _check_raw(model: ReadableModel) -> None:
    """Refuse weights that were folded or centred."""
    if getattr(model, "compatibility_mode", False) or getattr(model, "_weights_processed", False):
        raise ArchitectureError(
            f"{model.cfg.model_name} has processed weights (folded or centred by TransformerLens); "
            "the scores are defined on raw weights: load the model again with load_model."
        )


@refuses_errors("attention heads cannot be read")
def _check_heads(model: ReadableModel) -> None:
    """Refuse a model without heads, or with weights that are none of heads."""
    cfg = model.cfg
    if cfg.n_layers < 1 or cfg.n_heads < 1:
        raise ArchitectureError(f"{cfg.model_name} has no attention heads to score.")
    reason = refusal(str(cfg.architecture))
    if reason:
        raise ArchitectureError(f"{cfg.model_name} is a {cfg.architecture}: {reason}.")
    for layer in layers_compared(model):
        V, O = value_weights(model, layer), attention_output_weights(model, layer)  # noqa: E741
        n_kv, d_model, d_head = V.shape
        fits = n_kv and O.shape[0] % n_kv == 0 and O.shape[1:] == (d_head, d_model)
        if not fits or d_model != cfg.d_model or O.shape[0] != cfg.n_heads:
            raise ArchitectureError(
                f"{cfg.model_name}: W_V of layer {layer} has shape {tuple(V.shape)} and W_O "
                f"{tuple(O.shape)}, which do not make attention heads."
            )
