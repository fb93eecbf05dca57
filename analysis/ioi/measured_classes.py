"""Head classes measured on any model: what interventions on the running model say of each head.

The rules, with D the model's mean logit difference and the thresholds of :class:`Thresholds`:

- **name mover**: its direct effect is at least ``min_direct_effect``·D, with an interval above 0;
  END attends to IO more than to either place of S; its copy score is at least ``min_copy_score``.
- **negative name mover**: the same attention, with a direct effect of at most
  -``min_direct_effect``·D, an interval below 0, and a negative copy score of at least
  ``min_copy_score``.
- **subject suppressor**: a direct effect like a name mover's, but END attends to a place of S more
  than to IO, and the negative copy score is at least ``min_copy_score``: the head raises the logit
  difference by lowering the logit of S.
- **backup name mover**: once the name movers are ablated, its direct effect is at least
  ``min_backup_gain``·D, having grown by at least ``min_backup_gain``·D and by half of what it was,
  with an interval above 0; its copy score is at least ``min_copy_score``.
- **backup negative name mover**: the same with the negative copy score: it helps the right name by
  writing against the wrong one.

The first three exclude each other. The backup classes come on top, since a head may do a part of
the work and take over more: of the published backups of GPT-2 small, 10.10 and 10.6 have 13.5 % and
8.1 % of D before anything is ablated. So for a name mover "the name movers are ablated" means all
the others.

They put numbers on what Wang et al. (arXiv 2211.00593, sections 3.1 and 3.4, appendix A) read off
their plots. A model that does not do the task has no classes, whatever its heads' numbers.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.heads import HeadPair, all_heads, head_pairs
from analysis.ioi.activations import Activations, run_prompts
from analysis.ioi.attention import attention_and_output
from analysis.ioi.attribution import direct_logit_attribution
from analysis.ioi.backups import effects_after_ablation
from analysis.ioi.copy_score import copy_scores
from analysis.ioi.direct_effects import every_head, over_prompts, path_effects
from analysis.ioi.head_classes import CHECKSUM, COLUMNS, MEASURED, HeadClass
from analysis.ioi.performance import TaskPerformance, performance_of
from analysis.models.precision import MARGIN
from analysis.prompts.indirect_object import IOIPrompts, ioi_prompts
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.validation import check_choice, check_flag, check_number, check_type
from analysis.weights import value_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CLASS_COLUMNS = ("class", "backup_class")
"""What a head does in the whole model, and what it does once the name movers are ablated."""


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw their lines.

    Attributes:
        min_direct_effect: share of the mean logit difference that a mover's (suppressor's) direct
            effect reaches. 0.05: of the hundreds of heads of a model, each would have well below
            0.01 if all shared the work.
        min_copy_score: (negative) copy score. 0.5 lies between what is published for GPT-2 small,
            over 0.95 for the name movers (0.98 for the negative ones) and under 0.2 (0.12) for an
            average head, far from both.
        min_backup_gain: share of the mean logit difference that a backup gains. 0.02, less than
            ``min_direct_effect``, since several heads share what the name movers did.
    """

    min_direct_effect: float = 0.05
    min_copy_score: float = 0.5
    min_backup_gain: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).copy().items():
            object.__setattr__(self, name, check_number(f"the threshold {name}", value, 0, 1))


@dataclass(frozen=True, eq=False)
class HeadMeasurements:
    """Everything measured about every head of a model.

    Attributes:
        numbers: one row for each head, indexed by ``layer`` and ``head``; the columns of
            ``attention_and_output`` and ``copy_scores``; ``direct_effect`` and
            ``direct_logit_attribution`` with the ends of their intervals; ``effect_share`` (of the
            mean logit difference); ``effect_after`` (direct effect without the name movers, of
            a name mover without the others) and its ``growth``, with ``growth_low`` and
            ``growth_high``, NaN where no other name mover was ablated or all are in later layers;
            and ``class`` and ``backup_class``, empty for most.
        performance: of the model on the task.
        ablated: the name movers, (layer, head).
        logit_difference_after: the mean without them, None if there were none.
        thresholds: of the classes.
        freeze_mlps: whether later MLPs were frozen in path patching.
        heads_per_group: heads that share one W_V.
        model: that was measured.
        prompts: that were run.
        clean: the run over them.
        provenance: what made the numbers, ready for JSON.
    """

    numbers: pd.DataFrame
    performance: TaskPerformance
    ablated: tuple[HeadPair, ...]
    logit_difference_after: float | None
    thresholds: Thresholds
    freeze_mlps: bool
    heads_per_group: int
    model: ModelIdentity
    prompts: IOIPrompts = field(repr=False)
    clean: Activations = field(repr=False)
    provenance: dict[str, object] = field(repr=False)

    @property
    def classes(self) -> pd.DataFrame:
        """The heads with a class, as ``published_classes`` gives them, with all their numbers.

        A head that is a mover and a backup has two rows.
        """
        source = f"indirect-object task, {len(self.prompts)} prompts, seed {self.prompts.seed}"
        numbers = self.numbers.drop(columns=list(CLASS_COLUMNS))
        parts = []
        for column in CLASS_COLUMNS:
            named = self.numbers[column][self.numbers[column] != ""]
            rows = numbers.loc[named.index]
            parts.append(
                rows.assign(**{"class": named.to_list()}, model=self.model.name, source=source)
            )
        together = pd.concat(parts).assign(origin=MEASURED).sort_index(kind="stable")
        together[CHECKSUM] = self.model.checksum or ""
        return together[[*COLUMNS, *numbers.columns, CHECKSUM]]

    def with_thresholds(self, thresholds: Thresholds) -> HeadMeasurements:
        """The same numbers with other lines drawn; the heads that were ablated stay those.

        Raises:
            ParameterError: these are no thresholds.
        """
        check_type("thresholds", thresholds, Thresholds, "Thresholds(...)")
        return replace(
            self,
            numbers=_with_classes(self.numbers, self.performance, thresholds),
            thresholds=thresholds,
        )

    def heads(self, head_class: HeadClass) -> list[HeadPair]:
        """The (layer, head) of one class, the largest direct effect first.

        Raises:
            ParameterError: there is no such class.
        """
        check_choice("head_class", head_class, list(HeadClass))
        numbers = self.numbers[(self.numbers[list(CLASS_COLUMNS)] == head_class).any(axis=1)]
        order = numbers["direct_effect"].abs().sort_values(ascending=False, kind="stable").index
        return head_pairs(order)


