"""A small GPT-2 that is trained here, so that heads that copy and suppress can be seen to come up.

1. The text is made of sentences in which names come back: the indirect-object templates of this
   project, few-shot lists of names, and the templates of MAPS with the name again at the end.
2. Every name, and every other word, is one token.
3. A model of GPT-2's architecture learns to predict the next token. Training is chaotic: a
   difference in the last digit of float64 is one in the first digit after 300 steps. So the first
   weights are drawn by numpy, as torch draws other ones on other processors; the model runs in
   float64; and after each step its weights are rounded to a coarse grid, on which processors that
   round differently meet again. They end with the same weights, to the last bit.
4. A dozen checkpoints are saved as ordinary checkpoints, which ``load_model`` takes as folders.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from analysis.errors import ModelError, ParameterError
from analysis.models.packaged import cache_folder
from analysis.names import NAMES_CSV
from analysis.progress import progress_bar
from analysis.prompts import indirect_object, templates
from analysis.validation import check_int, check_list, check_number, check_seed, shown

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
"""The one special token: it begins every sentence and fills up the short ones."""

STEPS = (0, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000)
"""Steps after which a checkpoint is saved."""

GRID = 2.0**-18
"""Weights are multiples of it: far coarser than float64's rounding, far finer than a step of Adam.
Up to 64 float32 holds such weights exactly."""

LENGTH = 26
"""Tokens of a training sequence, END at its beginning included."""


@dataclass(frozen=True)
class TrainingRun:
    """Everything that decides the trained weights.

    Attributes:
        n_layers: layers.
        n_heads: heads in each layer.
        d_model: width of the residual stream.
        n_names: the most frequent names of ``data/names.csv`` that the text uses.
        batch: sequences in a step.
        learning_rate: highest rate of Adam, reached after 50 steps, falling to a tenth at the end.
        steps: after which a checkpoint is saved, ascending; training ends with the last.
        seed: of the initial weights and the text.

    Raises:
        ParameterError: a size is not a whole number in its range, the heads do not divide the
            width, or the steps do not ascend from 0 or more.
    """

    n_layers: int = 2
    n_heads: int = 4
    d_model: int = 64
    n_names: int = 40
    batch: int = 64
    learning_rate: float = 6e-3
    steps: tuple[int, ...] = STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"n_layers": 1, "n_heads": 1, "d_model": 1, "n_names": 6, "batch": 1}
        checked: dict[str, object] = {
            name: check_int(name, getattr(self, name), n) for name, n in least.items()
        }
        checked["learning_rate"] = check_number("learning_rate", self.learning_rate, 0)
        checked["seed"] = check_seed(self.seed)
        steps = tuple(check_int("a step", n, 0) for n in check_list("steps", self.steps, "steps"))
        checked["steps"] = steps
        if not steps or list(steps) != sorted(set(steps)):
            raise ParameterError(
                f"steps must be one or more that ascend, such as (0, 100), not {shown(steps)}."
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.d_model % self.n_heads:
            raise ParameterError(
                f"n_heads must divide d_model, and {self.n_heads} does not divide {self.d_model}."
            )


def names_of_the_text(n: int) -> list[str]:
    """The n most frequent names that are no other word of the text."""
    words = set(_words())
    lines = NAMES_CSV.read_text(encoding="utf-8").splitlines()[1:]
    names = [line.partition(",")[0] for line in lines]
    return [name for name in names if name not in words][:n]


def make_tokenizer(names: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer in which every word of the text is one token, the names first.

    A word is known with a space before it and, where a sentence may begin with it, without.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [f" {word}" for word in (*names, *_words())]
    pieces += [*sorted({template.split()[0] for template in _sentences()}), "->"]
    spelled = [byte_level.pre_tokenize_str(piece)[0][0] for piece in pieces]
    vocabulary = dict.fromkeys([END, *alphabet, *spelled])
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(vocabulary)}, merges=[], ignore_merges=True
        )
    )
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def _sentences() -> tuple[str, ...]:
    return (*indirect_object.TEMPLATES, *templates.TEMPLATES)


def _words() -> list[str]:
    """Every word of the text but the names, in a fixed order."""
    text = " ".join([*_sentences(), *indirect_object.PLACES, *indirect_object.OBJECTS])
    text = re.sub(r"\{\w+\}|<X>", " ", text)
    return sorted(set(re.findall(r"[A-Za-z]+", text)))


class NameText:
    """Sentences in which names come back, as batches of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, names: Sequence[str], seed: int) -> None:
        self._tokenizer = tokenizer
        self._names = list(names)
        self._random = np.random.default_rng(seed)

    def batch(self, n: int) -> Int[Tensor, "n length"]:
        """``n`` sequences of ``LENGTH`` tokens, filled up with END."""
        ids = self._tokenizer([self._sentence() for _ in range(n)])["input_ids"]
        filled = torch.zeros(n, LENGTH, dtype=torch.int64)
        for row, sentence in enumerate(ids):
            sentence = sentence[: LENGTH - 1]
            filled[row, 1 : len(sentence) + 1] = torch.tensor(sentence)
        return filled

    def _sentence(self) -> str:
        kind = self._random.random()
        people = [self._names[i] for i in self._random.permutation(len(self._names))[:6]]
        if kind < 0.5:
            return self._indirect_object(people)
        if kind < 0.75:
            return "".join(f" {name}-> {name};" for name in people)
        template = templates.TEMPLATES[self._random.integers(len(templates.TEMPLATES))]
        return template.replace(templates.SLOT, people[0]) + f" {people[0]}."

    def _indirect_object(self, people: Sequence[str]) -> str:
        pool = indirect_object.TEMPLATES
        io, s = people[:2]
        first, second = (io, s) if self._random.random() < 0.5 else (s, io)
        text = pool[self._random.integers(len(pool))].format(
            A=first,
            B=second,
            S=s,
            place=self._random.choice(indirect_object.PLACES),
            object=self._random.choice(indirect_object.OBJECTS),
        )
        return f"{text} {io}."


