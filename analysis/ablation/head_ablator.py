"""Removing heads where a task's answer is predicted, and measuring what is left of the task.

The z of a removed head is replaced at the positions that predict the answer, and nowhere else: by
nothing (*zero*), or by its mean over the task's own clean prompts (*mean*). So the keys and values
of everything before those positions are read once, and many sets of heads share a batch, each row
with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.heads import HeadPair
from analysis.prompts.few_shot import Task
from analysis.prompts.prefix_cache import NO_LOGITS, PrefixCache, build_prefix_cache, prefix_kwargs
from analysis.weights import embedding_matrix, output_weights

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
        self.start: PrefixCache | None = build_prefix_cache(model, tokens[:, :-n_answer])

    @cached_property
    def mean_z(self) -> dict[str, Float[Tensor, "length n_heads d_head"]]:
        """Each hook's z at the answer's positions, its mean over the clean prompts.

        Summed in float64, since sums overflow in float16 and lose digits in bfloat16.
        """
        names = [self._hook(layer) for layer in range(self.model.cfg.n_layers)]
        total: dict[str, Tensor] = {}
        for rows in torch.arange(len(self.last), device=self.last.device).split(ROWS):
            _, cache = self.model.run_with_cache(
                self.last[rows],
                names_filter=names,
                logits_to_keep=NO_LOGITS,
                **prefix_kwargs(self.start, rows),
            )
            for name in names:
                total[name] = total.get(name, 0) + cache[name].cpu().double().sum(0)
        like = output_weights(self.model, 0)
        return {name: (z / len(self.last)).to(like) for name, z in total.items()}

    @staticmethod
    def _hook(layer: int) -> str:
        return f"blocks.{layer}.attn.hook_z"

    def measure(
        self,
        cases: Sequence[Sequence[HeadPair]],
        mode: str,
        done: Callable[[int], object] | None = None,
    ) -> pd.DataFrame:
        """Accuracy and mean log-probability of the answers, for each set of removed heads.

        Args:
            cases: heads removed together.
            mode: ``zero`` or ``mean``.
            done: told how many more prompts have been through the model.

        Returns:
            Columns ``accuracy`` and ``log_probability``, a row for each case.
        """
        n_cases, n = len(cases), len(self.last)
        gone = torch.zeros(
            n_cases, self.model.cfg.n_layers, self.model.cfg.n_heads, dtype=torch.bool
        )
        for case, heads in enumerate(cases):
            for layer, head in heads:
                gone[case, layer, head] = True
        gone = gone.to(self.last.device)
        right, log_probability = [], []
        for rows in torch.arange(n_cases * n, device=self.last.device).split(ROWS):
            prompt, removed = rows % n, gone[rows // n]
            hooks: list[tuple[str | Callable[..., Any], Callable[..., Any]]] = []
            for layer in removed.any(0).any(1).nonzero()[:, 0].tolist():
                name = self._hook(layer)
                fill = self.mean_z[name] if mode == "mean" else None
                hooks.append((name, _Replace(removed[:, layer], fill)))
            logits = self.model.run_with_hooks(
                self.last[prompt], fwd_hooks=hooks, **prefix_kwargs(self.start, prompt)
            )
            answer = self.answers[prompt]
            own = logits.float().log_softmax(-1).gather(2, answer[..., None])[..., 0]
            log_probability.append(own.cpu().double().sum(1))
            right.append((logits.argmax(-1) == answer).all(1).cpu().double())
            if done is not None:
                done(len(rows))
        columns = {"accuracy": right, "log_probability": log_probability}
        return pd.DataFrame(
            {name: torch.cat(v).view(n_cases, n).mean(1) for name, v in columns.items()}
        )


@dataclass(frozen=True)
class _Replace:
    """A hook that puts something else in the place of removed heads' z."""

    removed: Bool[Tensor, "n n_heads"]
    fill: Float[Tensor, "length n_heads d_head"] | None

    def __call__(self, z: Tensor, hook: Any) -> Tensor:
        fill = z.new_zeros(()) if self.fill is None else self.fill
        return torch.where(self.removed[:, None, :, None], fill, z)