def measured_classes(
    model: TransformerBridge,
    prompts: IOIPrompts | None = None,
    thresholds: Thresholds = Thresholds(),
    *,
    freeze_mlps: bool = False,
) -> pd.DataFrame:
    """The classes of a model's heads by the rules of this module.

    Args:
        model: raw weights, from ``load_model``.
        prompts: from ``ioi_prompts`` for this model; 200 of them if None.
        thresholds: of the rules.
        freeze_mlps: freeze later MLPs in path patching, which Wang et al. compute again
            (``analysis.ioi.direct_effects``).

    Returns:
        A row for each class of a head, indexed by ``layer`` and ``head``, with the columns of
        ``published_classes`` (``origin`` is ``measured``), every number measured, and the weights'
        ``checksum``. No rows, with a warning, where it is not shown that the model does the task.

    Raises:
        ArchitectureError: the model's architecture is not supported.
        ParameterError: these are no prompts of this model or no thresholds, or ``freeze_mlps`` is
            no bool.
    """
    measured = measure_heads(model, prompts, thresholds, freeze_mlps=freeze_mlps)
    if not measured.performance.solved:
        warnings.warn(f"{measured.performance} So no head is given a class.", stacklevel=2)
    return measured.classes


def measure_heads(
    model: TransformerBridge,
    prompts: IOIPrompts | None = None,
    thresholds: Thresholds = Thresholds(),
    *,
    freeze_mlps: bool = False,
) -> HeadMeasurements:
    """Measure every head: its numbers, and its classes by the rules of this module.

    Args: as :func:`measured_classes` takes them.

    Raises: as :func:`measured_classes` raises it.
    """
    prompts = ioi_prompts(model) if prompts is None else prompts
    check_type("prompts", prompts, IOIPrompts, "ioi_prompts")
    check_type("thresholds", thresholds, Thresholds, "Thresholds(...)")
    check_flag("freeze_mlps", freeze_mlps)
    clean = run_prompts(model, prompts)
    other = run_prompts(model, prompts, counterfactual=True)
    performance = performance_of(model, prompts, clean)
    before = path_effects(model, prompts, clean, other, freeze_mlps=freeze_mlps)
    numbers = over_prompts(
        prompts,
        direct_effect=every_head(model, before),
        direct_logit_attribution=direct_logit_attribution(model, prompts, clean),
    ).join([attention_and_output(model, prompts, clean), copy_scores(model, prompts, clean)])
    difference = performance.logit_difference
    numbers["effect_share"] = numbers["direct_effect"] / difference

    movers = name_movers(numbers, difference, thresholds) if performance.solved else []
    after, difference_after = torch.full_like(before, torch.nan), None
    if movers:
        after, difference_after = _without(model, prompts, other, movers, freeze_mlps)
    grown = over_prompts(
        prompts, effect_after=every_head(model, after), growth=every_head(model, after - before)
    )
    numbers = numbers.join(grown.drop(columns=["effect_after_low", "effect_after_high"]))
    identity = model_identity(model)
    return HeadMeasurements(
        numbers=_with_classes(numbers, performance, thresholds),
        performance=performance,
        ablated=tuple(movers),
        logit_difference_after=difference_after,
        thresholds=thresholds,
        freeze_mlps=freeze_mlps,
        heads_per_group=model.cfg.n_heads // len(value_weights(model, 0)),
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
                "later_mlps": "frozen" if freeze_mlps else "computed again",
                "ablated": [list(head) for head in movers],
                "forward_dtype": "float64",
                "margin": MARGIN,
                "near_ties": int(clean.is_near_tie.sum()),
            },
        ),
    )


