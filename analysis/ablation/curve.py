"""The causal check: remove heads while the model copies names, and see what breaks.

1. Few-shot prompts (``tasks``) are read once, up to the positions that predict the answer.
2. At those positions alone, and nowhere else, the z of the removed heads is replaced: by nothing
   (*zero*), or by its mean over the task's own clean prompts (*mean*).
3. Accuracy (the answer is the likeliest continuation) and the answer's log-probability are
   measured while the given heads go one after another; while as many random other heads go, in
   several draws; and on control tasks while the same given heads go.
4. A control is *fair* when the model can do it, is about as good at it as at copying names, and
   its own best heads are hardly those removed. Of the fair ones the nearest in accuracy is chosen.

(Elhelo & Geva, MAPS, arXiv 2412.11965, section 3.3.) Heads removed earlier change what later
layers do, at the same positions; heads that come first at other positions are as they were.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from analysis.ablation.head_ablator import MODES, HeadAblator
from analysis.errors import ParameterError
from analysis.exact.arithmetic import full_float32
from analysis.heads import HeadPair, check_heads
from analysis.models.admission import admit_runs
from analysis.names import TokenPairs
from analysis.progress import progress_bar
from analysis.prompts.few_shot import Task, control_tasks, name_copying
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.static.scores import score_heads
from analysis.validation import check_int, check_type

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MAX_SHARED = 0.15
"""A fair control's own best heads have less than so many of the removed ones among them (MAPS)."""
MAX_ACCURACY_GAP = 0.2
"""A fair control's accuracy, nothing removed, is less than so far from the task's (MAPS)."""
MIN_ACCURACY = 0.1
"""A fair control's accuracy, at least: what the model cannot do, no removal can harm."""
MAX_CLEAN = 300
"""Prompts of a task, at most, on which its accuracy is measured for the choice of a control."""
RELATION_K = 10
"""k of the static score where the target is not the source (MAPS, section 3.1)."""


@dataclass(frozen=True)
class AblationCurve:
    """What removing heads does.

    Attributes:
        frame: float64 columns ``accuracy``, ``log_probability`` (nats, mean over prompts) and
            ``change`` (of the log-probability, from nothing removed), indexed by ``mode``,
            ``task``, ``heads`` (``given`` or ``random``), ``draw`` and ``removed``.
        controls: a row for each control task, as ``choose_control`` returns it.
        heads: the heads removed, in their order.
        task: name of the task that the heads should serve.
        model: which model ran.
        provenance: everything else that made the result, ready for JSON.
    """

    frame: pd.DataFrame = field(repr=False)
    controls: pd.DataFrame = field(repr=False)
    heads: tuple[HeadPair, ...]
    task: str
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)

    @property
    def n_prompts(self) -> int:
        """Prompts of the task that the heads were removed on."""
        prompts = self.provenance["prompts"]
        assert isinstance(prompts, dict)
        return int(prompts[self.task])

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
        self._check_measured(mode, task or self.task)
        return self.frame.loc[(mode, task or self.task, "given", 0)]

    def random_band(self, mode: str, column: str) -> pd.DataFrame:
        """Over the random draws, by ``removed``: ``mean``, ``low`` and ``high`` (5 % and 95 %).

        Raises:
            ParameterError: the mode was not measured.
        """
        self._check_measured(mode, self.task)
        draws = self.frame.loc[(mode, self.task, "random"), column].groupby("removed")
        return pd.DataFrame(
            {"mean": draws.mean(), "low": draws.quantile(0.05), "high": draws.quantile(0.95)}
        )

    def _check_measured(self, mode: str, task: str) -> None:
        for level, value in (("mode", mode), ("task", task)):
            known = list(dict.fromkeys(self.frame.index.get_level_values(level)))
            if value not in known:
                raise ParameterError(f"{level} must be one of {', '.join(known)}, not {value!r}.")


