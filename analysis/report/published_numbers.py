"""Published numbers of single heads beside ours: what is off, and by how much it may be.

Every comparison returns a :class:`Comparison`: its table, its tolerance with the reason, and a
sentence for each head that is off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.data_files import data_file
from analysis.errors import ClassesError
from analysis.heads import head_name, head_pairs
from analysis.ioi.head_classes import HeadClass, published_classes
from analysis.ioi.measured_classes import HeadMeasurements

PUBLISHED_NUMBERS = data_file("published_numbers.csv")
QUANTITIES = ("mean_rank", "direct_logit_attribution", "eigenvalue_score", "static_copier")
PUBLISHED_DIFFERENCE = 3.5521
"""Mean logit difference of the prompts of the published attributions, in logits."""

REQUIRED = (HeadClass.NAME_MOVER, HeadClass.NEGATIVE_NAME_MOVER)
"""Classes of which every published head must be found, and no other head may be."""
COMPARED = (*REQUIRED, HeadClass.BACKUP_NAME_MOVER)

MEAN_RANK_SHARE, MEAN_RANK_MORE = 0.02, 1.0
EIGENVALUE_TOLERANCE = 0.02
CLEAR_SHARE, SHARE_TOLERANCE, LEAST_ORDER = 0.05, 0.1, 0.8
COPIERS_SHARED = 5


@dataclass(frozen=True)
class Comparison:
    """One kind of published number beside ours, indexed by ``layer`` and ``head``."""

    title: str
    table: pd.DataFrame = field(repr=False)
    tolerance: str
    misses: tuple[str, ...]

    def __str__(self) -> str:
        verdict = [f"  - {miss}" for miss in self.misses] or ["  All within tolerance."]
        return "\n".join([f"{self.title}\n", self.table.to_string(), "", self.tolerance, *verdict])


def published_numbers(quantity: str, path: Path | None = None) -> pd.Series:
    """One of ``QUANTITIES`` by ``layer`` and ``head``, in the order of the file."""
    path = PUBLISHED_NUMBERS if path is None else path
    table = pd.read_csv(path)
    needed = ["quantity", "layer", "head", "value"]
    missing = [column for column in needed if column not in table]
    if missing:
        raise ClassesError(f"{path.name} lacks the columns {', '.join(missing)}")
    rows = table[table["quantity"] == quantity]
    if rows.empty:
        raise ClassesError(f"{path.name} has no row of the quantity {quantity}")
    return rows.set_index(["layer", "head"])["value"].rename("published")


def compare_classes(measured: HeadMeasurements) -> tuple[Comparison, Comparison]:
    """Published name-moving heads against the measured ones: the missed, and the extra.

    A published backup that already has a direct effect of its own may be measured as a name mover:
    10.10 and 10.6 have 13.5 % and 8.1 % of the logit difference before anything is ablated.
    """
    published = published_classes(measured.model)["class"]
    published = published[published.isin(COMPARED)]
    ours = measured.classes["class"].groupby(level=["layer", "head"]).agg(" and ".join)
    heads = published.index.union(ours.index)
    shown = ["effect_share", "attention_io", "copy_score", "negative_copy_score", "growth"]
    table = pd.DataFrame(
        {
            "published": published.reindex(heads, fill_value=""),
            "measured": ours.reindex(heads, fill_value=""),
        }
    ).join(measured.numbers[shown].round(3))
    place = {str(name): number for number, name in enumerate(COMPARED)}
    order = table["published"].map(place).fillna(len(COMPARED))
    table = table.iloc[order.argsort(kind="stable").to_numpy()]
    required = published[published.isin(REQUIRED)]
    missed = [
        f"{head_name(*head)} is published as a {name} and measured as "
        f"{table['measured'].loc[head] or 'nothing'}."
        for head, name in zip(head_pairs(required.index), required, strict=True)
        if head not in measured.heads(HeadClass(name))
    ]
    others = [
        head
        for name in REQUIRED
        for head in measured.heads(name)
        if published.get(head) not in (name, HeadClass.BACKUP_NAME_MOVER)
    ]
    extra = [
        f"{head_name(*head)} is measured as a {table['measured'].loc[head]} and published as "
        f"{table['published'].loc[head] or 'none of these'}."
        for head in others
    ]
    n = len(required)
    return (
        Comparison(
            "Published name movers and negative name movers",
            table,
            f"Each of the {n} must be measured. Backups are shown and decide nothing: no threshold "
            "on them has been validated on GPT-2.",
            tuple(missed),
        ),
        Comparison(
            "Other heads measured as name movers or negative name movers",
            table.loc[others],
            "None is expected, except published backups, two of which have a direct effect above "
            "5 % before anything is ablated.",
            tuple(extra),
        ),
    )


def compare_mean_ranks(published: pd.Series, ours: pd.Series) -> Comparison:
    """Mean ranks of a token's own logit; ``ours`` indexed as ``published``."""
    n_tokens = 50_257
    table = pd.DataFrame({"published": published, "ours": ours.reindex(published.index).round(1)})
    from_end = table["published"].where(
        table["published"] < n_tokens / 2, (n_tokens - table["published"]).abs()
    )
    allowed = MEAN_RANK_MORE + MEAN_RANK_SHARE * from_end
    table["allowed"] = allowed.round(1)
    return Comparison(
        "Mean rank of a token's own logit (0 the most suppressed)",
        table,
        f"Allowed: {MEAN_RANK_SHARE:.0%} of the distance to the nearer end, and "
        f"{MEAN_RANK_MORE:.0f} more. The published ranks come from float32 logits, where tokens "
        "with nearly equal logits may change places; ours are exact.",
        _off(table, ~((table["ours"] - table["published"]).abs() <= allowed), "mean rank"),
    )


