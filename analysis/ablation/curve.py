"""The causal check: remove heads while the model copies names, and see what breaks.

1. Few-shot prompts (``prompts.few_shot``) are read once, up to the positions that predict the
   answer.
2. At those positions alone, and nowhere else, the z of the removed heads is replaced: by nothing
   (*zero*), or by its mean over the task's own clean prompts (*mean*).
3. Accuracy (the answer is the likeliest continuation) and the answer's log-probability are
   measured while the given heads are removed one after another; while as many random other heads
   are, in several draws; and on control tasks while the given heads are removed. Each has a 95 %
   interval over prompts.
4. A control is *fair* when the model can do it, is about as good at it as at copying names, and
   its own best heads are hardly those removed. Of the fair ones the nearest in accuracy is chosen.

(Elhelo & Geva, MAPS, arXiv 2412.11965; MAPS uses zero ablation and random heads of the
same layers.) Heads removed earlier change what later layers do, at the same positions; heads at
other positions are as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.ablation.head_ablator import MODES, Answers, HeadAblator
from analysis.errors import ParameterError
from analysis.heads import HeadPair, all_heads, check_heads
from analysis.models.admission import admit_runs
from analysis.models.precision import MARGIN, plain_settings
from analysis.names import TokenPairs
from analysis.progress import progress_bar
from analysis.prompts.few_shot import Task, control_tasks, name_copying
from analysis.prompts.templates import MIN_NAMES
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.static.scores import score_heads
from analysis.statistics import cluster_mean_interval, cluster_share_interval
from analysis.validation import (
    check_choice,
    check_flag,
    check_int,
    check_list,
    check_seed,
    check_type,
    shown,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MAX_SHARED = 0.15
"""A fair control shares less than this with the removed heads, of its own best heads (MAPS)."""
MAX_ACCURACY_GAP = 0.2
"""A fair control's accuracy, nothing removed, is less than this from the task's (MAPS)."""
MIN_ACCURACY = 0.1
"""A fair control's accuracy, at least: removal cannot harm what the model cannot do."""
MAX_DRAWS = 10_000
RELATION_K = 10
"""k of the static score where the target is not the source (MAPS)."""


@dataclass(frozen=True)
class AblationCurve:
    """What removing heads does.

    Attributes:
        frame: float64 columns ``accuracy`` (share of the prompts), ``log_probability`` (nats, mean
            over prompts) and ``change`` (of the log-probability, from nothing removed), and the
            ends of the 95 % intervals over prompts, ``accuracy_low``, ``accuracy_high``,
            ``change_low`` and ``change_high``; indexed by ``mode``, ``task``, ``heads`` (``given``
            or ``random``), ``draw`` and ``removed``. Prompts with the same answer are one cluster.
        controls: a row for each control task, as ``choose_control`` returns it.
        heads: the heads removed, in their order; none where none is to be removed.
        task: name of the task that the heads should serve.
        n_prompts: of that task.
        model: which model ran.
        provenance: everything else that made the result, ready for JSON.
    """

    frame: pd.DataFrame = field(repr=False)
    controls: pd.DataFrame = field(repr=False)
    heads: tuple[HeadPair, ...]
    task: str
    n_prompts: int
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)

    @property
    def modes(self) -> list[str]:
        """The ablations that were measured."""
        return list(dict.fromkeys(self.frame.index.get_level_values("mode")))

    @property
    def n_draws(self) -> int:
        """Random orders in which other heads were removed."""
        random = self.frame.xs("random", level="heads")
        return int(random.index.get_level_values("draw").nunique())

    @property
    def control(self) -> str | None:
        """Name of the chosen control, None where none is fair."""
        chosen = self.controls.index[self.controls["chosen"]]
        return str(chosen[0]) if len(chosen) else None

    def given(self, mode: str, task: str | None = None) -> pd.DataFrame:
        """The curve of the given heads, by ``removed``.

        Raises:
            ParameterError: the mode or task was not measured.
        """
        task = self.task if task is None else task
        self._check_measured(mode, task)
        return self.frame.loc[(mode, task, "given", 0)]

    def random_band(self, mode: str, column: str) -> pd.DataFrame:
        """Over the random draws, by ``removed``: ``mean``, ``low`` and ``high`` (5 % and 95 %).

        Raises:
            ParameterError: the mode was not measured, or there is no such column.
        """
        self._check_measured(mode, self.task)
        check_choice("column", column, list(self.frame))
        draws = self.frame.loc[(mode, self.task, "random"), column].groupby("removed")
        return pd.DataFrame(
            {"mean": draws.mean(), "low": draws.quantile(0.05), "high": draws.quantile(0.95)}
        )

    def _check_measured(self, mode: str, task: str) -> None:
        for level, value in (("mode", mode), ("task", task)):
            known = list(dict.fromkeys(self.frame.index.get_level_values(level)))
            check_choice(level, value, known)


