"""Dynamic scores: what every head writes at the last position when the model runs.

For each template and name the model runs once, and for head (l, h)

1. *with context*, z is the head's mixture of values at the last position, as it ran;
2. *without context*, z is its value vector at the name's position, which is what the head would
   mix if it attended to the name alone, its layer's input being that of the clean run. With
   grouped queries a head's value vector is its group's;
3. what it writes is ``z·W_O``, and its logits are ``z·W_O·W_U``: no final norm and no output
   bias, which is the layer's and no head's. Value biases are in z, where the model adds them;
4. whether the name is among the k largest (smallest) logits is the static scores' question with
   z for ``x·W_V``, so ``exact.topk`` decides it.

The model runs in float64 throughout (``models.precision``), so that z is the same on every
processor to 1e-12. A token whose logit leads the name's by less than ``MARGIN`` counts as tied with
it, and the number of such near-ties is in the provenance.

(Elhelo & Geva, MAPS, arXiv 2412.11965.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.architecture.value_clip import clip_values
from analysis.errors import ParameterError, WeightsError
from analysis.exact.arithmetic import full_float32, slices
from analysis.exact.head_logits import OV
from analysis.exact.prepared import PREPARED
from analysis.exact.topk import Decisions, decide_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import head_name
from analysis.models.admission import admit_runs
from analysis.models.precision import MARGIN, exact_forward, plain_settings
from analysis.names import TokenPairs
from analysis.progress import progress_bar
from analysis.prompts.prefix_cache import NO_LOGITS, build_prefix_cache, prefix_kwargs
from analysis.prompts.templates import TEMPLATES, Prompts, enough_names, fill_template
from analysis.provenance import ModelIdentity, model_identity, provenance_of
from analysis.static.head_scores import score_columns
from analysis.static.padding import n_real_tokens
from analysis.validation import check_int, check_list, shown
from analysis.weights import (
    embedding_matrix,
    output_weights,
    value_weights,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CONTEXTS = ("with", "without")
"""The head as it ran, and made to attend to the name's position alone."""

RUN_TOGETHER = 128
"""Prompts, at most, that go through the model at once."""
HELD_BYTES = 1 << 29
"""Memory for the z of one batch of names in all templates, where no batch size is given."""
_POINTS = ("hook_z", "hook_v")


@dataclass(frozen=True)
class DynamicScores:
    """For every template, context, head and name: is the name in the head's top (bottom) k?

    Attributes:
        in_top_k: bool ``[n_templates, 2, n_layers, n_heads, n_names]``, contexts in the order of
            ``CONTEXTS``.
        in_bottom_k: likewise, among the k smallest logits.
        templates: the prompts, in order.
        names: the names, in order.
        k: how many of the largest (smallest) logits count.
        model: which model ran.
        provenance: everything else that made the result, ready for JSON.
        group_size: heads that share a key-value head.
        n_near_ties: comparisons of logits that ``MARGIN`` made a tie.
    """

    in_top_k: Bool[np.ndarray, "n_templates 2 n_layers n_heads n_names"] = field(repr=False)
    in_bottom_k: Bool[np.ndarray, "n_templates 2 n_layers n_heads n_names"] = field(repr=False)
    templates: tuple[str, ...]
    names: TokenPairs
    k: int
    model: ModelIdentity
    provenance: dict[str, object] = field(repr=False)
    group_size: int = 1
    n_near_ties: int = 0

    @property
    def n_in_top_k(self) -> Int[np.ndarray, "n_templates 2 n_layers n_heads"]:
        """Names among the k largest logits."""
        return np.asarray(self.in_top_k.sum(-1))

    @property
    def n_in_bottom_k(self) -> Int[np.ndarray, "n_templates 2 n_layers n_heads"]:
        """Names among the k smallest logits."""
        return np.asarray(self.in_bottom_k.sum(-1))

    def to_frame(self) -> pd.DataFrame:
        """The scores as a frame.

        Returns:
            float64 columns ``copying_score`` (``relation_score`` for pairs of another relation)
            and ``suppression_score``, shares of the names in [0, 1], indexed by ``template``,
            ``context``, ``layer`` and ``head``.
        """
        _, _, n_layers, n_heads, n_names = self.in_top_k.shape
        index = pd.MultiIndex.from_product(
            [self.templates, CONTEXTS, range(n_layers), range(n_heads)],
            names=["template", "context", "layer", "head"],
        )
        counted = zip(score_columns(self.names), (self.n_in_top_k, self.n_in_bottom_k), strict=True)
        return pd.DataFrame({c: n.ravel() / n_names for c, n in counted}, index=index)

    def means(self) -> pd.DataFrame:
        """The means over templates, indexed by ``context``, ``layer`` and ``head``."""
        return self.to_frame().groupby(level=["context", "layer", "head"]).mean()


