"""The copy score of the indirect-object task, and its negative twin.

Were a head to attend to a name alone, would that name be among the five largest logits? And with
the head's output negated (Wang et al., arXiv 2211.00593, section 3.1)?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.architecture.norms import centred, norm_parameters, normalise
from analysis.architecture.value_clip import clip_values
from analysis.dynamic.scores import decide_written
from analysis.exact.arithmetic import full_float32
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import all_heads, head_index
from analysis.ioi.activations import Activations
from analysis.progress import progress_bar
from analysis.prompts.indirect_object import IOIPrompts
from analysis.static.padding import token_unembeddings
from analysis.weights import ov_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOP = 5
"""Logits among which the copy score looks for the name."""


@torch.no_grad()
def copy_scores(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations, k: int = TOP
) -> pd.DataFrame:
    """The copy score of the task and its negative twin, for every head.

    The residual stream after the first block at each place of a name (IO, S1 and S2) goes through
    the norm before the head's attention and through the head's OV matrix with its value bias, as if
    the head attended to that place alone; then through the final norm and W_U. The score is the
    share of places whose name is among the k largest logits (Wang et al., section 3.1, with the
    norm and bias as in the authors' code). For the negative twin the head's output is negated.

    Membership is decided exactly (``exact.topk``). The final norm's scale σ does not change the
    order of the logits, but its bias b does: σ·logits = o·C·diag(gain)·W_U + σ·b·W_U with the
    centring C, so that σ is one more number that the head writes, in the direction b.

    Returns:
        Columns ``copy_score`` and ``negative_copy_score`` in [0, 1], indexed by ``layer`` and
        ``head``. A head that writes nothing has 0 in both.
    """
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    named = clean.resid_post_0_at_names.flatten(0, 1).double()
    io, s = prompts.column("io_token"), prompts.column("s_token")
    targets = torch.stack([io, s, s], dim=1).flatten()
    gain, bias = norm_parameters(model, model.ln_final, torch.device("cpu"))
    shares = np.zeros((2, n_layers, n_heads))
    with full_float32(), progress_bar(n_layers * n_heads, "copy scores", "head") as bar:
        vocabulary = Vocabulary(token_unembeddings(model))
        for layer in range(n_layers):
            x = normalise(model.blocks[layer].ln1, named)
            each = [_values(model, layer, head, x) for head in range(n_heads)]
            values, W_O = torch.stack([v for v, _ in each], 1), torch.stack([w for _, w in each])
            to_logits = centred(model, W_O) * gain
            if bias is None:  # negating the output turns the order of the logits round
                decided = list(decide_written(values, targets, to_logits, vocabulary, k))
                inside = [[d.in_top_k for d in decided], [d.in_bottom_k for d in decided]]
            else:
                written = torch.einsum("nhe,hed->nhd", values, W_O)
                writes = written.any(2).T.repeat(2, 1)  # else the bias alone would decide
                output = centred(model, written)
                scale = (output.square().mean(2, keepdim=True) + model.cfg.eps).sqrt()
                z = torch.cat([torch.cat([v, scale], 2) for v in (values, -values)], 1)
                rows = torch.cat([to_logits, bias.expand(n_heads, 1, -1)], 1).repeat(2, 1, 1)
                decided = list(decide_written(z, targets, rows, vocabulary, k))
                tops = [d.in_top_k & some for d, some in zip(decided, writes, strict=True)]
                inside = [tops[:n_heads], tops[n_heads:]]
            for twin, answers in enumerate(inside):
                shares[twin, layer] = torch.stack(answers).double().mean(1)
            bar.update(n_heads)
    return pd.DataFrame(
        {"copy_score": shares[0].ravel(), "negative_copy_score": shares[1].ravel()},
        index=head_index(all_heads(n_layers, n_heads)),
    )


def _values(
    model: TransformerBridge, layer: int, head: int, x: Float[Tensor, "n d_model"]
) -> tuple[Float[Tensor, "n d_head"], Float[Tensor, "d_head d_model"]]:
    """``x·W_V + b_V`` and W_O of one head, in float64 on the processor."""
    W_V, W_O = (weight.cpu() for weight in ov_weights(model, layer, head))
    values = x @ W_V
    b_V = getattr(model.blocks[layer].attn, "b_V", None)
    if b_V is not None:
        biases = b_V.detach().cpu().double().view(-1, W_V.shape[1])
        values = values + biases[head // (model.cfg.n_heads // len(biases))]
    return clip_values(model, values), W_O