def trained_checkpoints() -> list[str]:
    """The checkpoints of the default run, from the cache, trained if they are not there yet."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return [str(path) for path in train(cache_folder() / f"small-gpt2-{code}")]


def train(folder: str | Path, run: TrainingRun | None = None) -> list[Path]:
    """Train the model and save its checkpoints, whole or not at all.

    Args:
        folder: for the checkpoints, ``small-gpt2-step-0000`` and so on; what is there already from
            the same run is kept, and nothing is trained.
        run: sizes, text and steps; the default takes two minutes on two cores.

    Returns:
        The folders of the checkpoints, in the order of their steps.

    Raises:
        ModelError: ``folder`` cannot be written, or holds checkpoints of another run.
    """
    run = run or TrainingRun()
    folder = Path(folder).expanduser()
    record = folder / "run.txt"
    folders = [folder / f"small-gpt2-step-{step:04d}" for step in run.steps]
    if record.is_file():
        if record.read_text(encoding="utf-8") == repr(asdict(run)):
            return folders
        raise ModelError(f"{folder} holds checkpoints of another training run: give an empty one.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            made = staging / folder.name  # mkdtemp's own folder is for its user alone
            made.mkdir()
            _train(run, made)
            (made / record.name).write_text(repr(asdict(run)), encoding="utf-8")
            made.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written ({error.strerror or error}).") from error
    return folders


def _train(run: TrainingRun, folder: Path) -> None:
    names = names_of_the_text(run.n_names)
    tokenizer = make_tokenizer(names)
    text = NameText(tokenizer, names, run.seed)
    model = _new_model(run, tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.learning_rate, betas=(0.9, 0.98))
    last = run.steps[-1]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 50, 1 - 0.9 * step / max(last, 1))
    )
    with progress_bar(last, "training a small GPT-2", "step") as bar:
        for step in range(last + 1):
            if step in run.steps:
                _save(model, tokenizer, folder / f"small-gpt2-step-{step:04d}")
            if step == last:
                break
            loss = _loss(model, text.batch(run.batch))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            _round(model)
            bar.update()
            bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)


def _new_model(run: TrainingRun, tokenizer: Any) -> GPT2LMHeadModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=run.n_layers,
        n_head=run.n_heads,
        n_embd=run.d_model,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        model = GPT2LMHeadModel(config).double().train()
    for block in model.transformer.h:
        block.mlp.act = torch.nn.GELU(approximate="tanh")  # GPT-2's, in one operation
    random = np.random.default_rng(run.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:  # as GPT-2 begins; biases are 0 and gains 1
                into_stream = name.endswith("c_proj.weight")
                std = 0.02 / (math.sqrt(2 * run.n_layers) if into_stream else 1)
                parameter.copy_(torch.from_numpy(random.normal(0, std, tuple(parameter.shape))))
    _round(model)
    return model


@torch.no_grad()
def _round(model: GPT2LMHeadModel) -> None:
    """Weights to the grid, -0 to 0: which of the two it is, is rounding too."""
    for parameter in model.parameters():
        parameter.div_(GRID).round_().mul_(GRID).add_(0.0)


def _loss(model: GPT2LMHeadModel, tokens: Int[Tensor, "n length"]) -> Tensor:
    """Mean cross-entropy of the tokens that are said; END after a sentence is not.

    Sentences of like length are read together, so that little of what fills them up is.
    """
    lengths = (tokens[:, 1:] != 0).sum(1)
    total = torch.zeros((), dtype=torch.float64)
    for rows in lengths.argsort(stable=True).chunk(4):
        longest = int(lengths[rows].max())
        read, wanted = tokens[rows, :longest], tokens[rows, 1 : longest + 1]
        said = wanted != 0
        run = model.transformer(read, attention_mask=torch.ones_like(read), use_cache=False)
        logits = model.lm_head(run.last_hidden_state[said])
        total = total + torch.nn.functional.cross_entropy(logits, wanted[said], reduction="sum")
    return total / lengths.sum()


def _save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    import copy

    from transformers.utils import logging

    logging.disable_progress_bar()
    copy.deepcopy(model).float().eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
