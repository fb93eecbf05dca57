"""What heads do when a family's model runs, against plain Hugging Face and plain patching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.dynamic.scores import dynamic_scores
from analysis.errors import ArchitectureError
from analysis.models.admission import check_additive
from analysis.models.families import EVERYTHING, FAMILIES
from analysis.prompts.indirect_object import TEMPLATES, ioi_prompts
from tests import checkpoints, ioi_models, planted
from tests.families import plain
from tests.families.tiny import N_HEADS, N_LAYERS, TINY, Case
from tests.ioi.test_direct_effects import effects_of, plain_effects
from tests.word_lists import MADE_UP_NAMES as NAMES

TOKENIZER = checkpoints.make_tokenizer([*NAMES, *ioi_models.WORDS])
TEMPLATE = "No <X> means no"
K = 10
"""A fair share of the answers is yes; k itself is nothing of a family's."""
REFUSED_FOR_6 = {"opt-projected"}
"""Variants that differ from their family in this."""
BY_ARCHITECTURE = {family.architecture: family for family in FAMILIES}


@torch.no_grad()
def mixed_by_heads(model: Any, tokens: Tensor) -> Tensor:
    """What each head mixes at the last position, ``[n_layers, n_heads, n_texts, d_head]``.

    It is what enters the layer that holds W_O, in the model as transformers runs it.
    """
    given: list[Tensor] = []
    handles = []
    for layer in range(N_LAYERS):
        attention = plain.attention_of(model, layer)
        names = ("o_proj", "out_proj", "dense", "c_proj")
        last = next(getattr(attention, name) for name in names if hasattr(attention, name))
        handles.append(last.register_forward_pre_hook(lambda _m, args: given.append(args[0])))
    model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([z[:, -1].unflatten(-1, (N_HEADS, -1)).transpose(0, 1) for z in given])


@pytest.mark.slow
@torch.no_grad()
def test_with_context_is_what_transformers_computes(case: Case) -> None:
    model, bridge = case.plain, case.bridge
    texts = [TEMPLATE.replace("<X>", word) for word in NAMES]
    tokens = torch.cat([bridge.to_tokens(text) for text in texts])
    targets, rows = planted.name_tokens(TOKENIZER, NAMES), torch.arange(len(NAMES))
    z = mixed_by_heads(model, tokens).double()
    W_U, agreed = plain.unembedding(model), []
    found = dynamic_scores(bridge, NAMES, [TEMPLATE], k=K)
    for layer in range(N_LAYERS):
        W_O = plain.output_matrices(model, layer).double() * plain.attention_gain(model, layer)
        logits = z[layer] @ W_O @ W_U
        own = logits[:, rows, targets][..., None]
        distance = (logits - own).abs().masked_fill(logits == own, float("inf"))
        clear = distance.amin(-1) > 1e-4 * logits.abs().amax(-1)
        for answers, expected in (
            (found.in_top_k[0, 0, layer], (logits > own).sum(-1) < K),
            (found.in_bottom_k[0, 0, layer], (logits < own).sum(-1) < K),
        ):
            agreed.append(clear.double().mean())
            assert np.array_equal(answers[clear.numpy()], expected[clear].numpy())
    assert torch.stack(agreed).mean() > 0.8
    assert found.in_top_k.any() and found.in_bottom_k.any()


@pytest.mark.slow
def test_path_patching_is_plain_patching_where_notebook_6_runs(case: Case) -> None:
    name, bridge = case.name, case.bridge
    bias = getattr(case.plain.get_output_embeddings(), "bias", None)
    family = BY_ARCHITECTURE[TINY[name].architecture]
    prompts = ioi_prompts(bridge, 6, names=ioi_models.NAMES, templates=TEMPLATES[:1])
    if family.notebooks != EVERYTHING or name in REFUSED_FOR_6:
        with pytest.raises(ArchitectureError):
            effects_of(bridge, prompts)
        assert family.why_not or name in REFUSED_FOR_6
        assert bias is not None or "bias" not in family.why_not
        return
    check_additive(bridge)
    effects = effects_of(bridge, prompts).flatten(1).numpy()
    heads = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
    patched = plain_effects(bridge, prompts, list(range(6)), heads)
    assert np.abs(patched).max() > 1e-3
    assert np.abs(effects - patched).max() < 1e-3 * max(1.0, np.abs(patched).max())
