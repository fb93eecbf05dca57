"""What a loaded model consists of, and what it answers: the tables of the first notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.errors import ParameterError
from analysis.models.precision import MARGIN, exact_forward, plain_settings
from analysis.names import token_pairs
from analysis.prompts.templates import check_length, check_prompt
from analysis.provenance import model_identity
from analysis.tokenizers import encode_whole, token_texts
from analysis.validation import check_int
from analysis.weights import embedding_matrix, output_weights, unembedding_matrix, value_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def describe_model(model: TransformerBridge) -> pd.DataFrame:
    """The model's name and sizes, one a row, in a column ``value``."""
    identity = model_identity(model)
    cfg = model.cfg
    rows = {
        "model": identity.title,
        "weights": identity.name
        + (f" at {identity.revision[:12]}" if identity.revision else "")
        + (f", {identity.note}" if identity.note else ""),
        "SHA-256 of the weights": f"{identity.checksum[:12]}…" if identity.checksum else "unknown",
        "layers": cfg.n_layers,
        "heads per layer": cfg.n_heads,
        "key-value heads per layer": value_weights(model, 0).shape[0],
        "d_model": cfg.d_model,
        "d_head": cfg.d_head,
        "vocabulary": unembedding_matrix(model).shape[1],
        "positions": cfg.positional_embedding_type,
        "norm": "RMSNorm" if cfg.uses_rms_norm else "LayerNorm",
        "MLP": "gated" if cfg.gated_mlp else "plain",
    }
    return pd.DataFrame({"value": rows}).rename_axis("property")


def weight_table(model: TransformerBridge) -> pd.DataFrame:
    """The matrices that the scores read, with the shape of one head's and how many there are."""
    layers = range(model.cfg.n_layers)
    V, O = value_weights(model, 0), output_weights(model, 0)  # noqa: E741
    E, U = embedding_matrix(model), unembedding_matrix(model)
    rows = [
        ("W_E", "embedding: token → residual stream", E.shape, 1),
        ("W_V", "value: residual stream → head", V.shape[1:], len(layers) * V.shape[0]),
        ("W_O", "output: head → residual stream", O.shape[1:], len(layers) * O.shape[0]),
        ("W_U", "unembedding: residual stream → logits", U.shape, 1),
    ]
    table = pd.DataFrame(rows, columns=["matrix", "meaning", "shape", "count"])
    table["shape"] = [" × ".join(f"{n:,}" for n in shape) for shape in table["shape"]]
    return table.set_index("matrix")


@plain_settings()
def next_tokens(model: TransformerBridge, prompt: str, n: int = 5) -> pd.DataFrame:
    """The n likeliest next tokens after a prompt.

    Returns:
        Columns ``token`` (quoted, so that a leading space is seen) and ``probability`` (float, to
        three decimals), indexed by ``place`` from 1.

    Raises:
        PromptError: the prompt is not text, or longer than the model's context.
        ParameterError: n is not a whole number from 1 to the vocabulary's size.
        ArchitectureError: the model's device has no float64.
    """
    prompt = check_prompt(prompt)
    n = check_int("n", n, 1, model.cfg.d_vocab, "the vocabulary's size")
    top = _logits(model, prompt).softmax(-1).topk(n)
    return pd.DataFrame(
        {
            "token": list(map(repr, token_texts(model.tokenizer, top.indices.tolist()))),
            "probability": [round(float(p), 3) for p in top.values],
        },
        index=pd.RangeIndex(1, n + 1, name="place"),
    )


@plain_settings()
def answer(model: TransformerBridge, prompt: str, right: str, wrong: str) -> str:
    """A Markdown sentence: which of two names the model gives after a prompt, and by how much.

    Raises:
        NamesError: a name is not one token.
        PromptError: the prompt is not text, or longer than the model's context.
        ParameterError: the names are the same token.
        ArchitectureError: the model's device has no float64.
    """
    prompt = check_prompt(prompt)
    pairs = [token_pairs(model, [name]) for name in (right, wrong)]
    ids = [pair.source_tokens[0] for pair in pairs]
    if ids[0] == ids[1]:
        raise ParameterError(
            f"two different names are needed, not one token twice, as {right!r} and {wrong!r} are."
        )
    right, wrong = (pair.sources[0] for pair in pairs)
    logits = _logits(model, prompt)
    own, against = logits[ids[0]], logits[ids[1]]
    difference = float(own - against)
    larger = int((logits > own + MARGIN * own.abs()).sum())
    place = "its most likely next token" if not larger else f"number {larger + 1} of its answers"
    title = model_identity(model).title
    if abs(difference) <= MARGIN * float(torch.maximum(own.abs(), against.abs())):
        return (
            f"{title} does not prefer either of **{right}** and **{wrong}**: their logits are the "
            f"same but for rounding. {right} is {place}."
        )
    preferred, other = (right, wrong) if difference > 0 else (wrong, right)
    size = f"{abs(difference):.1f}" if abs(difference) >= 0.05 else f"{abs(difference):.1g}"
    return (
        f"{title} prefers **{preferred}** to {other}: the logit of {right} is {size} "
        f"{'above' if difference > 0 else 'below'} that of {wrong}. {right} is {place}."
    )


def _logits(model: TransformerBridge, prompt: str) -> Float[Tensor, "d_vocab"]:
    """Of the next token, float64, on the processor."""
    tokens = encode_whole(model, prompt)
    check_length(model, len(tokens))
    with exact_forward(model):
        return model(torch.tensor([tokens], device=embedding_matrix(model).device))[0, -1].cpu()
