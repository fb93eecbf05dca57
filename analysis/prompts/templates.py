"""Templates with a slot, filled with names and encoded so that each name is one known token.

The name in a prompt must be the very token that the static score asks about, at a position that
is known and the same for every name. So the slot follows a space, and what stands around it is
tokenised as if the name were not there. All prompts of one template then have one length, and
none is padded. What comes first is what ``model.to_tokens`` puts there (BOS on GPT-2 and Llama as
transformer_lens boots them, nothing on GPT-NeoX) unless ``prepend_bos`` says otherwise: MAPS runs
GPT-2 without BOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from analysis.errors import NamesError, ParameterError, PromptError
from analysis.names import TokenPairs, token_pairs
from analysis.tokenizers import encode, encode_all, encode_whole, token_offsets
from analysis.validation import check_flag, is_unicode, shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SLOT = "<X>"
TEMPLATES = (
    "No <X> means no",
    "The story of <X> contains",
    "This is a document about <X>",
    "When I think about <X> I think about",
)
"""The prompts of MAPS (arXiv 2412.11965)."""

MIN_NAMES = 30
"""Fewer usable names than this make no data set (MAPS)."""


@dataclass(frozen=True)
class Prompts:
    """One template filled with every name.

    Attributes:
        template: with its slot.
        tokens: int64 ``[n_names, length]``, what the tokenizer puts first included.
        position: where the name's token is, in every row.
        n_leading: tokens put first, such as BOS; 0 for none.
    """

    template: str
    tokens: Int[Tensor, "n_names length"]
    position: int
    n_leading: int = 0


def enough_names(
    model: TransformerBridge, names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]]
) -> TokenPairs:
    """The names as tokens, if there are at least ``MIN_NAMES`` to run prompts with."""
    pairs = token_pairs(model, names)
    if len(pairs) < MIN_NAMES:
        raise NamesError(
            f"at least {MIN_NAMES} names of one token each are needed to run prompts, and {pairs}; "
            "give more names."
        )
    return pairs


def leading_tokens(model: TransformerBridge, text: str, prepend_bos: bool | None) -> list[int]:
    """Tokens that a prompt begins with before its own, such as BOS.

    Args:
        model: its tokenizer encodes.
        text: of the prompt.
        prepend_bos: whether there is a BOS token; None for what ``model.to_tokens`` does.

    Raises:
        ParameterError: ``prepend_bos`` is none of these, or there is no BOS token to put first.
        PromptError: the tokenizer puts tokens after the prompt, or it is longer than the context,
            these tokens included.
    """
    if prepend_bos is not None:
        check_flag("prepend_bos", prepend_bos)
    text = check_prompt(text)
    own = encode(model.tokenizer, text)
    check_length(model, len(own))
    if prepend_bos is False:
        return []
    whole = encode_whole(model, text, prepend_bos)
    lead = whole[: len(whole) - len(own)]
    if whole != lead + own:
        raise PromptError(
            f"the tokenizer of {model.cfg.model_name} puts tokens after the prompt {text!r:.200}, "
            "so that its last token is not the prompt's; load it without them."
        )
    if prepend_bos and not lead:
        raise ParameterError(
            f"the tokenizer of {model.cfg.model_name} puts no BOS token first; leave prepend_bos "
            "out, or set it to False."
        )
    check_length(model, len(whole))
    return lead


def check_prompt(prompt: object) -> str:
    """A prompt, if it is text that a tokenizer takes."""
    if not isinstance(prompt, str) or not prompt:
        raise PromptError(f"the prompt must be text, not {shown(prompt)}.")
    if not is_unicode(prompt):
        raise PromptError(
            f"the prompt {shown(prompt)} holds half a character (a lone surrogate): correct it."
        )
    return prompt


def check_length(model: TransformerBridge, n_tokens: int) -> None:
    """Refuse a prompt that is longer than the model's context, with both numbers."""
    longest = getattr(model.cfg, "n_ctx", None)
    if isinstance(longest, int) and 0 < longest < n_tokens:
        raise PromptError(
            f"the prompt has {n_tokens:,} tokens, and {model.cfg.model_name} reads at most "
            f"{longest:,}: shorten it."
        )


def fill_template(
    model: TransformerBridge,
    template: str,
    names: TokenPairs,
    prepend_bos: bool | None = None,
) -> Prompts:
    """Put every name (the source of every pair) into the template's slot.

    Args:
        model: its tokenizer encodes, and ``model.to_tokens`` says what comes first.
        template: text with one ``<X>`` after a space.
        names: as ``token_pairs`` returns them.
        prepend_bos: as ``leading_tokens`` takes it.

    Raises:
        PromptError: the template has no slot or several, its slot does not stand alone in the
            tokens, or a name is several tokens inside it.
        ParameterError: a BOS token is asked for that the tokenizer does not have.
    """
    before, after = _split(template)
    texts = [f"{before} {name}{after}" for name in names.sources]
    encoded = encode_all(model.tokenizer, texts)
    position = len(encode(model.tokenizer, before)) if before else 0
    around: list[int] | None = None
    for name, token, ids in zip(names.sources, names.source_tokens, encoded, strict=True):
        rest = ids[:position] + ids[position + 1 :]
        if around is None and ids[position : position + 1] == [token]:
            around = rest
        if ids[position : position + 1] != [token] or rest != around:
            raise PromptError(_what_is_wrong(model, template, name))
    lead = leading_tokens(model, texts[0], prepend_bos)
    check_length(model, len(lead) + len(encoded[0]))
    return Prompts(
        template=template,
        tokens=torch.tensor([lead + ids for ids in encoded]),
        position=len(lead) + position,
        n_leading=len(lead),
    )


def _split(template: str) -> tuple[str, str]:
    """The text before the slot, without the space that belongs to the name, and after it."""
    if not isinstance(template, str) or not is_unicode(template):
        raise PromptError(f"a template must be text with the slot {SLOT}, not {shown(template)}.")
    if template.count(SLOT) != 1:
        found = "no slot" if SLOT not in template else f"{template.count(SLOT)} slots"
        raise PromptError(f"the template {shown(template)} has {found}: write {SLOT} in it once.")
    before, after = template.split(SLOT)
    if not before.endswith(" "):
        raise PromptError(
            f"the slot of {template!r:.200} must follow a space, which is part of a name's token: "
            f"write ' {SLOT}'."
        )
    return before[:-1], after


def _what_is_wrong(model: TransformerBridge, template: str, name: str) -> str:
    """Why a name does not stand in the template as its own token."""
    before, after = _split(template)
    text = f"{before} {name}{after}"
    start, end = len(before) + 1, len(before) + 1 + len(name)
    touching = [(a, b) for a, b in token_offsets(model.tokenizer, text) if a < end and b > start]
    pieces = ", ".join(repr(text[a:b]) for a, b in touching)
    # A token may hold the space before the name, and no more.
    alone = all(a >= start - 1 and b <= end for a, b in touching)
    if alone and len(touching) > 1:
        return (
            f"the name {name!r:.200} becomes {len(touching)} tokens inside {template!r:.200} "
            f"({pieces}): change what follows the slot, or leave the name out."
        )
    return (
        f"the slot of {template!r:.200} is tokenised together with its neighbour (with "
        f"{name!r:.200}: {pieces}): put a space or punctuation beside it."
    )
