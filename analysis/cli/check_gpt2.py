"""Does the method find in GPT-2 small what is published of it?

``python -m analysis.cli.check_gpt2``, which ``make check-gpt2`` calls, scores the heads of GPT-2
small, measures their classes on the indirect-object task and sets both beside the published
classes, head by head. Beside them stand the published mean ranks of copy suppression (McDougall et
al., arXiv 2310.04625) and ours, which decide nothing. Exit status:

- 0: every published name mover and negative name mover is measured to be one;
- 3: GPT-2 is neither in the local cache nor to be had from the hub;
- 4: at least one is missed;
- 5: GPT-2 is there but cannot be read or measured.

1 and 2 are Python's own, for a crash and for wrong options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis.data_files import data_file
from analysis.errors import AnalysisError
from analysis.heads import head_name
from analysis.ioi.head_classes import HeadClass, published_classes
from analysis.ioi.measured_classes import HeadMeasurements, measure_heads
from analysis.models import load_model
from analysis.models.hub_errors import HubError
from analysis.names import load_names
from analysis.prompts.indirect_object import ioi_prompts
from analysis.report.ioi import findings
from analysis.static.scores import score_heads
from analysis.static.vocabulary import rank_vocabulary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FOUND, OUT_OF_REACH, MISSED, FAILED = 0, 3, 4, 5
REQUIRED = (HeadClass.NAME_MOVER, HeadClass.NEGATIVE_NAME_MOVER)
"""Classes of which every published head must be found."""

COMPARED = (*REQUIRED, HeadClass.BACKUP_NAME_MOVER)
COPY_SUPPRESSION = data_file("copy_suppression.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.cli.check_gpt2", description=__doc__)
    parser.add_argument("--prompts", type=int, default=300, help="how many prompts to run")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    options = parser.parse_args(arguments)
    if options.prompts < 1 or options.seed < 0:
        parser.error("--prompts must be at least 1 and --seed at least 0")
    try:
        model = load_model("gpt2")
    except HubError as error:
        print(f"GPT-2 is not in reach, so nothing was compared: {error}", file=sys.stderr)
        return OUT_OF_REACH
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    try:
        scores = score_heads(model, load_names(model)).to_frame()
        measured = measure_heads(model, ioi_prompts(model, options.prompts, options.seed))
        ranks = compare_ranks(model)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    table = compare(measured, scores)
    print(table.round(3).to_string(), *findings(measured), sep="\n")
    print(ranks.to_string())
    return verdict(table)


def compare(measured: HeadMeasurements, scores: pd.DataFrame) -> pd.DataFrame:
    """The published name-moving heads, and any other head measured to be one, side by side.

    Args:
        measured: of GPT-2 small.
        scores: the frame of ``score_heads``.

    Returns:
        Indexed by ``layer`` and ``head``: ``published`` and ``measured`` (classes, empty for none),
        ``found`` (whether they are the same), ``copying_score`` and ``suppression_score`` with
        their ranks over all heads, and the measured numbers that the classes rest on.
    """
    published = published_classes(measured.model)["class"]
    published = published[published.isin([*COMPARED])]
    found = measured.numbers["class"]
    heads = published.index.union(found.index[found != ""])
    numbers = measured.numbers.join(scores)
    table = pd.DataFrame(
        {"published": published.reindex(heads, fill_value=""), "measured": found.loc[heads]}
    )
    table["found"] = table["published"] == table["measured"]
    for by in ("copying_score", "suppression_score"):
        rank = scores[by].rank(ascending=False, method="max").astype(int)
        table[[by, f"rank of {by}"]] = pd.DataFrame({by: scores[by], "rank": rank}).loc[heads]
    shown = ["effect_share", "attention_io", "copy_score", "negative_copy_score", "growth"]
    order = {str(head_class): place for place, head_class in enumerate(COMPARED)}
    return table.join(numbers[shown]).sort_values(
        "published", key=lambda column: column.map(order).fillna(len(order)), kind="stable"
    )


def compare_ranks(model: TransformerBridge) -> pd.DataFrame:
    """The published mean ranks of a token's own logit, and ours of the same heads.

    Over the whole vocabulary, from the effective embedding of the first block, norms folded and
    weights centred.

    Returns:
        Columns ``published`` and ``mean_rank``, indexed by ``layer`` and ``head``.
    """
    published = pd.read_csv(COPY_SUPPRESSION, index_col=["layer", "head"])["mean_rank"]
    ours = rank_vocabulary(
        model, embedding="first_block_adds", folded=True, heads=list(published.index)
    )
    return pd.DataFrame({"published": published, "mean_rank": ours["mean_rank"].round(1)})


def verdict(table: pd.DataFrame) -> int:
    """Say which of the required heads are missed, and return the exit status."""
    required = table[table["published"].isin([*REQUIRED])]
    missed = required.index[~required["found"]]
    if len(missed):
        names = ", ".join(head_name(*head) for head in missed)
        print(f"Missed {len(missed)} of {len(required)} published (negative) name movers: {names}.")
        return MISSED
    print(f"All {len(required)} published name movers and negative name movers are found.")
    return FOUND


if __name__ == "__main__":
    sys.exit(main())
