"""What one head writes for one token: the largest and smallest of its logits."""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.architecture.readable import ReadableModel
from analysis.embeddings import source_vectors
from analysis.exact.arithmetic import slices
from analysis.heads import HeadPair, chosen_heads
from analysis.models.admission import admit
from analysis.names import one_token
from analysis.static.padding import token_unembeddings
from analysis.tokenizers import token_texts
from analysis.validation import check_flag, check_int
from analysis.weights import ov_weights

BLOCK = 4096
"""Tokens whose logits are computed at once."""


@torch.no_grad()
def top_tokens(
    model: ReadableModel,
    head: HeadPair,
    token: str | int,
    n: int = 10,
    *,
    first_mlp: bool = True,
) -> pd.DataFrame:
    """The n largest and the n smallest of a head's logits for one source token.

    ``m(s) = x(s)·W_V·W_O·W_U`` in float64 (MAPS, arXiv 2412.11965, section 3.1).

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        token: a word that is one token with a leading space, or a token id.
        n: how many from each end.
        first_mlp: as for ``score_heads``.

    Returns:
        A row for each place from 1 to n, named ``place``. Columns ``largest`` and ``smallest`` are
        the tokens, quoted so that a space at the front is seen; ``largest_logit`` and
        ``smallest_logit`` (float64) are their values, ``largest_id`` and ``smallest_id`` (int64)
        their ids. Among equal logits the smaller id comes first.

    Raises:
        NamesError: the word is not one token.
        ParameterError: the head does not exist, or the id or n is out of its range.
        ArchitectureError: the model's weights would be misread.
    """
    admit(model)
    check_flag("first_mlp", first_mlp)
    ((layer, number),) = chosen_heads(model, [head])
    W_U = token_unembeddings(model)
    n = check_int("n", n, 1, W_U.shape[1], "the vocabulary's size")
    source = one_token(model, token, W_U.shape[1])
    x = source_vectors(model, torch.tensor([source]), layer=layer, first_mlp=first_mlp)
    W_V, W_O = ov_weights(model, layer, number)
    logits = logits_of((x @ W_V @ W_O)[0], W_U)
    columns: dict[str, object] = {}
    for name in ("largest", "smallest"):
        ids = extreme_ids(logits, n, largest=name == "largest")
        columns |= {
            name: list(map(repr, token_texts(model.tokenizer, ids.tolist()))),
            f"{name}_logit": logits[ids].tolist(),
            f"{name}_id": ids.tolist(),
        }
    return pd.DataFrame(columns, index=pd.RangeIndex(1, n + 1, name="place"))


def logits_of(
    written: Float[Tensor, "*n d_model"], W_U: Float[Tensor, "d_model d_vocab"]
) -> Float[Tensor, "*n d_vocab"]:
    """``written·W_U`` in float64, on the processor, without a float64 copy of W_U."""
    logits = torch.empty(*written.shape[:-1], W_U.shape[1], dtype=torch.float64)
    for s in slices(W_U.shape[1], BLOCK):
        logits[..., s] = (written @ W_U[:, s].to(written.device).double()).cpu()
    return logits


def extreme_ids(logits: Float[Tensor, "d_vocab"], n: int, *, largest: bool) -> Int[Tensor, "n"]:
    """The n tokens of the largest (smallest) logits; equal ones in the order of their ids."""
    edge = logits.topk(n, largest=largest).values[-1]
    ids = (logits >= edge if largest else logits <= edge).nonzero()[:, 0]
    return ids[logits[ids].argsort(descending=largest, stable=True)[:n]]


def extreme_frames(
    model: ReadableModel, logits: Float[Tensor, "d_vocab"], n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The n tokens of the largest and of the smallest logits; equal ones in the order of their ids.

    Returns:
        Columns ``token`` (text) and ``logit`` (float64), the most extreme first.
    """
    frames = []
    for largest in (True, False):
        ids = extreme_ids(logits, n, largest=largest)
        texts = token_texts(model.tokenizer, ids.tolist())
        frames.append(pd.DataFrame({"token": texts, "logit": logits[ids].numpy()}))
    most, least = frames
    return most, least


def side_by_side(most: pd.DataFrame, least: pd.DataFrame) -> pd.DataFrame:
    """Both of ``extreme_frames`` in one table, the tokens quoted so that their spaces are seen."""
    both = {"most": most, "least": least}
    quoted = {end: part.assign(token=part["token"].map(repr)) for end, part in both.items()}
    return pd.concat(quoted, axis=1)
