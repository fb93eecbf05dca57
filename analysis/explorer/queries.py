"""What one head writes for a token, and which tokens it writes one for.

All of the head's logits are read here, ``x(s)·W_V·W_O·W_U`` in float64, as the static scores
define them (MAPS, arXiv 2412.11965, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.embeddings import source_vectors
from analysis.exact.arithmetic import slices
from analysis.explorer.on_prompt import HeadOnPrompt, heads_on_prompt
from analysis.heads import HeadPair, check_head
from analysis.models.admission import admit
from analysis.names import TokenPairs, one_token
from analysis.progress import progress_bar
from analysis.static.padding import token_unembeddings
from analysis.static.top_tokens import BLOCK, extreme_frames, logits_of, side_by_side
from analysis.tokenizers import token_texts
from analysis.validation import check_int
from analysis.weights import ov_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_N_WRITES = 5
"""Of a head's strongest outputs, shown for each token that it changes."""


@dataclass(frozen=True)
class ExtremeTokens:
    """Token ids of one head's largest and smallest logits for each name, the most extreme first.

    They are arbitrary for the names of ``zero_output``, for which it writes nothing.
    """

    top: Int[np.ndarray, "n_pairs n"]
    bottom: Int[np.ndarray, "n_pairs n"]
    zero_output: Bool[np.ndarray, "n_pairs"]


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
    """One head and the questions that can be put to it."""

    model: TransformerBridge = field(repr=False)
    head: HeadPair
    first_mlp: bool

    @torch.no_grad()
    def writes_for(self, word: str | int, n: int = 10) -> WrittenTokens:
        """What it writes for one token.

        Args:
            word: one token with a leading space, or a token id.
            n: tokens at each end.

        Raises:
            NamesError: the word is not one token.
            ParameterError: the head does not exist, or the id or n is out of range.
        """
        W_V, W_O, W_U, n = self._weights(n)
        token = one_token(self.model, word, W_U.shape[1])
        logits = logits_of((self._read(torch.tensor([token])) @ W_V @ W_O)[0], W_U)
        most, least = extreme_frames(self.model, logits, n)
        return WrittenTokens(
            token=token_texts(self.model.tokenizer, [token])[0],
            most=most,
            least=least,
            larger=int((logits > logits[token]).sum()),
            smaller=int((logits < logits[token]).sum()),
        )

    @torch.no_grad()
    def written_from(self, word: str | int, n: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The source tokens for which it writes one token most, and least.

        Every token of the vocabulary is a source; a progress bar appears after two seconds.

        Args: as :meth:`writes_for` takes them.

        Returns:
            Two frames with the columns ``token`` (the source's text) and ``logit`` (of ``word``,
            float64), the largest logit first and the smallest first.

        Raises: as :meth:`writes_for`.
        """
        W_V, W_O, W_U, n = self._weights(n)
        target = one_token(self.model, word, W_U.shape[1])
        reads = W_V @ (W_O @ W_U[:, target].to(W_O.device).double())
        logits = self._of_every_token(W_U.shape[1], lambda x: x @ reads)
        return extreme_frames(self.model, logits, n)

    @torch.no_grad()
    def changes_most(self, n: int = 10) -> pd.DataFrame:
        """The tokens that it changes most, its salient operations (MAPS, section 5).

        Every token of the vocabulary is a source; a progress bar appears after two seconds.

        Args:
            n: tokens.

        Returns:
            Columns ``token`` (text), ``amplification`` (float64, ``|x·W_V·W_O| / |x|``, the largest
            first) and ``writes`` (list of the 5 texts of the largest logits, the largest first).

        Raises:
            ParameterError: the head does not exist, or n is out of range.
        """
        W_V, W_O, W_U, n = self._weights(n)

        def amplified(x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n"]:
            length = x.norm(dim=1)
            return (x @ W_V @ W_O).norm(dim=1) / torch.where(length > 0, length, torch.inf)

        amplification = self._of_every_token(W_U.shape[1], amplified)
        order = amplification.argsort(descending=True, stable=True)[:n]
        written = _extremes(self._read(order) @ W_V, W_O, W_U, _N_WRITES, largest=True).tolist()
        return pd.DataFrame(
            {
                "token": token_texts(self.model.tokenizer, order.tolist()),
                "amplification": amplification[order].numpy(),
                "writes": [token_texts(self.model.tokenizer, ids) for ids in written],
            }
        )

    def on_prompt(self, prompt: str, n: int = 10) -> HeadOnPrompt:
        """Where it attends while the model reads a prompt (:func:`heads_on_prompt`)."""
        (found,) = heads_on_prompt(self.model, prompt, n, [self.head]).values()
        return found

    def _weights(
        self, n: int
    ) -> tuple[
        Float[Tensor, "d_model d_head"],
        Float[Tensor, "d_head d_model"],
        Float[Tensor, "d_model n_tokens"],
        int,
    ]:
        """The head's W_V and W_O, W_U without padding, and n if there are that many tokens."""
        model = self.model
        admit(model)
        layer, number = check_head(self.head, model.cfg.n_layers, model.cfg.n_heads)
        W_U = token_unembeddings(model)
        n = check_int("n", n, 1, W_U.shape[1], "the vocabulary's size")
        return *ov_weights(model, layer, number), W_U, n

    def _read(self, tokens: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """What the head is given for each source token, float64."""
        return source_vectors(self.model, tokens, layer=self.head[0], first_mlp=self.first_mlp)

    def _of_every_token(
        self, n_tokens: int, asked: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "n_tokens"]:
        """A number for every source token, float64, from what the head is given for it."""
        found = torch.empty(n_tokens, dtype=torch.float64)
        with progress_bar(n_tokens, "asking every token", "token") as bar:
            for s in slices(n_tokens, BLOCK):
                tokens = torch.arange(s.start, s.stop)
                found[s] = asked(self._read(tokens)).cpu()
                bar.update(len(tokens))
        return found


@torch.no_grad()
def extreme_tokens(
    model: TransformerBridge,
    head: HeadPair,
    pairs: TokenPairs,
    n: int = 5,
    *,
    first_mlp: bool = True,
) -> ExtremeTokens:
    """The n tokens that a head writes most, and least, for every source."""
    asked = AskedHead(model, head, first_mlp)
    W_V, W_O, W_U, n = asked._weights(n)
    values = asked._read(torch.tensor(pairs.source_tokens)) @ W_V
    top, bottom = (
        _extremes(values, W_O, W_U, n, largest=largest).cpu().numpy() for largest in (True, False)
    )
    zero_output = ~(values @ W_O).any(1)
    return ExtremeTokens(top, bottom, zero_output.cpu().numpy())


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
