"""The explorer in a notebook: the front end of ``static/`` with the kernel behind it."""

from __future__ import annotations

import base64
import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from torch import nn

from analysis.explorer.answers import Answers
from analysis.explorer.evidence import Evidence
from analysis.explorer.page import front_end, packed, write_page
from analysis.explorer.payload import MAX_RANK
from analysis.explorer.requests import Requests
from analysis.explorer.results import Relations, Results, checked_results, collect
from analysis.explorer.still import still_picture
from analysis.export.still.render import render_all
from analysis.models.admission import admit
from analysis.models.fingerprint import set_loaded
from analysis.names import TokenPairs
from analysis.plots.heatmap_layout import fit_width
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import model_identity
from analysis.static.head_scores import check_scores_of
from analysis.validation import check_flag, check_int, check_model, check_type

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STILL = "NAME_HEADS_STILL"
"""With this environment variable set to 1, the output holds pictures alone and no live view: so the
committed notebooks have no random ids in them, and read well where no kernel runs."""


class Explorer(anywidget.AnyWidget):
    """The widget that ``explore`` returns.

    Attributes:
        state: what is shown, as the front end keeps it: ``k``, ``mlp``, ``head`` ("23.2"), ``pins``
            and so on, with ``model``, ``beside`` or ``minus`` where several models are at hand. It
            may be set from Python.
        results: what it is made of.

    Args:
        model: asked by the controls; nothing else may run it meanwhile.
        results: shown first.
        beside: results of other models, which have no kernel here.
    """

    payload = traitlets.Bytes().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    home = traitlets.Unicode("notebook").tag(sync=True)
    kernel = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        model: TransformerBridge,
        results: Results,
        beside: Results | Sequence[Results] = (),
    ) -> None:
        check_model(model)
        check_type("results", results, Results, "explore(model).results")
        check_scores_of(model, results.scores, "the results")
        self._beside = checked_results("beside", beside)
        self._esm = front_end("js")
        self._css = front_end("css")
        super().__init__(
            payload=packed([results, *self._beside]),
            state={"k": results.scores.k, "mlp": results.scores.first_mlp},
        )
        self._answers = Answers(model, results, self._changed, self._beside)
        self._requests = Requests(self._answers.by_name(), self.send)
        self.on_msg(lambda _widget, message, _buffers: self._requests.take(message))

    @traitlets.validate("state")
    def _checked(self, proposal: Mapping[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = proposal["value"]
        if "k" in state:
            check_int("state['k']", state["k"], 1, MAX_RANK, "the explorer's ranks")
        if "mlp" in state:
            check_flag("state['mlp']", state["mlp"])
        return state

    @property
    def results(self) -> Results:
        """Scores and evidence shown, with what was computed from the controls."""
        return self._answers.results

    @property
    def requests(self) -> Requests:
        """The questions that are being answered."""
        return self._requests

    def save_page(self, path: str | Path) -> Path:
        """Write the explorer as one HTML file that needs no kernel, and opens as it is now.

        Raises:
            ExportError: the file cannot be written.
        """
        return write_page([self.results, *self._beside], path, self.state)

    def _changed(self, results: Results) -> None:
        self.payload = packed([results, *self._beside])  # a view opened from now on shows these

    def open(self) -> None:
        """Open the connection to the front end, unless only the picture is wanted."""
        if os.environ.get(STILL) != "1":
            super().open()

    def __repr__(self) -> str:
        scores = self.results.scores
        return (
            f"Explorer of {scores.model.title}: {scores.n_layers} layers of {scores.n_heads} "
            f"heads, {scores.n_pairs} {scores.pairs.unit}, k = {scores.k}"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        scores, classes = self.results.scores, self.results.evidence.classes
        drawn = still_picture(scores, classes)
        bundle: dict[str, Any] = {"text/plain": repr(self), "image/svg+xml": drawn}
        if os.environ.get(STILL) == "1":
            # JupyterLab shows no SVG of a notebook that it does not trust: one that ran elsewhere.
            fig = fit_width(plot_heatmaps(scores, classes), None, screen=False)
            (png,) = render_all(fig, ["png"])
            return bundle | {"image/png": base64.b64encode(png).decode()}, {}
        live = super()._repr_mimebundle_(**kwargs)
        return (bundle, {}) if live is None else (live[0] | bundle, live[1])


def explore(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]] | None = None,
    *,
    k: int = 1,
    first_mlp: bool = True,
    relations: Relations | None = None,
    evidence: Evidence | None = None,
    beside: Results | Sequence[Results] = (),
) -> Explorer:
    """The explorer of a model's heads, for the last line of a notebook's cell.

    Names are scored once with exact ranks up to 100 from both ends, so that every k up to 100 is a
    look-up. A progress bar appears after two seconds.

    Args:
        model: raw weights, from ``load_model``.
        names: as ``score_heads`` takes them; data/names.csv if None.
        k: shown first, from 1 to 100.
        first_mlp: shown first; the other setting is computed when it is switched.
        relations: pairs by what they are called, such as ``{"capitals": [("France", "Paris")]}``,
            or CSV files with the columns ``source`` and ``target``.
        evidence: this model's measured numbers (``measure_all``); the explorer offers to measure
            what is not in it.
        beside: results of other models (``explore(other).results``), to be shown beside this one or
            taken away from it.

    Raises:
        NamesError: no name is usable.
        ParameterError: k is out of its range, or the evidence is another model's.
        ArchitectureError: the model's weights would be misread.
    """
    check_model(model)
    beside = checked_results("beside", beside)
    k = check_int("k", k, 1, MAX_RANK, "the explorer's ranks")
    check_flag("first_mlp", first_mlp)
    twin = _twin(model)
    results = collect(twin, names, k=k, first_mlp=first_mlp, relations=relations, evidence=evidence)
    return Explorer(twin, results, beside)


def _twin(model: TransformerBridge) -> TransformerBridge:
    """The model with modules of its own and the same weights.

    Questions run it in threads. A cell that runs the user's model meanwhile would otherwise set off
    the hooks of a question, and the question would read the cell's activations.
    """
    weights = admit(model).weights
    inner = model.original_model
    if not isinstance(inner, nn.Module):  # a checkpoint that is read layer by layer is never run
        return model
    kept: list[Any] = [*inner.parameters(), *inner.buffers(), model.tokenizer]
    twin = copy.deepcopy(model, {id(one): one for one in kept})
    set_loaded(twin, model_identity(model), weights)
    return twin