@plain_settings()
def dynamic_scores(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]],
    templates: Sequence[str] = TEMPLATES,
    k: int = 1,
    batch_size: int | None = None,
    prepend_bos: bool | None = None,
) -> DynamicScores:
    """Score what every head writes at the last position of prompts that hold a name.

    Progress bars appear after two seconds.

    Args:
        model: raw weights, from ``load_model``; any device and floating dtype.
        names: as ``score_heads`` takes them; of a pair, the source stands in the prompt and the
            target is asked about.
        templates: texts with one slot ``<X>`` each, of any length.
        k: from 1 to the vocabulary's size.
        batch_size: names whose values are held at once, which changes no number; as many as fit
            into ``HELD_BYTES`` if None.
        prepend_bos: whether prompts begin with the BOS token. MAPS runs GPT-2 without; None does
            what ``model.to_tokens`` does, which is with BOS on GPT-2 and Llama.

    Raises:
        NamesError: fewer than 30 names are usable.
        PromptError: a template cannot be filled.
        ParameterError: k or the batch size is not a whole number in its range, the templates are
            none or not different, or a BOS token is asked for that the tokenizer does not have.
        ArchitectureError: the model's architecture is not supported, its weights were processed,
            it is in training mode, or its device has no float64.
        WeightsError: a weight is NaN or infinite, or the model's activations overflow.
    """
    admit_runs(model)
    n_tokens = n_real_tokens(model)
    k = check_int("k", k, 1, n_tokens, "the vocabulary's size")
    pairs = enough_names(model, names)
    given = [templates] if isinstance(templates, str) else templates
    templates = tuple(check_list("templates", given, "texts with one <X> each"))
    filled = [fill_template(model, template, pairs, prepend_bos) for template in templates]
    if len(set(templates)) < len(templates) or not templates:
        raise ParameterError(
            f"templates must be different and at least one, not {shown(templates)}."
        )
    batch_size = _names_at_once(model, batch_size, len(pairs), len(templates))
    vocabulary = PREPARED.vocabulary(model, n_tokens)  # checks that every weight is finite

    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    shape = (len(templates), len(CONTEXTS), n_layers, n_heads, len(pairs))
    top, bottom = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    targets = torch.tensor(pairs.target_tokens)
    n_float64_rechecks = n_near_ties = 0
    for part in slices(len(pairs), batch_size):
        n = len(templates) * (part.stop - part.start)
        with progress_bar(n, "running prompts", "prompt") as bar, exact_forward(model):
            values = [head_z(model, prompts, part, bar.update) for prompts in filled]
        asked = targets[part].repeat(len(templates))
        with full_float32(), progress_bar(n_layers, "scoring the heads", "layer") as bar:
            for layer in range(n_layers):
                W_O = output_weights(model, layer)
                for c, context in enumerate(CONTEXTS):
                    z = torch.cat([of_one[context][layer] for of_one in values])
                    _check_written(model, z, layer)
                    decided = list(decide_written(z, asked, W_O, vocabulary, k, layer))
                    for answers, found in (
                        (top, [d.in_top_k for d in decided]),
                        (bottom, [d.in_bottom_k for d in decided]),
                    ):
                        by_head = torch.stack(found).view(n_heads, len(templates), -1)
                        answers[:, c, layer, :, part] = by_head.transpose(0, 1).numpy()
                    n_float64_rechecks += sum(d.n_float64_rechecks for d in decided)
                    n_near_ties += sum(d.n_near_ties for d in decided)
                bar.update()

    identity = model_identity(model)
    provenance = provenance_of(
        model,
        {
            "templates": list(templates),
            "pairs": len(pairs),
            "pairs_sha256": pairs.checksum,
            "k": k,
            "prepend_bos": bool(filled[0].n_leading),
            "forward_dtype": "float64",
            "decisions_settled_in_float64": n_float64_rechecks,
            "margin": MARGIN,
            "near_ties": n_near_ties,
        },
    )
    group_size = n_heads // len(value_weights(model, 0))
    return DynamicScores(
        top, bottom, templates, pairs, k, identity, provenance, group_size, n_near_ties
    )


