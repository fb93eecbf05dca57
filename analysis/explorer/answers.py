"""What the kernel answers to the explorer's questions; each answer is ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.errors import ParameterError
from analysis.explorer.evidence import views_of
from analysis.explorer.measuring import absent_measurements, measure
from analysis.explorer.page import write_page
from analysis.explorer.payload import (
    N_EXTREMES,
    NameSet,
    pack_classes,
    pack_extremes,
    pack_measure,
    pack_set,
)
from analysis.explorer.queries import AskedHead, extreme_tokens
from analysis.explorer.requests import Answer
from analysis.explorer.results import OWN, Results, holding, score_names
from analysis.heads import HeadPair
from analysis.models.admission import admit
from analysis.names import token_pairs
from analysis.progress import progress_bar
from analysis.provenance import is_same_model, model_identity
from analysis.static.head_scores import HeadScores
from analysis.tokenizers import token_texts
from analysis.validation import check_int, shown

if TYPE_CHECKING:
    from pathlib import Path

    import plotly.graph_objects as go
    from transformer_lens.model_bridge import TransformerBridge


class Answers:
    """One model's answers, with the results gathered so far.

    Args:
        model: asked; nothing else may run it meanwhile.
        results: shown first.
        changed: told the new results whenever something has been added.
        beside: results of other models, which are shown and exported alone.
    """

    def __init__(
        self,
        model: TransformerBridge,
        results: Results,
        changed: Callable[[Results], None],
        beside: Sequence[Results] = (),
    ) -> None:
        self.model = model
        self.results = results
        self._changed = changed
        self._beside = tuple(beside)

    def by_name(self) -> dict[str, Answer]:
        """The function of each kind of question."""
        of_the_model = {
            "score": self.score,
            "extremes": self.extremes,
            "token": self.token,
            "sources": self.sources,
            "changed": self.changed,
            "prompt": self.prompt,
            "measure": self.measure,
        }
        checked = {name: partial(self._checked, answer) for name, answer in of_the_model.items()}
        return {**checked, "export": self.export}

    def _checked(self, answer: Answer, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """An answer, unless the model has other weights than what is shown was made of."""
        admit(self.model)
        if not is_same_model(model_identity(self.model), self.results.scores.model):
            raise ParameterError(
                "the model's weights have changed since these numbers were made: run the cell that "
                "calls explore(...) again."
            )
        return answer(args)

    def score(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Score other names, or the same with the other setting of the first MLP."""
        first_mlp = bool(args.get("first_mlp", True))
        names = args.get("names")
        if names is None:
            known = _set(self.results, args.get("key"), not first_mlp)
            new = score_names(
                self.model,
                known.scores.pairs,
                k=known.scores.k,
                first_mlp=first_mlp,
                key=known.key,
                label=known.label,
            )
        else:
            asked = [tuple(name) if isinstance(name, list) else name for name in names]
            pairs = token_pairs(self.model, list(dict.fromkeys(asked)))
            label = args.get("label")
            if not pairs.copying and not label:
                label = f"{pairs.sources[0]} → {pairs.targets[0]}, …"
            # Relations stay next to each other on the card; one's own names are one set.
            key = OWN if pairs.copying else f"relation {pairs.checksum[:12]}"
            new = score_names(
                self.model,
                pairs,
                k=self.results.scores.k,
                first_mlp=first_mlp,
                key=key,
                label=self._own_label(key, str(label or "Your own")),
            )
        self._add(self.results.with_set(new))
        return pack_set(replace(new, extremes={}), {})

    def extremes(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """The tokens around every name for one head."""
        one = _set(self.results, args.get("key"), bool(args.get("first_mlp", True)))
        found = extreme_tokens(
            self.model, _head(args), one.scores.pairs, N_EXTREMES, first_mlp=one.scores.first_mlp
        )
        ids = np.unique(np.concatenate([found.top, found.bottom])).tolist()
        packed = pack_extremes(found, {token: place for place, token in enumerate(ids)})
        return {**packed, "words": token_texts(self.model.tokenizer, ids)}

    def token(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a head writes for one token."""
        found = self._asked(args).writes_for(_text(args, "token"))
        return {
            "token": found.token,
            "larger": found.larger,
            "smaller": found.smaller,
            "most": _rows(found.most),
            "least": _rows(found.least),
        }

    def sources(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """For which tokens a head writes one token."""
        most, least = self._asked(args).written_from(_text(args, "token"))
        return {"most": _rows(most), "least": _rows(least)}

    def changed(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """The tokens that a head changes most, with what it writes for them."""
        return {"tokens": self._asked(args).changes_most().to_dict(orient="records")}

    def prompt(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where a head attends on a prompt, and what it writes at its end."""
        found = self._asked(args).on_prompt(_text(args, "prompt"))
        return {
            "tokens": list(found.tokens),
            "attention": found.attention.tolist(),
            "most": _rows(found.most),
            "least": _rows(found.least),
        }

    def measure(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Measure what has not been measured."""
        what, before = str(args.get("what")), self.results.evidence
        evidence = measure(self.model, self.results.scores, what, before)
        self._add(self.results.with_evidence(evidence))
        old = {measure.key for measure in before.measures}
        return {
            "measures": [pack_measure(one) for one in evidence.measures if one.key not in old],
            "views": views_of(evidence, self.results.scores.pairs.copying),
            "absent": absent_measurements(evidence, relations=self.results.has_relations),
            "classes": pack_classes(evidence.classes),
        }

    def export(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the page as it is now, and the static scores' figures, where notebooks write.

        There is a figure of every model shown: of the names that pass the filter, with the classes
        that are chosen.
        """
        from analysis.export.files import export_figure
        from analysis.export.places import EXPLORER, figure_stem, free_name

        every = [self.results, *self._beside]
        state = args.get("state")
        state = state if isinstance(state, Mapping) else {}
        k = args.get("k", self.results.scores.k)
        figures: dict[Path, go.Figure] = {}
        taken: set[str] = set()
        for one in (args, *args.get("beside", ())):
            results = every[check_int("model", one.get("model", 0), 0, len(every) - 1)]
            known = _set(results, one.get("key"), bool(one.get("first_mlp", True)))
            scores = holding(known.scores.at_k(k), str(state.get("only") or ""))
            stem = figure_stem(scores)
            stem = stem.with_name(free_name(stem.name, taken))
            figures[stem] = _figure(scores, results, state.get("classes"))
        first = next(iter(figures))
        with progress_bar(1, "writing the files", "file"):  # a last step: it may stop here
            page = write_page(every, first.with_name(f"{first.name}{EXPLORER}.html"), state)
            files = [file for stem, one in figures.items() for file in export_figure(one, stem)]
        return {"folder": str(first.parent.name), "files": [page.name, *(f.name for f in files)]}

    def _asked(self, args: Mapping[str, Any]) -> AskedHead:
        return AskedHead(self.model, _head(args), bool(args.get("first_mlp", True)))

    def _add(self, results: Results) -> None:
        with progress_bar(1, "packing the results", "result"):  # a last step: it may stop here
            self.results = results
            self._changed(results)

    def _own_label(self, key: str, label: str) -> str:
        """The label, with a number where other names have it already."""
        others = {one.label for one in self.results.sets if one.key != key}
        numbered = (f"{label} ({n})" for n in count(2))
        return label if label not in others else next(one for one in numbered if one not in others)


def _set(results: Results, key: object, first_mlp: bool) -> NameSet:
    found = results.find(str(key), first_mlp)
    if found is None:
        raise ParameterError("these names have not been scored: score them first.")
    return found


def _figure(scores: HeadScores, results: Results, origin: object) -> go.Figure:
    """The static scores, with the classes of one origin, or of both."""
    from analysis.plots.heatmaps import plot_heatmaps
    from analysis.plots.texts import as_plain

    classes = results.evidence.classes
    if classes is not None and origin in ("published", "measured", "none"):
        classes = classes[classes["origin"] == origin]
    chosen = scores.provenance.get("filter")
    title = None
    if isinstance(chosen, Mapping):
        title = as_plain(
            f"{scores.n_pairs:,} of {chosen['pairs']:,} {scores.pairs.kind}, "
            f'those that hold "{chosen["text"]}"'
        )
    return plot_heatmaps(scores, classes, title=title)


def _head(args: Mapping[str, Any]) -> HeadPair:
    layer, _, head = str(args.get("head", "")).partition(".")
    if not (layer.isdecimal() and head.isdecimal()):
        raise ParameterError(
            f"a head is written layer.head, such as 9.9, not {args.get('head')!r}."
        )
    return int(layer), int(head)


def _text(args: Mapping[str, Any], name: str) -> str:
    text = args.get(name)
    if not isinstance(text, str):
        raise ParameterError(f"{name} must be text, not {shown(text)}.")
    return text


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"token": str(row["token"]), "logit": float(row["logit"])}
        for row in frame.to_dict(orient="records")
    ]