def compare_eigenvalues(published: pd.Series, ours: pd.Series) -> Comparison:
    """Eigenvalue copying scores; ``ours`` indexed as ``published``."""
    table = pd.DataFrame({"published": published, "ours": ours.reindex(published.index).round(3)})
    return Comparison(
        "Eigenvalue copying score of the full OV circuit, norms folded",
        table,
        f"Allowed: {EIGENVALUE_TOLERANCE}. The published scores have three digits and come from "
        "float32 eigenvalues; ours from float64.",
        _off(
            table,
            ~((table["ours"] - table["published"]).abs() <= EIGENVALUE_TOLERANCE),
            "eigenvalue copying score",
        ),
    )


def compare_attribution(
    published: pd.Series,
    ours: pd.Series,
    logit_difference: float,
    published_difference: float = PUBLISHED_DIFFERENCE,
) -> Comparison:
    """Direct logit attribution as shares of the logit difference: signs, sizes and order."""
    table = pd.DataFrame(
        {
            "published": (published / published_difference).round(3),
            "ours": (ours.reindex(published.index) / logit_difference).round(3),
        }
    )
    allowed = (table["published"].abs() / 2).clip(lower=SHARE_TOLERANCE)
    clear = table["published"].abs() >= CLEAR_SHARE
    other_sign = clear & (table["published"] * table["ours"] <= 0)
    off = ~other_sign & ~((table["published"] - table["ours"]).abs() <= allowed)
    misses = _off(table, other_sign, "sign of the attribution") + _off(table, off, "share")
    order = float(table["published"].corr(table["ours"], method="spearman"))
    if not order >= LEAST_ORDER:
        misses += (f"the order of the heads agrees by {order:.2f} (Spearman), not {LEAST_ORDER}.",)
    return Comparison(
        "Direct logit attribution, as a share of the mean logit difference",
        table.assign(allowed=allowed.round(3)),
        f"Compared: signs of shares of {CLEAR_SHARE:.0%} and more; sizes, to half of the published "
        f"share or {SHARE_TOLERANCE}; the order (Spearman {LEAST_ORDER} or more). The published "
        "numbers are of eight prompts, and ours of others.",
        misses,
    )


def compare_copiers(published: pd.Series, ours: pd.Series) -> Comparison:
    """The strongest static copiers of names, published by place; ``ours`` are all heads' scores."""
    n = len(published)
    rank = ours.rank(ascending=False, method="min").astype(int)
    table = pd.DataFrame(
        {
            "published": published.astype(int),
            "ours": rank.reindex(published.index),
            "copying_score": ours.reindex(published.index).round(3),
        }
    )
    among = int((table["ours"] <= n).sum())
    misses: tuple[str, ...] = ()
    if among < min(COPIERS_SHARED, n):
        misses += (f"{among} of the {n} published copiers are among our first {n}.",)
    misses += _off(table, ~((table["ours"] - table["published"]).abs() <= n / 2), "place")
    return Comparison(
        "Static copiers of names, by place",
        table,
        f"At least {COPIERS_SHARED} of {n} must be among our first {n}, and none more than "
        f"{n // 2} places from its own: the name list differs from the paper's.",
        misses,
    )


def _off(table: pd.DataFrame, off: pd.Series, what: str) -> tuple[str, ...]:
    rows = table[off.to_numpy()]
    return tuple(
        f"{head_name(*head)}: published {what} {was:g}, ours {now:g}."
        for head, was, now in zip(
            head_pairs(rows.index), rows["published"], rows["ours"], strict=True
        )
    )
