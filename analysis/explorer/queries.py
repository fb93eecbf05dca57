"""What one head writes for a token, and which tokens it writes one for.

All of the head's logits are read here, ``x(s)·W_V·W_O·W_U`` in float64, as the static scores
define them (MAPS, arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.embeddings import source_vectors
from analysis.exact.arithmetic import slices
from analysis.explorer.logits import extreme_frames, side_by_side, token_unembeddings
from analysis.explorer.on_prompt import HeadOnPrompt, head_on_prompt
from analysis.heads import HeadPair, check_heads
from analysis.models.admission import admit
from analysis.names import TokenPairs, token_pairs
from analysis.progress import progress_bar
from analysis.static.top_tokens import BLOCK, logits_of
from analysis.tokenizers import token_texts
from analysis.validation import check_int
from analysis.weights import ov_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Extremes:
    """The most extreme tokens of one head for each name.

    Attributes:
        top: token ids ``[n_pairs, n]``, the largest logit first.
        bottom: token ids ``[n_pairs, n]``, the smallest logit first.
    """

    top: Int[np.ndarray, "n_pairs n"]
    bottom: Int[np.ndarray, "n_pairs n"]


@dataclass(frozen=True)
class WrittenTokens:
    """What one head writes for one source token.

    Attributes:
        token: text of the source token, with its leading space if it has one.
        most: columns ``token`` (text) and ``logit`` (float64), the largest logit first.
        least: likewise, the smallest first.
        larger: tokens whose logit is strictly larger than the source's own.
        smaller: tokens whose logit is strictly smaller.
    """

    token: str
    most: pd.DataFrame = field(repr=False)
    least: pd.DataFrame = field(repr=False)
    larger: int
    smaller: int

    @property
    def table(self) -> pd.DataFrame:
        """``most`` and ``least`` side by side, tokens quoted so that their spaces are seen."""
        return side_by_side(self.most, self.least)


@dataclass(frozen=True)
class AskedHead:
    """One head and the questions that can be put to it.

    Attributes:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        first_mlp: as ``score_heads`` takes it.
    """

    model: TransformerBridge = field(repr=False)
    head: HeadPair
    first_mlp: bool

    def writes_for(self, word: str, n: int = 10) -> WrittenTokens:
        """What it writes for one token, most and least (:func:`written_for`)."""
        return written_for(self.model, self.head, word, n, first_mlp=self.first_mlp)

    def written_from(self, word: str, n: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The tokens for which it writes one token most, and least (:func:`written_from`)."""
        return written_from(self.model, self.head, word, n, first_mlp=self.first_mlp)

    def changes_most(self, n: int = 10) -> pd.DataFrame:
        """The tokens that it changes most (:func:`amplified_tokens`)."""
        return amplified_tokens(self.model, self.head, n, first_mlp=self.first_mlp)

    def on_prompt(self, prompt: str, n: int = 10) -> HeadOnPrompt:
        """Where it attends while the model reads a prompt (:func:`head_on_prompt`)."""
        return head_on_prompt(self.model, self.head, prompt, n)


@torch.no_grad()
def extreme_tokens(
    model: TransformerBridge,
    head: HeadPair,
    pairs: TokenPairs,
    n: int = 5,
    *,
    first_mlp: bool = True,
) -> Extremes:
    """The n tokens that a head writes most, and least, for every source.

    Raises:
        ParameterError: the head does not exist, or n is out of range.
    """
    admit(model)
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    W_V, W_O = ov_weights(model, layer, number)
    W_U = token_unembeddings(model)
    n = check_int("n", n, 1, W_U.shape[1], "the vocabulary's size")
    sources = torch.tensor(pairs.source_tokens)
    x = source_vectors(model, sources, layer=layer, first_mlp=first_mlp)
    top, bottom = (
        _extremes(x @ W_V, W_O, W_U, n, largest=largest).cpu().numpy() for largest in (True, False)
    )
    return Extremes(top, bottom)


@torch.no_grad()
def written_for(
    model: TransformerBridge, head: HeadPair, word: str, n: int = 10, *, first_mlp: bool = True
) -> WrittenTokens:
    """What a head writes for one token.

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        word: one token with a leading space.
        n: tokens at each end.
        first_mlp: as ``score_heads`` takes it.

    Raises:
        NamesError: the word is not one token.
        ParameterError: the head does not exist, or n is out of range.
    """
    admit(model)
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    W_U = token_unembeddings(model)
    n = check_int("n", n, 1, W_U.shape[1], "the vocabulary's size")
    pairs = token_pairs(model, [word])
    token = pairs.source_tokens[0]
    W_V, W_O = ov_weights(model, layer, number)
    x = source_vectors(model, torch.tensor([token]), layer=layer, first_mlp=first_mlp)
    logits = logits_of((x @ W_V @ W_O)[0], W_U)
    most, least = extreme_frames(model, logits, n)
    return WrittenTokens(
        token=token_texts(model.tokenizer, [token])[0],
        most=most,
        least=least,
        larger=int((logits > logits[token]).sum()),
        smaller=int((logits < logits[token]).sum()),
    )