def _without(
    model: TransformerBridge,
    prompts: IOIPrompts,
    counterfactual: Activations,
    movers: list[HeadPair],
    freeze_mlps: bool,
) -> tuple[Float[Tensor, "n n_all_heads"], float]:
    """Direct effects without the name movers, of each name mover without the others.

    NaN where no other name mover was ablated, or all are in later layers. Heads of the first
    ablated layer write what they wrote too, but the published backups 9.0 and 9.7 of GPT-2 stand
    there: what later layers make of it changes. Also the mean logit difference without all movers.
    """
    every = all_heads(model.cfg.n_layers, model.cfg.n_heads)
    first = min(movers)[0]
    later = [head for head in every if head[0] >= first and head not in movers]
    cases, asked = [movers], [later]
    for mover in movers:
        others = [other for other in movers if other != mover]
        if others and min(others)[0] <= mover[0]:
            cases.append(others)
            asked.append([mover])
    found = effects_after_ablation(
        model, prompts, counterfactual, cases, heads=asked, freeze_mlps=freeze_mlps
    )
    effects = torch.full((len(prompts), len(every)), torch.nan, dtype=torch.float64)
    for heads, case in zip(asked, found, strict=True):
        effects[:, [every.index(head) for head in heads]] = case.effects
    return effects, float(found[0].logit_difference.mean())


def name_movers(
    numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds
) -> list[HeadPair]:
    """The heads that the rule for name movers holds for, (layer, head)."""
    return head_pairs(numbers.index[_moves(numbers, logit_difference, thresholds)])


def _with_classes(
    numbers: pd.DataFrame, performance: TaskPerformance, thresholds: Thresholds
) -> pd.DataFrame:
    """The numbers with their classes, which are all empty where the task is not solved."""
    classes = classify(numbers, performance.logit_difference, thresholds)
    return numbers.assign(
        **{name: classes[name] if performance.solved else "" for name in CLASS_COLUMNS}
    )


def classify(
    numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds
) -> pd.DataFrame:
    """The classes of every head by the rules of this module, empty where none holds.

    Args:
        numbers: as :class:`HeadMeasurements` holds them, without the classes.
        logit_difference: the model's mean, in logits.
        thresholds: of the rules; the numbers after ablation stay those without the name movers
            that were ablated then.

    Returns:
        String columns ``class`` (name mover, negative name mover, subject suppressor) and
        ``backup_class`` (backup name mover, backup negative name mover).
    """
    classes = pd.DataFrame("", index=numbers.index, columns=list(CLASS_COLUMNS))
    copies = numbers["copy_score"] >= thresholds.min_copy_score
    suppresses = numbers["negative_copy_score"] >= thresholds.min_copy_score
    least = thresholds.min_direct_effect * logit_difference
    helps = (numbers["direct_effect"] >= least) & (numbers["direct_effect_low"] > 0)
    to_subject = numbers[["attention_s1", "attention_s2"]].max(axis=1) > numbers["attention_io"]
    classes.loc[helps & to_subject & suppresses, "class"] = HeadClass.SUBJECT_SUPPRESSOR
    opposes = (numbers["direct_effect"] <= -least) & (numbers["direct_effect_high"] < 0)
    classes.loc[opposes & _looks_at_io(numbers) & suppresses, "class"] = (
        HeadClass.NEGATIVE_NAME_MOVER
    )
    classes.loc[_moves(numbers, logit_difference, thresholds), "class"] = HeadClass.NAME_MOVER

    gain = thresholds.min_backup_gain * logit_difference
    grown = (
        (numbers["effect_after"] >= gain)
        & (numbers["growth"] >= gain)
        & (numbers["growth"] >= 0.5 * numbers["direct_effect"])
        & (numbers["growth_low"] > 0)
    )
    classes.loc[grown & suppresses, "backup_class"] = HeadClass.BACKUP_NEGATIVE_NAME_MOVER
    classes.loc[grown & copies, "backup_class"] = HeadClass.BACKUP_NAME_MOVER
    return classes


def _moves(numbers: pd.DataFrame, logit_difference: float, thresholds: Thresholds) -> pd.Series:
    return (
        (numbers["direct_effect"] >= thresholds.min_direct_effect * logit_difference)
        & (numbers["direct_effect_low"] > 0)
        & _looks_at_io(numbers)
        & (numbers["copy_score"] >= thresholds.min_copy_score)
    )


def _looks_at_io(numbers: pd.DataFrame) -> pd.Series:
    return numbers["attention_io"] > numbers[["attention_s1", "attention_s2"]].max(axis=1)
