"""Few-shot tasks: the model is shown two pairs and asked for the second half of a third.

Every prompt of a task is `` a-> b; c-> d; <source>->`` and the answer `` <target>``. Copying names
is the task that name-copying heads should serve; the others are candidates for a control, none
needing any data but the tokenizer's vocabulary:

* *words copied*: lower-case words of one token;
* *next year*: a year and the one after it. Where years are several tokens, those that both begin
  with stand in the prompt, so that only what changes is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analysis.errors import NamesError
from analysis.names import TokenPairs
from analysis.prompts.templates import MIN_NAMES, check_length, enough_names, leading_tokens
from analysis.tokenizers import encode_inside, token_texts, tokenizer_fingerprint
from analysis.validation import check_int, check_seed, shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Pair = tuple[str, str]

SHOTS: tuple[Pair, Pair] = (("John", "John"), ("Donna", "Donna"))
"""The names shown first, as in MAPS; they are not asked about."""
_WORD = re.compile(r" [a-z]{5,}")
_YEARS = range(1900, 2020)
MAX_PAIRS = 500
"""Most pairs of a task whose pairs come from the vocabulary."""


@dataclass(frozen=True)
class Task:
    """Prompts of one length, with their answers.

    Attributes:
        name: what is asked.
        pairs: (source, target) of each prompt.
        tokens: int64 ``[n, length]``, each prompt followed by all of its answer but the last token.
        answers: int64 ``[n, n_answer]``, predicted at the last ``n_answer`` positions of
            ``tokens``.
        tokens_asked: the token of each source and the one of its target that the answer turns on,
            each such pair once: what static scores can be asked about.
        n_leading: tokens put first, such as BOS; 0 for none.
    """

    name: str
    pairs: tuple[Pair, ...]
    tokens: Int[Tensor, "n length"] = field(repr=False)
    answers: Int[Tensor, "n n_answer"] = field(repr=False)
    tokens_asked: TokenPairs = field(repr=False)
    n_leading: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def clusters(self) -> Int[np.ndarray, "n"]:
        """Prompts with the same answer share a number: whether they succeed is not independent.

        Each name is an answer of its own; of years, those that end alike are together.
        """
        _, number = np.unique(self.answers.numpy(), axis=0, return_inverse=True)
        return np.asarray(number).ravel()

    def draw(self, n: int | None, seed: int) -> Task:
        """The same task with n of its prompts, drawn without replacement; all if None or too many.

        Raises:
            ParameterError: n is below 30.
        """
        n = len(self) if n is None else check_int("n_prompts", n, MIN_NAMES)
        if n >= len(self):
            return self
        kept = np.sort(np.random.default_rng(check_seed(seed)).choice(len(self), n, replace=False))
        pairs = tuple(self.pairs[i] for i in kept)
        return replace(self, pairs=pairs, tokens=self.tokens[kept], answers=self.answers[kept])


def name_copying(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str],
    prepend_bos: bool | None = None,
) -> Task:
    """The task of copying names, of which at least 30 must be usable."""
    usable = enough_names(model, names)
    if not usable.copying:
        raise NamesError(
            "names are copied in this task, and the pairs given are of another relation "
            f"({shown(usable[0])}): give names, such as their sources; few_shot makes tasks of "
            "pairs."
        )
    pairs = list(zip(usable.sources, usable.targets, strict=True))
    return few_shot(model, "names copied", pairs, SHOTS, prepend_bos)


def control_tasks(
    model: TransformerBridge, seed: int = 0, prepend_bos: bool | None = None
) -> list[Task]:
    """The candidates for a control that this tokenizer has enough pairs for.

    The seed chooses the two pairs shown and, where there are more, ``MAX_PAIRS``.
    """
    decoded = token_texts(model.tokenizer, range(model.cfg.d_vocab))
    words = sorted({text[1:] for text in decoded if _WORD.fullmatch(text)})
    candidates: dict[str, list[Pair]] = {
        "words copied": [(word, word) for word in words],
        "next year": [(str(year), str(year + 1)) for year in _YEARS],
    }
    tasks = []
    seed = check_seed(seed)
    for name, pairs in candidates.items():
        rng = np.random.default_rng(seed)
        order = [pairs[i] for i in rng.permutation(len(pairs))[: MAX_PAIRS + 2]]
        if len(order) >= MIN_NAMES + 2:
            shots = order[0], order[1]
            tasks.append(few_shot(model, name, order[2:], shots, prepend_bos))
    return tasks


def few_shot(
    model: TransformerBridge,
    name: str,
    pairs: Sequence[Pair],
    shots: tuple[Pair, Pair],
    prepend_bos: bool | None = None,
) -> Task:
    """Prompts that ask for the target of each source after two pairs that are shown.

    Prompts are never padded: of pairs with different numbers of tokens, those of the commonest
    numbers are kept. So are only pairs whose target begins a new token after the arrow. Tokens that
    a source and a different target both begin with are given in the prompt.

    Args:
        model: its tokenizer encodes.
        name: of the task.
        pairs: (source, target), words without a leading space.
        shots: the two pairs shown first; they are not asked about.
        prepend_bos: as ``leading_tokens`` takes it.

    Raises:
        NamesError: fewer than 30 pairs are usable.
    """
    examples = "".join(f" {source}-> {target};" for source, target in shots)
    asked = [pair for pair in pairs if pair not in shots]
    prompts = [f"{examples} {source}->" for source, _ in asked]
    texts = [f"{prompt} {target}" for prompt, (_, target) in zip(prompts, asked, strict=True)]
    lead = leading_tokens(model, examples, prepend_bos)
    words = [f" {source}" for source, _ in asked]
    usable = {}
    encoded = (encode_inside(model.tokenizer, of) for of in (words, prompts, texts))
    for pair, source, start, whole in zip(asked, *encoded, strict=True):
        if source is None or start is None or whole is None:
            continue
        target = whole[len(start) :]
        if whole[: len(start)] == start and target:
            given = 0 if pair[0] == pair[1] else _shared_start(source, target)
            if given < min(len(source), len(target)):
                usable[pair] = (lead + whole[:-1], target[given:], (source[given], target[given]))
    sizes = Counter((len(tokens), len(answer)) for tokens, answer, _ in usable.values())
    size = sizes.most_common(1)[0][0] if sizes else (0, 0)
    kept = [
        pair for pair, (tokens, answer, _) in usable.items() if (len(tokens), len(answer)) == size
    ]
    if len(kept) < MIN_NAMES:
        raise NamesError(
            f"the task {name!r} needs at least {MIN_NAMES} pairs whose prompts have one length, "
            f"and has {len(kept)} of {len(asked)}; give more."
        )
    check_length(model, size[0])
    return Task(
        name=name,
        pairs=tuple(kept),
        tokens=torch.tensor([usable[pair][0] for pair in kept]),
        answers=torch.tensor([usable[pair][1] for pair in kept]),
        tokens_asked=_as_token_pairs(model, sorted({usable[pair][2] for pair in kept})),
        n_leading=len(lead),
    )


def _shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return alike.index(False) if False in alike else len(alike)


def _as_token_pairs(model: TransformerBridge, asked: Sequence[tuple[int, int]]) -> TokenPairs:
    sources, targets = zip(*asked, strict=True)
    return TokenPairs(
        sources=tuple(token_texts(model.tokenizer, sources)),
        targets=tuple(token_texts(model.tokenizer, targets)),
        source_tokens=sources,
        target_tokens=targets,
        n_given=len(asked),
        dropped=pd.DataFrame(columns=["source", "target", "reason"]),
        tokenizer=tokenizer_fingerprint(model.tokenizer),
    )
