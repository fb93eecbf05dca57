"""Does the method find in GPT-2 what is published of it?

``python -m analysis.cli.check_gpt2``, which ``make check-gpt2`` calls, sets what is published of
single heads of GPT-2 small beside ours, head by head, each with a tolerance and its reason: head
classes of the indirect-object task, mean ranks of copy suppression, direct logit attribution, and
eigenvalue copying scores; with ``--xl`` also GPT-2 XL's static copiers of names. Exit status, of
several misses the first:

- 0: everything is within tolerance;
- 3: GPT-2 is neither in the local cache nor on a hub in reach;
- 4: a published name mover or negative name mover is missed;
- 5: GPT-2 is there but cannot be read or measured;
- 6: heads are measured as (negative) name movers that are not published as such;
- 7: a mean rank is off;
- 8: a direct logit attribution has the wrong sign, size or order;
- 9: an eigenvalue copying score is off;
- 10: GPT-2 XL's copiers are others, or in another order.

1 and 2 are Python's own, for a crash and for wrong options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.errors import AnalysisError
from analysis.heads import HeadPair, head_pairs
from analysis.ioi.activations import run_prompts
from analysis.ioi.attribution import direct_logit_attribution
from analysis.ioi.direct_effects import over_prompts
from analysis.ioi.measured_classes import HeadMeasurements, measure_heads
from analysis.models import load_model
from analysis.models.hub_errors import HubError
from analysis.names import load_names
from analysis.prompts.indirect_object import ioi_prompts
from analysis.report.ioi import findings
from analysis.report.published_numbers import (
    PUBLISHED_DIFFERENCE,
    Comparison,
    compare_attribution,
    compare_classes,
    compare_copiers,
    compare_eigenvalues,
    compare_mean_ranks,
    published_numbers,
)
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import rank_vocabulary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FOUND, OUT_OF_REACH, MISSED, FAILED = 0, 3, 4, 5
EXTRA, RANK_OFF, ATTRIBUTION_OFF, EIGENVALUE_OFF, COPIERS_OFF = 6, 7, 8, 9, 10
QUANTITIES = ("mean_rank", "direct_logit_attribution", "eigenvalue_score")
"""Published of GPT-2 small."""
COPIERS = "static_copier"
"""Published of GPT-2 XL."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the tables, and return the exit status."""
    options = _options(arguments)
    try:
        wanted = (*QUANTITIES, COPIERS) if options.xl else QUANTITIES
        published = {name: published_numbers(name, options.published) for name in wanted}
        model = load_model("gpt2")
        large = load_model("gpt2-xl") if options.xl else None
    except HubError as error:
        print(f"GPT-2 is not in reach, so nothing was compared: {error}", file=sys.stderr)
        return OUT_OF_REACH
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    try:
        ranked = head_pairs(published["mean_rank"].index)
        numbers = measure_small(model, options.prompts, options.seed, ranked)
        print(*findings(numbers.measured), sep="\n")
        found = compare_small(numbers, published, options.published_difference)
        if large is not None:
            ours = score_heads(large, load_names(large)).to_frame()["copying_score"]
            found[COPIERS_OFF] = compare_copiers(published[COPIERS], ours)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    print(*found.values(), sep="\n\n")
    return verdict(found)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.cli.check_gpt2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=300, help="how many prompts to run")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    parser.add_argument("--xl", action="store_true", help="compare GPT-2 XL's copiers too")
    parser.add_argument("--published", type=Path, help="a table like data/published_numbers.csv")
    parser.add_argument(
        "--published-difference",
        type=float,
        default=PUBLISHED_DIFFERENCE,
        help="mean logit difference of the published attributions",
    )
    options = parser.parse_args(arguments)
    if options.prompts < 1 or options.seed < 0:
        parser.error("--prompts must be at least 1, --seed at least 0")
    if options.published is not None and not options.published.is_file():
        parser.error(f"--published: there is no file {options.published}")
    return options


@dataclass(frozen=True)
class SmallNumbers:
    """What is measured of GPT-2 small, to be held against what is published.

    Attributes:
        measured: the head classes.
        mean_rank: by (layer, head), of a token's own logit.
        attribution: by (layer, head), mean direct logit attribution, in logits.
        difference: mean logit difference of the prompts of the attributions.
        eigenvalue_score: by (layer, head).
    """

    measured: HeadMeasurements
    mean_rank: pd.Series
    attribution: pd.Series
    difference: float
    eigenvalue_score: pd.Series


def measure_small(
    model: TransformerBridge, n_prompts: int, seed: int, ranked: Sequence[HeadPair]
) -> SmallNumbers:
    """Measure GPT-2 small."""
    measured = measure_heads(model, ioi_prompts(model, n_prompts, seed))
    ranks = rank_vocabulary(model, embedding="first_block_adds", folded=True, heads=ranked)
    # The published attributions are of prompts with BOS.
    prompts = ioi_prompts(model, n_prompts, seed, prepend_bos=True)
    clean = run_prompts(model, prompts)
    attribution = over_prompts(
        prompts, attribution=direct_logit_attribution(model, prompts, clean)
    )["attribution"]
    return SmallNumbers(
        measured,
        ranks["mean_rank"],
        attribution,
        float(clean.logit_difference.mean()),
        eigenvalue_scores(model, folded=True)["eigenvalue_score"],
    )


def compare_small(
    numbers: SmallNumbers, published: Mapping[str, pd.Series], published_difference: float
) -> dict[int, Comparison]:
    """Every comparison of GPT-2 small, by the exit status of its misses."""
    missed, extra = compare_classes(numbers.measured)
    return {
        MISSED: missed,
        EXTRA: extra,
        RANK_OFF: compare_mean_ranks(published["mean_rank"], numbers.mean_rank),
        ATTRIBUTION_OFF: compare_attribution(
            published["direct_logit_attribution"],
            numbers.attribution,
            numbers.difference,
            published_difference,
        ),
        EIGENVALUE_OFF: compare_eigenvalues(
            published["eigenvalue_score"], numbers.eigenvalue_score
        ),
    }


def verdict(found: dict[int, Comparison]) -> int:
    """Say which comparisons fail, and return the exit status of the first of them."""
    failed = {status: comparison for status, comparison in found.items() if comparison.misses}
    print()
    for status, comparison in failed.items():
        print(f"Fails ({status}): {comparison.title}, {len(comparison.misses)} off.")
    if not failed:
        print("GPT-2 has what is published of it.")
    return min(failed, default=FOUND)


if __name__ == "__main__":
    sys.exit(main())
