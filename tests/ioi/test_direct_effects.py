"""Path patching against one forward pass for each head with everything between frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from analysis.errors import ArchitectureError, ParameterError
from analysis.ioi import activations
from analysis.ioi.activations import run_prompts
from analysis.ioi.backups import after_removal, template_means
from analysis.ioi.direct_effects import attributions, direct_effects, path_effects
from analysis.prompts.indirect_object import TEMPLATES, IOIPrompts, ioi_prompts
from tests import ioi_models

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = ["gpt2", "gpt-neox", "llama"]
Hooks = list[tuple[str, Any]]


@torch.no_grad()
def plain_effects(
    model: TransformerBridge,
    prompts: IOIPrompts,
    rows: list[int],
    heads: list[tuple[int, int]],
    always: Hooks | None = None,
) -> np.ndarray:
    """Run prompts again, a head's output replaced and everything after it frozen, head by head.

    Args:
        model: with any hooks that are to be there in every run (``always``).
        prompts: of which ``rows`` are run, all of one template and so of one length.
        rows: of the prompts.
        heads: to patch.
        always: hooks of every run.

    Returns:
        ``[n_rows, n_heads]``.
    """
    frame, always = prompts.frame.loc[rows], always or []
    (length,) = set(frame["end_position"] + 1)
    batch = torch.arange(len(rows))
    io, s = (torch.tensor(frame[f"{name}_token"].to_numpy()) for name in ("io", "s"))
    tokens = prompts.tokens[rows, :length]

    def difference(hooks: Hooks) -> Tensor:
        logits = model.run_with_hooks(tokens, fwd_hooks=[*always, *hooks])[:, -1].double()
        return logits[batch, io] - logits[batch, s]

    with model.hooks(fwd_hooks=always):
        _, clean = model.run_with_cache(tokens)
        _, other = model.run_with_cache(prompts.counterfactual_tokens[rows, :length])
    before = difference([])

    def freeze(value: Tensor, hook: Any) -> Tensor:
        return clean[hook.name]

    effects = []
    for layer, number in heads:

        def replace(z: Tensor, hook: Any, number: int = number) -> Tensor:
            z = z.clone()
            z[:, -1, number] = other[hook.name][:, -1, number]
            return z

        later = range(layer + 1, model.cfg.n_layers)
        hooks: Hooks = [(f"blocks.{layer}.attn.hook_z", replace)]
        hooks += [(f"blocks.{at}.hook_mlp_out", freeze) for at in (layer, *later)]
        hooks += [(f"blocks.{at}.hook_attn_out", freeze) for at in later]
        effects.append(before - difference(hooks))
    return torch.stack(effects, dim=1).numpy()


def effects_of(model: TransformerBridge, prompts: IOIPrompts) -> Tensor:
    clean = run_prompts(model, prompts)
    other = run_prompts(model, prompts, counterfactual=True)
    return path_effects(model, prompts, clean, other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_of_a_small_model(kind: str) -> None:
    model = ioi_models.random_model(kind)
    prompts = ioi_prompts(model, 12)
    effects = effects_of(model, prompts).flatten(1).numpy()
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    for _, group in prompts.frame.groupby("template"):
        rows = list(group.index)
        plain = plain_effects(model, prompts, rows, heads)
        assert np.abs(plain).max() > 0.01
        assert np.abs(effects[rows] - plain).max() < 1e-4


def test_twenty_heads_of_smollm2(smollm2: TransformerBridge) -> None:
    prompts = ioi_prompts(smollm2, 4, seed=1, templates=TEMPLATES[:1])
    effects = effects_of(smollm2, prompts).flatten(1)
    largest = effects.abs().mean(0).argsort(descending=True)
    chosen = torch.cat([largest[:10], largest[10::26][:10]])
    heads = [divmod(index, smollm2.cfg.n_heads) for index in chosen.tolist()]
    assert len(set(heads)) == 20
    plain = plain_effects(smollm2, prompts, [0, 1, 2, 3], heads)
    assert np.abs(plain).max() > 0.5
    assert np.abs(effects[:, chosen].numpy() - plain).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_after_removal_it_is_the_same_with_the_heads_replaced(kind: str) -> None:
    model = ioi_models.random_model(kind)
    prompts = ioi_prompts(model, 12, templates=TEMPLATES[:2])
    other = run_prompts(model, prompts, counterfactual=True)
    removed = [(0, 1), (1, 2)]
    after = after_removal(model, prompts, other, removed)
    means = template_means(prompts, other, removed)
    for template, group in prompts.frame.groupby("template"):
        rows = list(group.index)
        always: Hooks = []
        for layer, head in removed:
            mean = other.z[rows, layer, head].mean(0)
            assert torch.allclose(means[layer, head][rows].double(), mean), template

            def ablate(z: Tensor, hook: Any, head: int = head, mean: Tensor = mean) -> Tensor:
                z = z.clone()
                z[:, -1, head] = mean
                return z

            always.append((f"blocks.{layer}.attn.hook_z", ablate))
        heads = [(0, 0), (1, 3), (2, 2)]
        plain = plain_effects(model, prompts, rows, heads, always)
        mine = torch.stack([after.effects[rows, layer, head] for layer, head in heads], dim=1)
        assert np.abs(mine.numpy() - plain).max() < 1e-4
    assert all(float(after.effects[:, layer, head].abs().max()) == 0 for layer, head in removed)


@pytest.mark.parametrize("kind", KINDS)
def test_attribution_is_that_of_transformer_lens(kind: str) -> None:
    from transformer_lens.tools.analysis import direct_logit_attribution

    model, folded = ioi_models.random_model(kind), ioi_models.random_model(kind)
    # Its value biases stay where they are: folded away, they would be no head's.
    folded.enable_compatibility_mode(fold_value_biases=False, disable_warnings=True)
    prompts = ioi_prompts(model, 4)
    mine = attributions(model, prompts, run_prompts(model, prompts))
    for i, row in prompts.frame.iterrows():
        theirs = direct_logit_attribution(
            folded,
            prompts.tokens[i : i + 1, : row["end_position"] + 1],
            row["io_token"],
            row["s_token"],
            unit="head",
        )
        by_head = theirs.attribution.flatten()[: mine[i].numel()].double()
        assert theirs.labels[1] == "L0H1"
        torch.testing.assert_close(by_head, mine[i].flatten(), atol=1e-4, rtol=1e-4)


def test_what_runs_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ioi_models.planted_bridge()
    prompts = ioi_prompts(model, 40)
    reference = direct_effects(model, prompts)
    assert direct_effects(model, prompts).equals(reference), "the same numbers twice"
    for together in (1, 7, 40):
        monkeypatch.setattr(activations, "RUN_TOGETHER", together)
        pd.testing.assert_frame_equal(
            direct_effects(model, prompts), reference, check_exact=False, rtol=0, atol=1e-5
        )
    assert list(reference.columns[:3]) == [
        "direct_effect",
        "direct_effect_low",
        "direct_effect_high",
    ]
    assert reference.index.names == ["layer", "head"]


def test_a_model_in_training_mode_is_refused() -> None:
    model = ioi_models.random_model("gpt2").train()
    with pytest.raises(ArchitectureError, match=r"training mode.*model\.eval\(\)"):
        run_prompts(model, ioi_prompts(model, 2))


def test_an_unembedding_bias_is_refused() -> None:
    model = ioi_models.random_model("gpt2")
    prompts = ioi_prompts(model, 2)
    bias = torch.ones(model.cfg.d_vocab)
    model.original_model.lm_head.original_component.bias = torch.nn.Parameter(bias)
    with pytest.raises(ArchitectureError, match="unembedding bias"):
        run_prompts(model, prompts)


def test_prompts_of_another_tokenizer_are_refused() -> None:
    prompts = ioi_prompts(ioi_models.planted_bridge(), 4)
    prompts.tokens[0, 2] += 1
    with pytest.raises(ParameterError, match="other tokens"):
        run_prompts(ioi_models.planted_bridge(), prompts)
