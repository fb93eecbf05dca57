"""One head followed through one prompt: where it attends, and what it writes.

The model runs in float64 throughout (``models.precision``), and ranks are decided by the exact
scorer, so that a table is the same on every processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from analysis.dynamic.scores import CONTEXTS, head_z
from analysis.embeddings import source_vectors
from analysis.exact.head_logits import OV
from analysis.exact.prepared import PREPARED
from analysis.exact.ranks import rank_targets
from analysis.heads import HeadPair, check_head
from analysis.models.admission import admit_runs
from analysis.models.precision import MARGIN, exact_forward, plain_settings
from analysis.names import TokenPairs, token_pairs
from analysis.prompts.templates import (
    TEMPLATES,
    check_length,
    check_prompt,
    fill_template,
    leading_tokens,
)
from analysis.static.padding import token_unembeddings
from analysis.static.top_tokens import extreme_ids, logits_of
from analysis.tokenizers import encode, token_texts
from analysis.validation import check_int
from analysis.weights import embedding_matrix, ov_weights

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

DECIMALS = 3
"""Shown of an attention or a logit; what is left of float64's rounding is far below."""


@plain_settings()
def attention_on(
    model: TransformerBridge,
    head: HeadPair,
    prompt: str,
    *,
    prepend_bos: bool | None = None,
) -> pd.DataFrame:
    """Attention of one head in any prompt, from every position to every position before it.

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        prompt: any text, taken as it is.
        prepend_bos: whether a BOS token comes first; None for what ``model.to_tokens`` does.

    Returns:
        float64 ``[length, length]``, rounded to three decimals; a row is a query and sums to 1
        (to less where sinks take attention: GPT-OSS), a column is a key; NaN where the key comes
        after the query. Rows are indexed by ``query`` and ``token``, columns by ``position`` and
        ``token``, quoted so that a leading space is seen: ``' James'``.

    Raises:
        ParameterError: the head does not exist, or a BOS token is asked for that the tokenizer
            does not have.
        PromptError: the prompt is not text, empty, or longer than the model's context.
        ArchitectureError: the model cannot be run exactly (``admit_runs``).
    """
    admit_runs(model)
    layer, number = check_head(head, model.cfg.n_layers, model.cfg.n_heads)
    prompt = check_prompt(prompt)
    own = encode(model.tokenizer, prompt)
    ids = torch.tensor([[*leading_tokens(model, prompt, prepend_bos), *own]])
    check_length(model, ids.numel())
    hook = f"blocks.{layer}.attn.hook_pattern"
    with exact_forward(model):
        _, cache = model.run_with_cache(ids.to(embedding_matrix(model).device), names_filter=[hook])
        pattern = cache[hook][0, number].double().cpu().numpy()
    pattern[np.triu_indices(len(pattern), 1)] = np.nan
    tokens = list(map(repr, token_texts(model.tokenizer, ids[0].tolist())))
    labels = pd.MultiIndex.from_arrays([range(len(tokens)), tokens], names=["position", "token"])
    return pd.DataFrame(
        rounded(pattern), index=labels.set_names(["query", "token"]), columns=labels
    )


@plain_settings()
def top_logits_of_head(
    model: TransformerBridge,
    name: str,
    head: HeadPair,
    template: str = TEMPLATES[0],
    n: int = 5,
    *,
    prepend_bos: bool | None = None,
) -> pd.DataFrame:
    """The tokens that one head writes most and least at the last position of one prompt.

    Args:
        model: raw weights, from ``load_model``.
        name: put into the template.
        head: (layer, head).
        template: with one slot.
        n: tokens at each end.
        prepend_bos: as ``dynamic_scores`` takes it.

    Returns:
        Columns ``most`` and ``least`` (text: quoted tokens with their logits, the most extreme
        first) and ``larger logits`` (tokens with a strictly larger logit than the name: how many),
        indexed by ``how``: ``from the weights``, ``without context`` and ``with context``. The
        logits are the head's own, ``z·W_O·W_U``: no final norm, no biases but the value's.

    Raises:
        NamesError: the name is not one token.
        PromptError: the template cannot be filled.
        ParameterError: the head does not exist, or n is out of range.
        ArchitectureError: the model cannot be run exactly (``admit_runs``).
    """
    admit_runs(model)
    layer, number = check_head(head, model.cfg.n_layers, model.cfg.n_heads)
    W_U = token_unembeddings(model)
    n = check_int("n", n, 1, W_U.shape[1], "the vocabulary's size")
    names: TokenPairs = token_pairs(model, [name])
    W_V, W_O = ov_weights(model, layer, number)
    z = head_z(model, fill_template(model, template, names, prepend_bos))
    source = source_vectors(model, torch.tensor(names.source_tokens), layer=layer)
    values = {"from the weights": source @ W_V} | {
        f"{context} context": z[context][layer][:, number].to(W_O) for context in CONTEXTS[::-1]
    }
    vocabulary = PREPARED.vocabulary(model, W_U.shape[1])
    target = torch.tensor(names.target_tokens)
    itself = torch.eye(len(W_O), dtype=torch.float64, device=W_O.device)
    rows = {}
    for how, value in values.items():
        logits = logits_of(value[0] @ W_O, W_U)
        rank = rank_targets(value, target, OV(itself, W_O, margin=MARGIN), vocabulary).larger
        most, least = (
            _with_logits(model, logits, extreme_ids(logits, n, largest=end).tolist())
            for end in (True, False)
        )
        rows[how] = {"most": most, "least": least, "larger logits": int(rank)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("how")


def _with_logits(model: TransformerBridge, logits: torch.Tensor, tokens: list[int]) -> str:
    texts = token_texts(model.tokenizer, tokens)
    shown = rounded(logits[tokens].numpy(), 2)
    return ", ".join(f"{text!r} {value:+.2f}" for text, value in zip(texts, shown, strict=True))


def rounded(values: Float[np.ndarray, "..."], decimals: int = DECIMALS) -> np.ndarray:
    """Rounded, and never -0.0, which prints as another number than 0.0."""
    return np.round(values, decimals) + 0.0