@torch.no_grad()
def written_from(
    model: TransformerBridge,
    head: HeadPair,
    word: str,
    n: int = 10,
    *,
    first_mlp: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The source tokens for which a head writes one token most, and least.

    Every token of the vocabulary is a source; a progress bar appears after two seconds.

    Args: as :func:`written_for` takes them.

    Returns:
        Two frames with the columns ``token`` (the source's text) and ``logit`` (of ``word``,
        float64), the largest logit first and the smallest first.

    Raises: as :func:`written_for`.
    """
    admit(model)
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    W_U = token_unembeddings(model)
    n_tokens = W_U.shape[1]
    n = check_int("n", n, 1, n_tokens, "the vocabulary's size")
    target = token_pairs(model, [word]).source_tokens[0]
    W_V, W_O = ov_weights(model, layer, number)
    reads = W_V @ (W_O @ W_U[:, target].to(W_O.device).double())
    logits = torch.empty(n_tokens, dtype=torch.float64)
    with progress_bar(n_tokens, "asking every token", "token") as bar:
        for s in slices(n_tokens, BLOCK):
            tokens = torch.arange(s.start, s.stop)
            x = source_vectors(model, tokens, layer=layer, first_mlp=first_mlp)
            logits[s] = (x @ reads).cpu()
            bar.update(len(tokens))
    return extreme_frames(model, logits, n)


@torch.no_grad()
def amplified_tokens(
    model: TransformerBridge,
    head: HeadPair,
    n: int = 10,
    n_written: int = 5,
    *,
    first_mlp: bool = True,
) -> pd.DataFrame:
    """The tokens that a head changes most, its salient operations (MAPS, section 5).

    Every token of the vocabulary is a source; a progress bar appears after two seconds.

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        n: tokens.
        n_written: of the head's strongest outputs for each.
        first_mlp: as ``score_heads`` takes it.

    Returns:
        Columns ``token`` (text), ``amplification`` (float64, ``|x·W_V·W_O| / |x|``, the largest
        first) and ``writes`` (list of texts, the largest logit first).

    Raises:
        ParameterError: the head does not exist, or n is out of range.
    """
    admit(model)
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    W_U = token_unembeddings(model)
    n_tokens = W_U.shape[1]
    n = check_int("n", n, 1, n_tokens, "the vocabulary's size")
    n_written = check_int("n_written", n_written, 1, W_U.shape[1], "the vocabulary's size")
    W_V, W_O = ov_weights(model, layer, number)
    amplification = torch.empty(n_tokens, dtype=torch.float64)
    with progress_bar(n_tokens, "asking every token", "token") as bar:
        for s in slices(n_tokens, BLOCK):
            tokens = torch.arange(s.start, s.stop)
            x = source_vectors(model, tokens, layer=layer, first_mlp=first_mlp)
            length = x.norm(dim=1)
            ratio = (x @ W_V @ W_O).norm(dim=1) / torch.where(length > 0, length, torch.inf)
            amplification[s] = ratio.cpu()
            bar.update(len(tokens))
    order = amplification.argsort(descending=True, stable=True)[:n]
    x = source_vectors(model, order, layer=layer, first_mlp=first_mlp)
    written = _extremes(x @ W_V, W_O, W_U, n_written, largest=True).tolist()
    return pd.DataFrame(
        {
            "token": token_texts(model.tokenizer, order.tolist()),
            "amplification": amplification[order].numpy(),
            "writes": [token_texts(model.tokenizer, ids) for ids in written],
        }
    )


def _extremes(
    values: Float[Tensor, "n_pairs d_head"],
    W_O: Float[Tensor, "d_head d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    n: int,
    *,
    largest: bool,
) -> Int[Tensor, "n_pairs n"]:
    """Ids of each row's n most extreme logits, in order; a block of tokens at a time."""
    logits = values.new_empty(len(values), 0)
    ids = torch.empty(len(values), 0, dtype=torch.int64, device=values.device)
    for s in slices(W_U.shape[1], BLOCK):
        block = values @ (W_O @ W_U[:, s].to(W_O.device).double())
        tokens = torch.arange(s.start, s.stop, device=values.device).expand(len(values), -1)
        logits, ids = torch.cat([logits, block], 1), torch.cat([ids, tokens], 1)
        best = logits.topk(min(n, logits.shape[1]), largest=largest)
        logits, ids = best.values, ids.gather(1, best.indices)
    return ids
