"""One head followed through one prompt: where it looks, and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch

from analysis.dynamic.scores import CONTEXTS, head_z
from analysis.embeddings import source_vectors
from analysis.heads import check_heads
from analysis.names import TokenPairs, token_pairs
from analysis.prompts.templates import TEMPLATES, fill_template
from analysis.validation import check_int
from analysis.weights import embedding_matrix, ov_weights, unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def attention_from_last(
    model: TransformerBridge, name: str, head: tuple[int, int], template: str = TEMPLATES[0]
) -> pd.DataFrame:
    """Attention of one head from the last position of one prompt.

    Args:
        model: raw weights, from ``load_model``.
        name: put into the template.
        head: (layer, head).
        template: with one slot.

    Returns:
        Columns ``token``, ``attention`` (share, sums to 1), indexed by ``position``.

    Raises:
        NamesError: the name is not one token.
        PromptError: the template cannot be filled.
        ParameterError: the head does not exist.
    """
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    prompts = fill_template(model, template, token_pairs(model, [name]))
    hook = f"blocks.{layer}.attn.hook_pattern"
    tokens = prompts.tokens.to(embedding_matrix(model).device)
    _, cache = model.run_with_cache(tokens, names_filter=[hook])
    frame = pd.DataFrame(
        {
            "token": model.tokenizer.batch_decode(prompts.tokens[0][:, None].tolist()),
            "attention": cache[hook][0, number, -1].cpu().double().numpy(),
        }
    )
    return frame.rename_axis("position")


@torch.no_grad()
def top_logits_of_head(
    model: TransformerBridge,
    name: str,
    head: tuple[int, int],
    template: str = TEMPLATES[0],
    n: int = 5,
) -> pd.DataFrame:
    """The tokens that one head writes most and least at the last position of one prompt.

    Args:
        model: raw weights, from ``load_model``.
        name: put into the template.
        head: (layer, head).
        template: with one slot.
        n: tokens at each end.

    Returns:
        Columns ``most`` and ``least`` (tokens, the most extreme first) and ``larger logits``
        (than the name's: how many), indexed by ``how``: ``from the weights``, ``without context``
        and ``with context``.

    Raises:
        NamesError: the name is not one token.
        PromptError: the template cannot be filled.
        ParameterError: the head does not exist.
    """
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    n = check_int("n", n)
    names: TokenPairs = token_pairs(model, [name])
    W_V, W_O = ov_weights(model, layer, number)
    W_U = unembedding_matrix(model).to(W_O.device)
    z = head_z(model, fill_template(model, template, names))
    source = source_vectors(model, torch.tensor(names.source_tokens), layer=layer)
    written = {"from the weights": source[0] @ W_V} | {
        f"{context} context": z[context][layer][0, number].to(W_O) for context in CONTEXTS[::-1]
    }
    rows = {}
    for how, values in written.items():
        logits = (values @ W_O).float() @ W_U.float()
        order = logits.argsort(descending=True)
        ends = order[:n].tolist(), order.flip(0)[:n].tolist()
        most, least = (
            " ".join(model.tokenizer.batch_decode([[token] for token in end])) for end in ends
        )
        rank = int((logits > logits[names.source_tokens[0]]).sum())
        rows[how] = {"most": most, "least": least, "larger logits": rank}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("how")
