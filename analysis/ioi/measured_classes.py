"""Head classes measured on any model: what interventions on the running model say of each head.

The rules, with D the model's mean logit difference and the thresholds of :class:`Thresholds`:

- **name mover**: its direct effect is at least ``effect``·D, with an interval above 0; END attends
  to IO more than to either place of S; and its copy score is at least ``copying``.
- **negative name mover**: its direct effect is at most -``effect``·D, with an interval below 0; END
  attends to IO more than to either place of S; and its negative copy score is at least ``copying``.
- **backup name mover**: none of these, but once the name movers are removed its direct effect is at
  least ``takeover``·D, having grown by at least ``takeover``·D and by half of what it was, with an
  interval above 0; and its copy score is at least ``copying``.
- **backup negative name mover**: the same with the negative copy score: it helps the right name by
  writing against the wrong one.

They put numbers on what Wang et al. (arXiv 2211.00593, sections 3.1 and 3.4, appendix A) read off
their plots. A model that does not do the task has no classes, whatever its heads' numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from analysis.errors import ParameterError
from analysis.ioi.activations import Activations, run_prompts
from analysis.ioi.attention import attention_and_output
from analysis.ioi.backups import after_removal
from analysis.ioi.copy_score import copy_scores
from analysis.ioi.direct_effects import attributions, over_prompts, path_effects
from analysis.ioi.head_classes import COLUMNS, MEASURED, HeadClass
from analysis.ioi.performance import TaskPerformance, performance_of
from analysis.prompts.indirect_object import IOIPrompts, ioi_prompts
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.validation import check_type

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw their lines.

    Attributes:
        effect: share of the mean logit difference that a (negative) name mover's direct effect
            reaches. 0.05: of the hundreds of heads of a model, each would have well below 0.01 if
            all shared the work.
        copying: (negative) copy score. 0.5 lies between what is published for GPT-2 small, over
            0.95 for the name movers (0.98 for the negative ones) and under 0.2 (0.12) for an
            average head, far from both.
        takeover: share of the mean logit difference that a backup gains. 0.02, less than
            ``effect``, since several heads share what the name movers did.
    """

    effect: float = 0.05
    copying: float = 0.5
    takeover: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ParameterError(f"the threshold {name} must be from 0 to 1, not {value!r}.")


@dataclass(frozen=True, eq=False)
class HeadMeasurements:
    """Everything measured about every head of a model.

    Attributes:
        numbers: one row for each head, indexed by ``layer`` and ``head``; the columns of
            ``direct_effects``, ``attention_and_output`` and ``copy_scores``; ``effect_share`` (of
            the mean logit difference); ``effect_after`` (direct effect without the name movers) and
            its ``growth``, with ``growth_low`` and ``growth_high``, NaN where no name mover was
            removed; and ``class``, empty for most.
        performance: of the model on the task.
        removed: the name movers that were removed, (layer, head).
        logit_difference_after: the mean without them, None if there were none.
        thresholds: of the classes.
        model: that was measured.
        prompts: that were run.
        clean: the run over them.
        provenance: what made the numbers, ready for JSON.
    """

    numbers: pd.DataFrame
    performance: TaskPerformance
    removed: tuple[tuple[int, int], ...]
    logit_difference_after: float | None
    thresholds: Thresholds
    model: ModelIdentity
    prompts: IOIPrompts = field(repr=False)
    clean: Activations = field(repr=False)
    provenance: dict[str, object] = field(repr=False)

    @property
    def classes(self) -> pd.DataFrame:
        """The heads with a class, as ``published_classes`` gives them, with all their numbers."""
        heads = self.numbers[self.numbers["class"] != ""]
        source = f"indirect-object task, {len(self.prompts)} prompts, seed {self.prompts.seed}"
        named = heads.assign(model=self.model.name, source=source, origin=MEASURED)
        return named[[*COLUMNS, *heads.columns.drop("class")]]

    def with_thresholds(self, thresholds: Thresholds) -> HeadMeasurements:
        """The same numbers with other lines drawn; the heads that were removed stay those."""
        difference = self.performance.logit_difference
        classes = classify(self.numbers, difference, thresholds)
        numbers = self.numbers.assign(**{"class": classes if self.performance.solved else ""})
        return replace(self, numbers=numbers, thresholds=thresholds)

    def heads(self, head_class: HeadClass) -> list[tuple[int, int]]:
        """The (layer, head) of one class, the largest direct effect first."""
        numbers = self.numbers[self.numbers["class"] == head_class]
        order = numbers["direct_effect"].abs().sort_values(ascending=False, kind="stable").index
        return [(int(layer), int(head)) for layer, head in order]


