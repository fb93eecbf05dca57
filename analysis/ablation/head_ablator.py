"""Removing heads where a task's answer is predicted, and measuring what is left of the task.

The z of a removed head is replaced at the positions that predict the answer, and nowhere else: by
nothing (*zero*), or by its mean over the task's own clean prompts (*mean*). So the keys and values
of everything before those positions are read once, and many sets of heads share a batch, each row
with its own. The model runs in float64 throughout (``models.precision``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.heads import HeadPair
from analysis.models.precision import exact_forward, is_largest
from analysis.prompts.few_shot import Task
from analysis.prompts.prefix_cache import NO_LOGITS, PrefixCache, build_prefix_cache, prefix_kwargs
from analysis.weights import embedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MODES = ("zero", "mean")
ROWS = 256
"""Prompts, each with its own heads removed, that go through the model at once."""


class HeadAblator:
    """One task made ready for removing heads: everything that removal leaves as it is, kept."""

    def __init__(self, model: TransformerBridge, task: Task) -> None:
        self.model = model
        device = embedding_matrix(model).device
        n_answer = task.answers.shape[1]
        tokens = task.tokens.to(device)
        self.last, self.answers = tokens[:, -n_answer:], task.answers.to(device)
        with exact_forward(model):
            self.prefix: PrefixCache | None = build_prefix_cache(
                model, tokens[:, :-n_answer], following=tokens[:, -n_answer:]
            )

    @cached_property
    def mean_z(self) -> dict[str, Float[Tensor, "length n_heads d_head"]]:
        """Each hook's z at the answer's positions, its mean over the clean prompts, float64."""
        names = [self._hook(layer) for layer in range(self.model.cfg.n_layers)]
        total: dict[str, Tensor] = {}
        for rows in torch.arange(len(self.last), device=self.last.device).split(ROWS):
            with exact_forward(self.model):
                _, cache = self.model.run_with_cache(
                    self.last[rows],
                    names_filter=names,
                    logits_to_keep=NO_LOGITS,
                    **prefix_kwargs(self.prefix, rows),
                )
            for name in names:
                total[name] = total.get(name, 0) + cache[name].double().sum(0)
        return {name: z / len(self.last) for name, z in total.items()}

    @staticmethod
    def _hook(layer: int) -> str:
        return f"blocks.{layer}.attn.hook_z"

    def measure(
        self,
        cases: Sequence[Sequence[HeadPair]],
        mode: str,
        done: Callable[[int], object] | None = None,
    ) -> Answers:
        """Whether each prompt is answered, and how likely its answer is, for each set of heads.

        The heads are set to zero or to their mean; ``done`` is told of how many more prompts.
        """
        n_cases, n = len(cases), len(self.last)
        gone = torch.zeros(
            n_cases, self.model.cfg.n_layers, self.model.cfg.n_heads, dtype=torch.bool
        )
        for case, heads in enumerate(cases):
            for layer, head in heads:
                gone[case, layer, head] = True
        gone = gone.to(self.last.device)
        right, log_probability, n_near_ties = [], [], 0
        with exact_forward(self.model):
            for rows in torch.arange(n_cases * n, device=self.last.device).split(ROWS):
                prompt, removed = rows % n, gone[rows // n]
                hooks: list[tuple[str | Callable[..., Any], Callable[..., Any]]] = []
                for layer in removed.any(0).any(1).nonzero()[:, 0].tolist():
                    name = self._hook(layer)
                    fill = self.mean_z[name] if mode == "mean" else None
                    hooks.append((name, _Replace(removed[:, layer], fill)))
                logits = self.model.run_with_hooks(
                    self.last[prompt], fwd_hooks=hooks, **prefix_kwargs(self.prefix, prompt)
                )
                answer = self.answers[prompt]
                own = logits.gather(2, answer[..., None])[..., 0]
                first, near = is_largest(own, logits)
                n_near_ties += int(near.sum())
                log_probability.append((own - logits.logsumexp(2)).sum(1).cpu())
                right.append(first.all(1).cpu())
                if done is not None:
                    done(len(rows))
        return Answers(
            right=torch.cat(right).view(n_cases, n).numpy(),
            log_probability=torch.cat(log_probability).view(n_cases, n).numpy(),
            n_near_ties=n_near_ties,
        )


@dataclass(frozen=True)
class Answers:
    """What is measured on every prompt, for some sets of removed heads.

    Attributes:
        right: whether each token of the answer has the largest logit (``precision.is_largest``).
        log_probability: of the whole answer, float64, nats.
        n_near_ties: tokens of answers that have it with another token too near to tell apart.
    """

    right: Bool[np.ndarray, "n_cases n"]
    log_probability: Float[np.ndarray, "n_cases n"]
    n_near_ties: int = 0


@dataclass(frozen=True)
class _Replace:
    """A hook that puts something else in the place of removed heads' z."""

    removed: Bool[Tensor, "n n_heads"]
    fill: Float[Tensor, "length n_heads d_head"] | None

    def __call__(self, z: Tensor, hook: Any) -> Tensor:
        fill = z.new_zeros(()) if self.fill is None else self.fill
        return torch.where(self.removed[:, None, :, None], fill, z)
