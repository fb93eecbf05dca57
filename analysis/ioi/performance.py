"""Does the model do the task at all?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from analysis.ioi.activations import Activations
from analysis.prompts.indirect_object import IOIPrompts
from analysis.provenance import model_identity
from analysis.statistics import cluster_mean_interval, cluster_share_interval

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class TaskPerformance:
    """How well a model does the task, with 95 % intervals over prompts.

    The prompts of one template are one cluster in both intervals, since they share most words.
    Where all are of one template, each is on its own, and the intervals speak of it alone.

    Attributes:
        title: the model's.
        n: number of prompts.
        accuracy: share of prompts with a larger logit for IO than for S (chance is 1/2), with
            Wilson's interval for clusters.
        logit_difference: mean logit of IO less that of S, with Student's interval for clusters.
        io_is_argmax: share of prompts where IO has the largest logit of the whole vocabulary.
        n_templates: of the prompts.
    """

    title: str
    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    logit_difference: float
    logit_difference_interval: tuple[float, float]
    io_is_argmax: float
    n_templates: int = 1

    @property
    def solved(self) -> bool:
        """Whether both intervals lie above chance (1/2 and 0)."""
        return self.accuracy_interval[0] > 0.5 and self.logit_difference_interval[0] > 0

    @property
    def failed(self) -> bool:
        """Whether an interval lies at or below chance; where neither holds, it is not known."""
        return self.accuracy_interval[1] <= 0.5 or self.logit_difference_interval[1] <= 0

    def __str__(self) -> str:
        prompts = "1 prompt" if self.n == 1 else f"{self.n} prompts"
        low, high = self.accuracy_interval
        below, above = self.logit_difference_interval
        of_accuracy = f" (95 % interval {low:.1%} to {high:.1%})"
        of_difference = f" ({below:.2f} to {above:.2f})"
        if not math.isfinite(below):
            of_accuracy, of_difference = "", " (one prompt gives no interval)"
        return (
            f"{self.title} {self._does(prompts)}: of {prompts} it prefers the right name in "
            f"{self.accuracy:.1%}{of_accuracy}, by a mean logit difference of "
            f"{self.logit_difference:.2f}{of_difference}; in {self.io_is_argmax:.0%} that name is "
            "the likeliest of all tokens."
        )

    def _does(self, prompts: str) -> str:
        """What the intervals say of the model."""
        if self.solved:
            return "solves the task"
        if self.failed:
            return "does not do the task"
        if self.accuracy <= 0.5 or self.logit_difference <= 0:
            return "is not shown to do the task"
        may, least = f"may solve the task, but {prompts}", _fewest_clusters()
        if 1 < self.n_templates < least:
            return (
                f"{may} of {self.n_templates} templates are too few to tell (it takes at least "
                f"{least} templates, or one alone)"
            )
        return f"{may} {'is' if self.n == 1 else 'are'} too few to tell"


def _fewest_clusters() -> int:
    """Of how many clusters the interval for accuracy can lie above chance."""
    every = (np.arange(n) for n in count(2))
    return next(len(c) for c in every if cluster_share_interval(c >= 0, c)[0] > 0.5)


def performance_of(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations
) -> TaskPerformance:
    """How well the model does the task (Wang et al., section 2.2)."""
    difference = clean.logit_difference.numpy()
    n, right = len(difference), int((difference > 0).sum())
    mean, low, high = cluster_mean_interval(difference, prompts.clusters)
    accuracy_low, accuracy_high = cluster_share_interval(difference > 0, prompts.clusters)
    return TaskPerformance(
        title=model_identity(model).title,
        n=n,
        accuracy=right / n,
        accuracy_interval=(float(accuracy_low), float(accuracy_high)),
        logit_difference=float(mean),
        logit_difference_interval=(float(low), float(high)),
        io_is_argmax=float(clean.io_is_argmax.double().mean()),
        n_templates=prompts.frame["template"].nunique(),
    )
