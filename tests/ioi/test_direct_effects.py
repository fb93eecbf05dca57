"""Path patching against one plain forward pass for each head, in both of its ways."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.errors import ArchitectureError, ParameterError
from analysis.ioi import activations
from analysis.ioi.ablated_runs import run_with_replaced
from analysis.ioi.activations import run_prompts
from analysis.ioi.attribution import direct_logit_attribution as attributions
from analysis.ioi.backups import effects_after_ablation, template_means
from analysis.ioi.direct_effects import every_head, over_prompts, path_effects
from analysis.models.precision import exact_forward
from analysis.prompts.indirect_object import TEMPLATES, IOIPrompts, ioi_prompts
from tests import ioi_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformer_lens.model_bridge import TransformerBridge

KINDS = ["gpt2", "gpt-neox", "llama"]
Hooks = list[tuple[str, Any]]
TOLERANCE = 1e-6


@torch.no_grad()
def plain_effects(
    model: TransformerBridge,
    prompts: IOIPrompts,
    rows: list[int],
    heads: list[tuple[int, int]],
    always: Hooks | None = None,
    *,
    freeze_mlps: bool = False,
) -> np.ndarray:
    """Run prompts again, a head's output replaced and all later heads frozen, head by head.

    Args:
        model: with any hooks that are to be there in every run (``always``).
        prompts: of which ``rows`` are run, all of one template and so of one length.
        rows: of the prompts.
        heads: to patch.
        always: hooks of every run.
        freeze_mlps: freeze the MLPs too.

    Returns:
        ``[n_rows, n_heads]``.
    """
    with exact_forward(model):
        return _plain_effects(model, prompts, rows, heads, always or [], freeze_mlps)


def _plain_effects(
    model: TransformerBridge,
    prompts: IOIPrompts,
    rows: list[int],
    heads: list[tuple[int, int]],
    always: Hooks,
    freeze_mlps: bool,
) -> np.ndarray:
    frame = prompts.frame.loc[rows]
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
        if freeze_mlps:
            hooks += [(f"blocks.{at}.hook_mlp_out", freeze) for at in (layer, *later)]
        hooks += [(f"blocks.{at}.attn.hook_z", freeze) for at in later]
        effects.append(before - difference(hooks))
    return torch.stack(effects, dim=1).numpy()


def effects_of(model: TransformerBridge, prompts: IOIPrompts, **options: Any) -> Tensor:
    clean = run_prompts(model, prompts)
    other = run_prompts(model, prompts, counterfactual=True)
    return path_effects(model, prompts, clean, other, **options)


@pytest.mark.slow
@pytest.mark.parametrize("freeze_mlps", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_head_of_a_small_model(kind: str, freeze_mlps: bool) -> None:
    model = ioi_models.shared_model(kind)
    prompts = ioi_prompts(model, 12)
    effects = effects_of(model, prompts, freeze_mlps=freeze_mlps).numpy()
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    for _, group in prompts.frame.groupby("template"):
        rows = list(group.index)
        plain = plain_effects(model, prompts, rows, heads, freeze_mlps=freeze_mlps)
        assert np.abs(plain).max() > 0.01
        assert np.abs(effects[rows] - plain).max() < TOLERANCE


@pytest.mark.slow
def test_chosen_heads_are_those_of_all() -> None:
    model = ioi_models.shared_model("llama")
    prompts = ioi_prompts(model, 6)
    some = effects_of(model, prompts, heads=[(2, 1), (1, 3)])
    torch.testing.assert_close(some, effects_of(model, prompts)[:, [7, 9]])


@pytest.mark.slow
def test_the_two_ways_are_different_quantities() -> None:
    model = ioi_models.shared_model("gpt2")
    prompts = ioi_prompts(model, 6)
    again, frozen = (effects_of(model, prompts, freeze_mlps=f) for f in (False, True))
    assert (again - frozen).abs().max() > 0.01
    with pytest.raises(ParameterError, match="freeze_mlps must be True or False"):
        effects_of(model, prompts, freeze_mlps="yes")


@pytest.mark.slow
def test_heads_of_smollm2(smollm2: TransformerBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ioi_prompts(smollm2, 2, seed=1, templates=TEMPLATES[:1])
    monkeypatch.setattr(activations, "RUN_TOGETHER", len(prompts))  # else filled up to 25
    heads = [(3, 4), (20, 1), (23, 3), (24, 4), (29, 1)]
    clean, other = (run_prompts(smollm2, prompts, counterfactual=c) for c in (False, True))
    with exact_forward(smollm2):  # which makes float64 copies of the weights, once for both
        plain = {
            freeze_mlps: plain_effects(smollm2, prompts, [0, 1], heads, freeze_mlps=freeze_mlps)
            for freeze_mlps in (False, True)
        }
    for freeze_mlps, expected in plain.items():
        effects = path_effects(
            smollm2, prompts, clean, other, heads=heads, freeze_mlps=freeze_mlps
        ).numpy()
        assert np.abs(expected).max() > 0.5
        assert np.abs(effects - expected).max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_after_ablation_it_is_the_same_with_the_heads_replaced(kind: str) -> None:
    model = ioi_models.shared_model(kind)
    prompts = ioi_prompts(model, 12, templates=TEMPLATES[:3])
    other = run_prompts(model, prompts, counterfactual=True)
    cases = [[(0, 1), (1, 2)], [(1, 0)]]
    wanted = [(0, 0), (0, 1), (1, 3), (2, 2)]
    found = effects_after_ablation(model, prompts, other, cases, heads=[wanted, wanted])
    for case, after in zip(cases, found, strict=True):
        means = template_means(prompts, other, case)
        for _, group in prompts.frame.groupby("template"):
            rows = list(group.index)
            always: Hooks = []
            for layer, head in case:
                mean = other.z[rows, layer, head].mean(0)
                assert torch.allclose(means[layer, head][rows], mean.to(means[layer, head]))

                def ablate(z: Tensor, hook: Any, head: int = head, mean: Tensor = mean) -> Tensor:
                    z = z.clone()
                    z[:, -1, head] = mean
                    return z

                always.append((f"blocks.{layer}.attn.hook_z", ablate))
            heads = [head for head in wanted if head not in case]
            plain = plain_effects(model, prompts, rows, heads, always)
            mine = after.effects[rows][:, [wanted.index(head) for head in heads]]
            assert np.abs(mine.numpy() - plain).max() < TOLERANCE
    assert float(found[0].effects[:, wanted.index((0, 1))].abs().max()) < 1e-12


@contextmanager
def replacing(
    model: TransformerBridge, prompts: IOIPrompts, replaced: dict[tuple[int, int], Tensor]
) -> Iterator[None]:
    """Let z at END of some heads be something else while all prompts run at once."""
    rows = torch.arange(activations.RUN_TOGETHER).clamp(max=len(prompts) - 1)
    end = prompts.column("end_position")[rows]
    handles = []
    for (layer, head), instead in replaced.items():

        def replace(_: Any, __: Any, z: Tensor, head: int = head, to: Tensor = instead) -> Tensor:
            z = z.clone()
            by_head = z.view(len(rows), -1, model.cfg.n_heads, model.cfg.d_head)
            by_head[torch.arange(len(rows)), end, head] = to[rows].to(z)
            return z

        handles.append(model.blocks[layer].attn.hook_z.register_forward_hook(replace))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_end_alone_are_whole_runs(kind: str) -> None:
    model = ioi_models.shared_model(kind)
    prompts = ioi_prompts(model, 20)
    z = torch.randn(20, model.cfg.d_head, generator=torch.Generator().manual_seed(0))
    cases = [{}, {(1, 2): z, (2, 0): -z}]
    for counterfactual in (False, True):
        found = run_with_replaced(model, prompts, cases, counterfactual=counterfactual)
        for at_end, replaced in zip(found, cases, strict=True):
            with replacing(model, prompts, replaced):
                whole = run_prompts(model, prompts, counterfactual=counterfactual)
            for name in vars(at_end):
                mine, theirs = getattr(at_end, name), getattr(whole, name)
                torch.testing.assert_close(mine, theirs, atol=TOLERANCE, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_is_that_of_transformer_lens(kind: str) -> None:
    from transformer_lens.tools.analysis import direct_logit_attribution

    model, folded = ioi_models.shared_model(kind), ioi_models.random_model(kind)
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


@pytest.mark.slow
def test_what_runs_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ioi_models.planted_bridge()
    prompts = ioi_prompts(model, 40)

    def effects() -> torch.Tensor:
        clean, other = (
            run_prompts(model, prompts, counterfactual=other) for other in (False, True)
        )
        return path_effects(model, prompts, clean, other)

    reference = effects()
    assert torch.equal(effects(), reference), "the same numbers twice"
    for together in (1, 7, 40):
        monkeypatch.setattr(activations, "RUN_TOGETHER", together)
        torch.testing.assert_close(effects(), reference, rtol=0, atol=1e-5)
    means = over_prompts(prompts, direct_effect=every_head(model, reference))
    assert list(means.columns) == ["direct_effect", "direct_effect_low", "direct_effect_high"]
    assert means.index.names == ["layer", "head"]


def test_a_model_in_training_mode_is_refused() -> None:
    model = ioi_models.random_model("gpt2").train()
    with pytest.raises(ArchitectureError, match=r"training mode.*model\.eval\(\)"):
        run_prompts(model, ioi_prompts(model, 2))


@pytest.mark.slow
def test_an_unembedding_bias_is_refused() -> None:
    model = ioi_models.random_model("gpt2")
    prompts = ioi_prompts(model, 2)
    bias = torch.ones(model.cfg.d_vocab)
    model.original_model.lm_head.original_component.bias = torch.nn.Parameter(bias)
    with pytest.raises(ArchitectureError, match=r"unembedding bias|logits identity"):
        run_prompts(model, prompts)


@pytest.mark.slow
def test_prompts_of_another_tokenizer_are_refused() -> None:
    prompts = ioi_prompts(ioi_models.planted_bridge(), 4)
    prompts.tokens[0, 2] += 1
    with pytest.raises(ParameterError, match="other tokens"):
        run_prompts(ioi_models.planted_bridge(), prompts)