def head_z(
    model: TransformerBridge,
    prompts: Prompts,
    part: slice = slice(None),
    done: Callable[[int], object] | None = None,
) -> dict[str, list[Float[Tensor, "n n_heads d_head"]]]:
    """Every head's z at the last position, with and without context, from exact forward passes.

    Args:
        model: runs ``RUN_TOGETHER`` prompts at a time, or a few less.
        prompts: of one template. What they have before the name is read once.
        part: which of them.
        done: told how many more of them have been through the model.

    Returns:
        For each of ``CONTEXTS`` a float64 tensor for each layer.
    """
    n_layers = model.cfg.n_layers
    hooks = [f"blocks.{layer}.attn.{point}" for layer in range(n_layers) for point in _POINTS]
    tokens = prompts.tokens[part].to(embedding_matrix(model).device)
    at = prompts.position
    n_rows = _rows_at_once(len(prompts.tokens))
    first = torch.zeros(n_rows, dtype=torch.int64, device=tokens.device)
    found: dict[str, list[list[Tensor]]] = {c: [[] for _ in range(n_layers)] for c in CONTEXTS}
    with exact_forward(model):
        prefix = build_prefix_cache(model, tokens[:1, :at], following=tokens[:1, at:])
        for block in tokens[:, prompts.position :].split(n_rows):
            n = len(block)
            # The last block is filled up with its last prompt.
            rows = torch.cat([block, block[-1:].expand(n_rows - n, -1)])
            _, cache = model.run_with_cache(
                rows, names_filter=hooks, logits_to_keep=NO_LOGITS, **prefix_kwargs(prefix, first)
            )
            for layer in range(n_layers):
                z = cache[f"blocks.{layer}.attn.hook_z"]
                v = clip_values(model, cache[f"blocks.{layer}.attn.hook_v"])
                group = z.shape[2] // v.shape[2]
                found["with"][layer].append(z[:n, -1])
                found["without"][layer].append(v[:n, 0].repeat_interleave(group, dim=1))
            if done is not None:
                done(n)
    return {context: [torch.cat(z) for z in layers] for context, layers in found.items()}


def _check_written(
    model: TransformerBridge, z: Float[Tensor, "n n_heads d_head"], layer: int
) -> None:
    """Refuse what has overflowed as the model ran, though its weights are finite."""
    finite = z.isfinite().all(2).all(0)
    if not bool(finite.all()):
        head = int((~finite).nonzero()[0, 0])
        raise WeightsError(
            f"{model.cfg.model_name}: what head {head_name(layer, head)} mixes is infinite or "
            "not a number; load an intact checkpoint."
        )


def decide_written(
    z: Float[Tensor, "n n_heads d_head"],
    targets: Int[Tensor, "n"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
    vocabulary: Vocabulary,
    k: int,
    layer: int | None = None,
) -> Iterator[Decisions]:
    """Whether each target is among the k largest (smallest) logits of ``z·W_O·W_U``, head by head.

    By the layer's number its heads are known for later calls.
    """
    z = z.double()
    # Each head's source is its own z, of which it writes everything.
    itself = torch.eye(z.shape[2], dtype=torch.float64, device=z.device)
    heads = [
        OV(itself, W_O[h], z[:, h], None if layer is None else (layer, h), MARGIN)
        for h in range(len(W_O))
    ]
    return decide_heads(z[:, 0], targets, heads, vocabulary, k)


def _names_at_once(
    model: TransformerBridge, batch_size: int | None, n_names: int, n_templates: int
) -> int:
    """How many names to hold at once, whole blocks of those that are run at once."""
    if batch_size is None:
        n_values = output_weights(model, 0)[..., 0].numel()
        bytes_each = len(CONTEXTS) * n_templates * model.cfg.n_layers * n_values * 8
        batch_size = max(1, HELD_BYTES // bytes_each)
    batch_size = check_int("batch_size", batch_size)
    n_rows = _rows_at_once(n_names)
    return min(n_names, -(-batch_size // n_rows) * n_rows)


def _rows_at_once(n_names: int) -> int:
    """Rows of each block, chosen so that the last block needs little filling up."""
    n_blocks = -(-n_names // RUN_TOGETHER)
    return -(-n_names // n_blocks)
