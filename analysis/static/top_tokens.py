"""What one head writes for one token: the largest and smallest of its logits."""

from __future__ import annotations

import pandas as pd
import torch

from analysis.architecture.readable import ReadableModel
from analysis.embeddings import source_vectors
from analysis.errors import ParameterError
from analysis.heads import HeadPair, chosen_heads
from analysis.models.admission import admit
from analysis.names import token_pairs
from analysis.static.padding import n_real_tokens
from analysis.validation import check_flag, check_int, shown
from analysis.weights import ov_weights, unembedding_matrix

BLOCK = 8192
"""Tokens whose logits are computed at once."""


@torch.no_grad()
def top_tokens(
    model: ReadableModel,
    head: HeadPair,
    token: str | int,
    n: int = 10,
    *,
    first_mlp: bool = True,
    include_padding: bool = False,
) -> pd.DataFrame:
    """The n largest and the n smallest of a head's logits for one source token.

    ``m(s) = x(s)·W_V·W_O·W_U`` in float64 (MAPS, arXiv 2412.11965, section 3.1).

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        token: a word that is one token with a leading space, or a token id.
        n: how many from each end.
        first_mlp: as for ``score_heads``.
        include_padding: as for ``score_heads``.

    Returns:
        A row for each place from 1 to n, named ``place``. Columns ``largest`` and ``smallest`` are
        the tokens, quoted so that a space at the front is seen; ``largest_logit`` and
        ``smallest_logit`` (float64) are their values, ``largest_id`` and ``smallest_id`` (int64)
        their ids. Among equal logits the smaller id comes first.

    Raises:
        NamesError: the word is not one token.
        ParameterError: the head does not exist, or the id or n is out of its range.
        ArchitectureError: the model's weights would not be read rightly.
    """
    admit(model)
    check_flag("first_mlp", first_mlp)
    check_flag("include_padding", include_padding)
    ((layer, number),) = chosen_heads(model, [head])
    W_U = unembedding_matrix(model)
    n_tokens = W_U.shape[1] if include_padding else n_real_tokens(model)
    n = check_int("n", n, 1, n_tokens, "the vocabulary's size")
    if isinstance(token, str):
        (source,) = token_pairs(model, [token]).source_tokens
    elif isinstance(token, bool) or not hasattr(token, "__index__"):
        raise ParameterError(f"token must be a word or a token id, not {shown(token)}.")
    else:
        source = check_int("token", token, 0, n_tokens - 1, "the vocabulary's last token")
    x = source_vectors(model, torch.tensor([source]), layer=layer, first_mlp=first_mlp)
    W_V, W_O = ov_weights(model, layer, number)
    written = (x @ W_V @ W_O)[0]
    logits = torch.cat(
        [
            written @ W_U[:, start : min(start + BLOCK, n_tokens)].to(written)
            for start in range(0, n_tokens, BLOCK)
        ]
    )
    columns: dict[str, object] = {}
    for name, values in (("largest", -logits), ("smallest", logits)):
        ids = values.argsort(stable=True)[:n]
        texts = [
            model.tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids.tolist()
        ]
        columns |= {
            name: [repr(text) for text in texts],
            f"{name}_logit": logits[ids].tolist(),
            f"{name}_id": ids.tolist(),
        }
    return pd.DataFrame(columns, index=pd.RangeIndex(1, n + 1, name="place"))
