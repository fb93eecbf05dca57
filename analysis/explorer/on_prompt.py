"""Where heads attend while the model reads a prompt, and what they write at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analysis.errors import PromptError
from analysis.heads import HeadPair, chosen_heads
from analysis.models.admission import admit_runs
from analysis.models.precision import exact_forward
from analysis.prompts import templates
from analysis.prompts.prefix_cache import NO_LOGITS
from analysis.static.padding import n_real_tokens, token_unembeddings
from analysis.static.top_tokens import extreme_frames, logits_of, side_by_side
from analysis.tokenizers import encode, token_texts
from analysis.validation import check_int
from analysis.weights import embedding_matrix, ov_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EXAMPLE = "When Mary and John went to the store, John gave a drink to"
"""The prompt that an explorer shows first (Wang et al., arXiv 2211.00593)."""
MAX_PROMPT = 200
"""Tokens of a prompt whose attention is shown."""
N_WRITTEN = 5
"""Tokens at each end of what every head writes, where all heads are asked."""


@dataclass(frozen=True)
class HeadOnPrompt:
    """One head while the model reads one prompt.

    Attributes:
        tokens: text of each token, first what ``model.to_tokens`` puts before the prompt (BOS).
        attention: float64 ``[n_tokens, n_tokens]``, from (row) and to (column); rows sum to 1.
        most: columns ``token`` and ``logit``: what the head writes at the last position, most
            first, with ``z·W_O·W_U``.
        least: likewise, least first.
    """

    tokens: tuple[str, ...]
    attention: Float[np.ndarray, "n n"] = field(repr=False)
    most: pd.DataFrame = field(repr=False)
    least: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """``most`` and ``least`` side by side, tokens quoted so that their spaces are seen."""
        return side_by_side(self.most, self.least)

    def attention_from(self, position: int = -1) -> pd.DataFrame:
        """What one position attends to, the most first.

        Args:
            position: of the token that attends; negative ones count from the end.

        Returns:
            Columns ``token`` (quoted) and ``attention`` (float64), indexed by ``position``.

        Raises:
            ParameterError: there is no such position.
        """
        n = len(self.tokens)
        position = check_int("position", position, -n, n - 1, "the last position") % n
        frame = pd.DataFrame(
            {"token": list(map(repr, self.tokens)), "attention": self.attention[position]},
            index=pd.RangeIndex(n, name="position"),
        )
        before = frame.iloc[: position + 1]
        return before.sort_values("attention", ascending=False, kind="stable")


@torch.no_grad()
def heads_on_prompt(
    model: TransformerBridge,
    prompt: str,
    n: int = N_WRITTEN,
    heads: Iterable[HeadPair] | None = None,
) -> dict[HeadPair, HeadOnPrompt]:
    """Where heads attend while the model reads a prompt, and what they write at its end.

    Args:
        model: raw weights, from ``load_model``, run once.
        prompt: any text; before it comes what ``model.to_tokens`` puts there, unless the text
            begins with that.
        n: tokens at each end.
        heads: as (layer, head); all of the model's if None.

    Returns:
        One for each head, layer by layer.

    Raises:
        PromptError: the prompt is empty, or longer than ``MAX_PROMPT`` tokens or the context.
        ParameterError: a head does not exist, or n is out of range.
        ArchitectureError: the model is not supported, or it is in training mode.
    """
    admit_runs(model)
    asked: dict[int, list[int]] = {}
    for layer, number in chosen_heads(model, heads):
        asked.setdefault(layer, []).append(number)
    ids = _prompt_tokens(model, prompt)
    n = check_int("n", n, 1, n_real_tokens(model), "the vocabulary's size")
    points = ("hook_pattern", "hook_z")
    names = [f"blocks.{layer}.attn.{point}" for layer in asked for point in points]
    tokens = torch.tensor([ids], device=embedding_matrix(model).device)
    with exact_forward(model):
        _, cache = model.run_with_cache(tokens, names_filter=names, logits_to_keep=NO_LOGITS)
    texts, W_U = tuple(token_texts(model.tokenizer, ids)), token_unembeddings(model)
    found: dict[HeadPair, HeadOnPrompt] = {}
    for layer, numbers in asked.items():
        pattern, z = (cache[f"blocks.{layer}.attn.{point}"][0] for point in points)
        W_O = torch.stack([ov_weights(model, layer, number)[1] for number in numbers])
        written = torch.einsum("hd,hdm->hm", z[-1, numbers].to(W_O), W_O)
        for number, logits in zip(numbers, logits_of(written, W_U), strict=True):
            attention = pattern[number].cpu().double().numpy()
            ends = extreme_frames(model, logits, n)
            found[layer, number] = HeadOnPrompt(texts, attention, *ends)
    return found


def check_prompt(prompt: object) -> str:
    """A prompt, if it is text with more than spaces in it."""
    if isinstance(prompt, str) and not prompt.strip():
        raise PromptError("the prompt is empty: type a sentence.")
    return templates.check_prompt(prompt)


def _prompt_tokens(model: TransformerBridge, prompt: str) -> list[int]:
    """A prompt's tokens, few enough to be shown, with what ``model.to_tokens`` puts first."""
    prompt = check_prompt(prompt)
    lead = templates.leading_tokens(model, prompt, prepend_bos=None)
    own = encode(model.tokenizer, prompt)
    ids = own if own[: len(lead)] == lead else lead + own
    if len(ids) > MAX_PROMPT:
        raise PromptError(
            f"the prompt has {len(ids)} tokens, more than the {MAX_PROMPT} that are shown: "
            "shorten it."
        )
    return ids