@plain_settings()
def ablation_curve(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str],
    heads: Sequence[HeadPair],
    *,
    removed: Sequence[int] | None = None,
    n_draws: int = 20,
    n_prompts: int | None = None,
    modes: str | Sequence[str] = MODES,
    controls: Sequence[Task] | None = None,
    layer_matched: bool = False,
    prepend_bos: bool | None = None,
    seed: int = 0,
) -> AblationCurve:
    """Remove heads one after another and measure copying, a random band and control tasks.

    Args:
        model: raw weights, from ``load_model``.
        names: as ``score_heads`` takes them.
        heads: (layer, head) in the order of their removal, such as the best-scored first; none for
            the clean run alone.
        removed: after how many removals to measure; 0 to all if None.
        n_draws: random orders of the other heads to remove instead.
        n_prompts: prompts of each task on which heads are removed, drawn once; all if None, or
            where there are fewer.
        modes: ``zero``, ``mean`` or both, in a list.
        controls: tasks to compare with; those of ``control_tasks`` if None.
        layer_matched: draw each random head from the layer of the head that it stands for (MAPS),
            or from the nearest layer that has one left; else from all layers.
        prepend_bos: whether prompts begin with the BOS token; None for what ``model.to_tokens``
            does. Controls that are given keep theirs.
        seed: of prompts and draws.

    Raises:
        NamesError: fewer than 30 names are usable, or they are pairs of another relation.
        ParameterError: a head does not exist or is given twice, more heads would be removed than
            there are, two tasks have one name, or another parameter is out of its range.
        ArchitectureError: the model's architecture is not supported, its weights were processed,
            it is in training mode, or its device has no float64.
    """
    admit_runs(model)
    heads = check_heads(heads, model.cfg.n_layers, model.cfg.n_heads, none_ok=True)
    check_flag("layer_matched", layer_matched)
    removed = _check_removed(range(len(heads) + 1) if removed is None else removed, len(heads))
    modes = [modes] if isinstance(modes, str) else check_list("modes", modes)
    if not modes or not all(isinstance(mode, str) and mode in MODES for mode in modes):
        raise ParameterError(f"modes must be some of {', '.join(MODES)}, not {shown(modes)}.")
    if controls is not None:
        controls = check_list("controls", controls, "tasks")
        for control in controls:
            check_type("a control", control, Task, "control_tasks or few_shot")
    if n_prompts is not None:
        n_prompts = check_int("n_prompts", n_prompts, MIN_NAMES)  # before anything slow
    seed = check_seed(seed)
    n_draws = check_int("n_draws", n_draws, 1, MAX_DRAWS, "of random orders")
    if controls is None:
        controls = control_tasks(model, prepend_bos=prepend_bos)
    whole = [name_copying(model, names, prepend_bos), *controls]
    known = [asked.name for asked in whole]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise ParameterError(
            f"two tasks are called {shown(twice[0])}: give each control a name of its own, other "
            f"than {shown(known[0])}."
        )
    task, *controls = (asked.draw(n_prompts, seed) for asked in whole)
    draws = _random_orders(model, heads, n_draws, seed, layer_matched)

    counts = removed[1:]
    n_runs = len(task) * (1 + n_draws) + sum(map(len, controls))
    n_runs *= len(modes) * len(counts)
    rows: dict[tuple[str, str, str, int, int], dict[str, float]] = {}
    n_near_ties = 0
    with progress_bar(n_runs, "removing heads", "prompt") as bar:
        for asked in (task, *controls):
            ablator = HeadAblator(model, asked)
            clean = ablator.measure([()], modes[0])
            n_near_ties += clean.n_near_ties
            orders = [("given", 0, list(heads))]
            if asked is task:
                orders += [("random", draw, order) for draw, order in enumerate(draws)]
            for mode in modes:
                keys = [(kind, draw, order, n) for kind, draw, order in orders for n in counts]
                cases = [order[:n] for _, _, order, n in keys]
                for kind, draw, _ in orders:
                    rows[mode, asked.name, kind, draw, 0] = _row(asked, clean, clean, 0)
                if not cases:
                    continue
                answers = ablator.measure(cases, mode, bar.update)
                n_near_ties += answers.n_near_ties
                for case, (kind, draw, _, n) in enumerate(keys):
                    rows[mode, asked.name, kind, draw, n] = _row(asked, answers, clean, case)
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(
        frame.index, names=["mode", "task", "heads", "draw", "removed"]
    )
    identity = model_identity(model)
    provenance = provenance_of(
        model,
        {
            "prompts": {asked.name: len(asked) for asked in (task, *controls)},
            "prepend_bos": bool(task.n_leading),
            "heads": [list(head) for head in heads],
            "random_heads": "layer-matched" if layer_matched else "any layer",
            "modes": list(modes),
            "removed": removed,
            "draws": n_draws,
            "forward_dtype": "float64",
            "margin": MARGIN,
            "near_ties": n_near_ties,
            "seed": seed,
        },
    )
    frame = frame.sort_index()
    clean_rows = frame.loc[(modes[0], slice(None), "given", 0, 0), "accuracy"]
    accuracy = {str(name): float(a) for name, a in clean_rows.groupby("task").first().items()}
    choice = choose_control(model, accuracy, whole[1:], task.name, heads)
    return AblationCurve(frame, choice, heads, task.name, len(task), identity, provenance)


