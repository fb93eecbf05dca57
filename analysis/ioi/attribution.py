"""Direct logit attribution: how much of the logit difference each head wrote.

The residual stream at END is a sum of parts, and z·W_O of one head is one of them. Sent through the
final norm with the scale that it had in the run, and through W_U, the parts add up to the logits
(nostalgebraist's logit lens for one head; TransformerLens' exploratory demo has it for GPT-2
small). No counterfactual is needed, and nothing responds: later MLPs that react to a head count as
their own part. ``path_effects`` is the interventional twin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.architecture.norms import centred, norm_parameters
from analysis.ioi.activations import Activations
from analysis.prompts.indirect_object import IOIPrompts
from analysis.weights import output_weights, unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def direct_logit_attribution(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations
) -> Float[Tensor, "n n_layers n_heads"]:
    """What every head at END adds to the logit difference of IO and S, float64, in logits."""
    return logits_written(model, clean, prompts.column("io_token")) - logits_written(
        model, clean, prompts.column("s_token")
    )


@torch.no_grad()
def logits_written(
    model: TransformerBridge, clean: Activations, tokens: Int[Tensor, "n"]
) -> Float[Tensor, "n n_layers n_heads"]:
    """What every head at END adds to the logit of each prompt's token, float64.

    The final norm keeps the scale that it had in the run; its bias belongs to no head.
    """
    gain, _ = norm_parameters(model, model.ln_final, torch.device("cpu"))
    scale = (centred(model, clean.resid_final).square().mean(-1) + float(model.cfg.eps)).sqrt()
    direction = centred(model, gain * unembedding_rows(model, tokens)) / scale[:, None]
    return torch.stack(
        [
            torch.einsum("nhd,nd->nh", head_outputs(model, layer, clean.z[:, layer]), direction)
            for layer in range(model.cfg.n_layers)
        ],
        dim=1,
    )


def head_outputs(
    model: TransformerBridge, layer: int, z: Float[Tensor, "n n_heads d_head"]
) -> Float[Tensor, "n n_heads d_model"]:
    """``z·W_O`` of each head of a layer."""
    return torch.einsum("nhk,hkd->nhd", z, output_weights(model, layer).to(z))


def unembedding_rows(
    model: TransformerBridge, tokens: Int[Tensor, "n"]
) -> Float[Tensor, "n d_model"]:
    """The columns of W_U of some tokens, float64 on the processor."""
    W_U = unembedding_matrix(model)
    return W_U[:, tokens.to(W_U.device)].T.cpu().double()