@torch.no_grad()
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
    seed: int = 0,
) -> AblationCurve:
    """Remove heads one after another and measure copying, a random band and control tasks.

    Args:
        model: raw weights, from ``load_model``.
        names: as ``score_heads`` takes them.
        heads: (layer, head) in the order of their removal, such as the best-scored first.
        removed: after how many removals to measure; 0 to all if None.
        n_draws: random orders of the other heads to remove instead.
        n_prompts: prompts of each task on which heads are removed, drawn once; all if None.
        modes: ``zero``, ``mean`` or both, in a list.
        controls: tasks to hold against; those of ``control_tasks`` if None.
        seed: of prompts and draws.

    Raises:
        NamesError: fewer than 30 names are usable.
        ParameterError: a head does not exist or is given twice, more heads would be removed than
            there are, or another parameter is out of its range.
        ArchitectureError: the model's weights would not be read rightly, or it is in training mode.
    """
    admit_runs(model)
    heads = check_heads(heads, model.cfg.n_layers, model.cfg.n_heads)
    removed = _check_removed(range(len(heads) + 1) if removed is None else removed, len(heads))
    modes = (modes,) if isinstance(modes, str) else modes
    if not isinstance(modes, Sequence) or not modes or set(modes) - set(MODES):
        raise ParameterError(f"modes must be some of {', '.join(MODES)}, not {modes!r}.")
    for control in controls or []:
        check_type("a control", control, Task, "control_tasks or few_shot")
    seed = check_int("seed", seed, 0)
    n_draws = check_int("n_draws", n_draws)
    whole = [name_copying(model, names), *(control_tasks(model) if controls is None else controls)]
    task, *controls = (asked.draw(n_prompts, seed) for asked in whole)
    draws = _random_orders(model, heads, n_draws, seed)

    counts = removed[1:]
    n_runs = len(task) * (1 + n_draws) + sum(map(len, controls))
    n_runs *= len(modes) * len(counts)
    rows: dict[tuple[str, str, str, int, int], dict[str, float]] = {}
    with full_float32(), progress_bar(n_runs, "removing heads", "prompt") as bar:
        for asked in (task, *controls):
            bench = HeadAblator(model, asked)
            (clean,) = bench.measure([()], modes[0]).to_dict("records")
            orders = [("given", 0, list(heads))]
            if asked is task:
                orders += [("random", draw, order) for draw, order in enumerate(draws)]
            for mode in modes:
                cases = [order[:n] for _, _, order in orders for n in counts]
                measured = iter(bench.measure(cases, mode, bar.update).to_dict("records"))
                for kind, draw, _ in orders:
                    for n in removed:
                        row = next(measured) if n else clean
                        change = row["log_probability"] - clean["log_probability"]
                        rows[mode, asked.name, kind, draw, n] = row | {"change": change}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(
        frame.index, names=["mode", "task", "heads", "draw", "removed"]
    )
    identity = model_identity(model)
    provenance = provenance_of(
        model,
        {
            "prompts": {asked.name: len(asked) for asked in (task, *controls)},
            "heads": [list(head) for head in heads],
            "modes": list(modes),
            "removed": removed,
            "draws": n_draws,
            "seed": seed,
        },
    )
    frame = frame.sort_index()
    accuracy = {}
    # Of more prompts than heads are removed on: the choice, if any, is to be no accident.
    for asked in whole if controls else []:
        bench = HeadAblator(model, asked.draw(MAX_CLEAN, seed))
        accuracy[asked.name] = float(bench.measure([()], modes[0])["accuracy"][0])
    choice = choose_control(model, accuracy, whole[1:], task.name, heads)
    return AblationCurve(frame, choice, heads, task.name, identity, provenance)


def choose_control(
    model: TransformerBridge,
    accuracy: Mapping[str, float],
    controls: Sequence[Task],
    task: str,
    heads: Sequence[HeadPair],
) -> pd.DataFrame:
    """Which controls are fair, and which of them is chosen (the module's step 4).

    Args:
        model: the model whose heads are removed.
        accuracy: of each task by name, nothing removed.
        controls: the candidates.
        task: name of the task that they are held against.
        heads: those removed.

    Returns:
        Columns ``accuracy``, ``gap`` (from the task's accuracy), ``shared`` (of the removed heads,
        with as many that the static score finds best for the control), ``fair`` and ``chosen``, a
        row for each control.
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
    """Share of the heads that are also among as many best-scored ones of the control task."""
    asked = control.tokens_asked
    scores = score_heads(model, asked, k=1 if asked.copying else RELATION_K)
    best = scores.to_frame()[scores.score_columns[0]].sort_values(ascending=False, kind="stable")
    return len(set(best.index[: len(heads)]) & set(heads)) / len(heads)


def _check_removed(removed: Sequence[int], n_given: int) -> list[int]:
    try:
        counts = sorted({0, *map(operator.index, removed)})
    except TypeError:
        raise ParameterError(
            f"removed must be a list of whole numbers, such as [0, 4, 8], not {removed!r}."
        ) from None
    if counts == [0]:
        raise ParameterError("removed must hold a number above 0: how many heads are removed.")
    if counts[0] < 0 or counts[-1] > n_given:
        raise ParameterError(
            f"between 0 and {n_given} of the given heads can be removed, not "
            f"{counts[0] if counts[0] < 0 else counts[-1]}."
        )
    return counts


def _random_orders(
    model: TransformerBridge, heads: Sequence[HeadPair], n_draws: int, seed: int
) -> list[list[HeadPair]]:
    """Orders in which other heads go, as many as are given."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    others = [(la, h) for la in range(n_layers) for h in range(n_heads) if (la, h) not in heads]
    if len(others) < len(heads):
        raise ParameterError(
            f"{len(heads)} of {n_layers * n_heads} heads leave only {len(others)} to draw random "
            "ones from: give at most half of the heads."
        )
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(others))[: len(heads)] for _ in range(n_draws)]
    return [[others[i] for i in order] for order in orders]