def measured_classes(
    model: TransformerBridge,
    prompts: IOIPrompts | None = None,
    thresholds: Thresholds = Thresholds(),
) -> pd.DataFrame:
    """The classes of a model's heads by the rules of this module.

    Args:
        model: raw weights, from ``load_model``.
        prompts: from ``ioi_prompts`` for this model; 200 of them if None.
        thresholds: of the rules.

    Returns:
        One row a head that has a class, indexed by ``layer`` and ``head``, with the columns of
        ``published_classes`` (``origin`` is ``measured``) and every number measured.

    Raises:
        ArchitectureError: the model's parts would not be read rightly.
    """
    return measure_heads(model, prompts, thresholds).classes


def measure_heads(
    model: TransformerBridge,
    prompts: IOIPrompts | None = None,
    thresholds: Thresholds = Thresholds(),
) -> HeadMeasurements:
    """Measure every head, in four runs over the prompts at most.

    Args: as :func:`measured_classes` takes them.
    """
    prompts = ioi_prompts(model) if prompts is None else prompts
    check_type("prompts", prompts, IOIPrompts, "ioi_prompts")
    check_type("thresholds", thresholds, Thresholds, "Thresholds(...)")
    clean = run_prompts(model, prompts)
    other = run_prompts(model, prompts, counterfactual=True)
    performance = performance_of(model, clean)
    before = path_effects(model, prompts, clean, other)
    numbers = over_prompts(
        direct_effect=before, attribution=attributions(model, prompts, clean)
    ).join([attention_and_output(model, prompts, clean), copy_scores(model, prompts, clean)])
    difference = performance.logit_difference
    numbers["effect_share"] = numbers["direct_effect"] / difference

    movers = name_movers(numbers, difference, thresholds) if performance.solved else []
    after = None
    if movers:
        after = after_removal(model, prompts, other, movers)
        grown = over_prompts(effect_after=after.effects, growth=after.effects - before)
        numbers = numbers.join(grown.drop(columns=["effect_after_low", "effect_after_high"]))
    else:
        numbers[["effect_after", "growth", "growth_low", "growth_high"]] = float("nan")
    classes = classify(numbers, difference, thresholds)
    numbers["class"] = classes if performance.solved else ""
    identity = model_identity(model)
    return HeadMeasurements(
        numbers=numbers,
        performance=performance,
        removed=tuple(movers),
        logit_difference_after=float(after.logit_difference.mean()) if after else None,
        thresholds=thresholds,
        model=identity,
        prompts=prompts,
        clean=clean,
        provenance=provenance_of(
            model,
            {
                "prompts": len(prompts),
                "seed": prompts.seed,
                "prompts_sha256": prompts.checksum,
                "prepend_bos": prompts.prepend_bos,
                "thresholds": asdict(thresholds),
                "removed": [list(head) for head in movers],
            },
        ),
    )


def name_movers(
    numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds
) -> list[tuple[int, int]]:
    """The heads that the rule for name movers holds for, (layer, head)."""
    movers = _moves(numbers, logit_difference, thresholds)
    return [(int(layer), int(head)) for layer, head in numbers.index[movers]]


def classify(numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds) -> pd.Series:
    """The class of every head by the rules of this module, empty where none holds.

    Args:
        numbers: as :class:`HeadMeasurements` holds them, ``class`` not needed.
        logit_difference: the model's mean, in logits.
        thresholds: of the rules; the numbers after removal stay those without the name movers that
            were removed then.
    """
    classes = pd.Series("", index=numbers.index, name="class")
    least = thresholds.takeover * logit_difference
    grown = (
        (numbers["effect_after"] >= least)
        & (numbers["growth"] >= least)
        & (numbers["growth"] >= 0.5 * numbers["direct_effect"])
        & (numbers["growth_low"] > 0)
    )
    classes[grown & (numbers["copy_score"] >= thresholds.copying)] = HeadClass.BACKUP_NAME_MOVER
    classes[grown & (numbers["negative_copy_score"] >= thresholds.copying)] = (
        HeadClass.BACKUP_NEGATIVE_NAME_MOVER
    )
    classes[_opposes(numbers, logit_difference, thresholds)] = HeadClass.NEGATIVE_NAME_MOVER
    classes[_moves(numbers, logit_difference, thresholds)] = HeadClass.NAME_MOVER
    return classes


def _moves(numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds) -> pd.Series:
    return (
        (numbers["direct_effect"] >= thresholds.effect * logit_difference)
        & (numbers["direct_effect_low"] > 0)
        & _looks_at_io(numbers)
        & (numbers["copy_score"] >= thresholds.copying)
    )


def _opposes(numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds) -> pd.Series:
    return (
        (numbers["direct_effect"] <= -thresholds.effect * logit_difference)
        & (numbers["direct_effect_high"] < 0)
        & _looks_at_io(numbers)
        & (numbers["negative_copy_score"] >= thresholds.copying)
    )


def _looks_at_io(numbers: pd.DataFrame) -> pd.Series:
    return numbers["attention_io"] > numbers[["attention_s1", "attention_s2"]].max(axis=1)