def _row(task: Task, answers: Answers, clean: Answers, case: int) -> dict[str, float]:
    """What is said of one set of removed heads."""
    right, likely = answers.right[case], answers.log_probability[case]
    change = likely - clean.log_probability[0]
    low, high = cluster_share_interval(right, task.clusters)
    mean, change_low, change_high = map(float, cluster_mean_interval(change, task.clusters))
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "log_probability": float(likely.mean()),
        "change": mean,
        "change_low": change_low,
        "change_high": change_high,
    }


def choose_control(
    model: TransformerBridge,
    accuracy: Mapping[str, float],
    controls: Sequence[Task],
    task: str,
    heads: Sequence[HeadPair],
) -> pd.DataFrame:
    """Which controls are fair, and which of them is chosen (the module's step 4).

    Returns:
        Columns ``accuracy``, ``gap`` (from the task's accuracy), ``shared`` (share of the control's
        own best heads that are removed: as many as are removed, if that many have a static score
        above 0 for the control), ``fair`` and ``chosen``, a row for each control.
    """
    columns = ["accuracy", "gap", "shared", "fair"]
    rows = {}
    for control in controls:
        shared = _shared(model, control, heads)
        gap = abs(accuracy[control.name] - accuracy[task])
        does = accuracy[control.name] >= MIN_ACCURACY
        fair = does and gap < MAX_ACCURACY_GAP and shared < MAX_SHARED
        rows[control.name] = (accuracy[control.name], gap, shared, fair)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    fair_ones = frame[frame["fair"].astype(bool)]
    nearest = fair_ones["gap"].idxmin() if len(fair_ones) else None
    return frame.assign(chosen=[name == nearest for name in frame.index])


def _shared(model: TransformerBridge, control: Task, heads: Sequence[HeadPair]) -> float:
    """Share of the control task's own best heads, at most as many as given, that are given.

    A head that scores 0 is none of the best, however few score more; where all do, it is 0.
    """
    asked = control.tokens_asked
    scores = score_heads(model, asked, k=1 if asked.copying else RELATION_K)
    ranked = scores.to_frame()[scores.score_columns[0]].sort_values(ascending=False, kind="stable")
    best = ranked[ranked > 0].index[: len(heads)]
    return len(set(best) & set(heads)) / max(1, len(best))


def _check_removed(removed: Sequence[int], n_given: int) -> list[int]:
    given = check_list("removed", removed, "whole numbers, such as [0, 4, 8]")
    counts = sorted({0, *(check_int("a number of removed heads", n, 0, n_given) for n in given)})
    if counts == [0] and n_given:
        raise ParameterError("removed must hold a number above 0: how many heads are removed.")
    return counts


def _random_orders(
    model: TransformerBridge,
    heads: Sequence[HeadPair],
    n_draws: int,
    seed: int,
    layer_matched: bool,
) -> list[list[HeadPair]]:
    """Orders in which other heads are removed, as many as are given."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    others = [head for head in all_heads(n_layers, n_heads) if head not in heads]
    if len(others) < len(heads):
        raise ParameterError(
            f"{len(heads)} of {n_layers * n_heads} heads leave only {len(others)} to draw random "
            "ones from: give at most half of the heads."
        )
    rng = np.random.default_rng(seed)
    orders = []
    for _ in range(n_draws):
        left = [others[i] for i in rng.permutation(len(others))]
        if not layer_matched:
            orders.append(left[: len(heads)])
            continue
        order = []
        for layer, _ in heads:
            order.append(min(left, key=lambda other: abs(other[0] - layer)))
            left.remove(order[-1])
        orders.append(order)
    return orders
