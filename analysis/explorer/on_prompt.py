"""Where heads attend while the model reads a prompt, and what they write at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analysis.errors import PromptError
from analysis.explorer.logits import extreme_frames, side_by_side, token_unembeddings
from analysis.heads import HeadPair, check_heads
from analysis.models.admission import admit_runs
from analysis.models.precision import exact_forward
from analysis.prompts.prefix_cache import NO_LOGITS
from analysis.prompts.templates import check_length, check_prompt
from analysis.static.padding import n_real_tokens
from analysis.static.top_tokens import logits_of
from analysis.tokenizers import token_texts
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
        tokens: text of each token, a BOS token first where the model has one.
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
def head_on_prompt(
    model: TransformerBridge, head: HeadPair, prompt: str, n: int = 10
) -> HeadOnPrompt:
    """Where a head attends while the model reads a prompt, and what it writes at its end.

    Args:
        model: raw weights, from ``load_model``.
        head: (layer, head).
        prompt: any text; a BOS token is put before it where the model has one.
        n: tokens at each end.

    Raises:
        PromptError: the prompt is empty or longer than ``MAX_PROMPT`` tokens.
        ParameterError: the head does not exist.
        ArchitectureError: the model is not supported, or it is in training mode.
    """
    admit_runs(model)
    ((layer, number),) = check_heads([head], model.cfg.n_layers, model.cfg.n_heads)
    ids = _prompt_tokens(model, prompt)
    n = check_int("n", n, 1, n_real_tokens(model), "the vocabulary's size")
    ((found,),) = _run_prompt(model, ids, {layer: [number]}, n).values()
    return found


@torch.no_grad()
def heads_on_prompt(
    model: TransformerBridge, prompt: str, n: int = N_WRITTEN
) -> dict[HeadPair, HeadOnPrompt]:
    """What :func:`head_on_prompt` finds, for every head from one run of the model.

    Args:
        model: raw weights, from ``load_model``.
        prompt: any text; a BOS token is put before it where the model has one.
        n: tokens at each end.

    Raises:
        PromptError: the prompt is empty or longer than ``MAX_PROMPT`` tokens.
        ArchitectureError: the model is not supported, or it is in training mode.
    """
    admit_runs(model)
    ids = _prompt_tokens(model, prompt)
    n = check_int("n", n, 1, n_real_tokens(model), "the vocabulary's size")
    every = {layer: list(range(model.cfg.n_heads)) for layer in range(model.cfg.n_layers)}
    return {
        (layer, head): found
        for layer, of_layer in _run_prompt(model, ids, every, n).items()
        for head, found in enumerate(of_layer)
    }


def _prompt_tokens(model: TransformerBridge, prompt: str) -> list[int]:
    """A prompt's tokens, few enough to be shown, a BOS token before them where there is one."""
    if isinstance(prompt, str) and not prompt.strip():
        raise PromptError("the prompt is empty: type a sentence.")
    prompt = check_prompt(prompt)
    ids = list(model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    bos = model.tokenizer.bos_token_id
    if bos is not None and ids[:1] != [bos]:
        ids = [bos, *ids]
    if len(ids) > MAX_PROMPT:
        raise PromptError(
            f"the prompt has {len(ids)} tokens, more than the {MAX_PROMPT} that are shown: "
            "shorten it."
        )
    check_length(model, len(ids))
    return ids


def _run_prompt(
    model: TransformerBridge, ids: list[int], heads: Mapping[int, Sequence[int]], n: int
) -> dict[int, list[HeadOnPrompt]]:
    """Each layer's heads while the model reads some tokens."""
    points = ("hook_pattern", "hook_z")
    names = [f"blocks.{layer}.attn.{point}" for layer in heads for point in points]
    tokens = torch.tensor([ids], device=embedding_matrix(model).device)
    with exact_forward(model):
        _, cache = model.run_with_cache(tokens, names_filter=names, logits_to_keep=NO_LOGITS)
    texts, W_U = tuple(token_texts(model.tokenizer, ids)), token_unembeddings(model)
    found: dict[int, list[HeadOnPrompt]] = {}
    for layer, chosen in heads.items():
        pattern, z = (cache[f"blocks.{layer}.attn.{point}"][0] for point in points)
        W_O = torch.stack([ov_weights(model, layer, head)[1] for head in chosen])
        written = torch.einsum("hd,hdm->hm", z[-1, chosen].to(W_O), W_O)
        found[layer] = [
            HeadOnPrompt(
                texts, pattern[head].cpu().double().numpy(), *extreme_frames(model, logits, n)
            )
            for head, logits in zip(chosen, logits_of(written, W_U), strict=True)
        ]
    return found
