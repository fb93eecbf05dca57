"""Exact forward passes against models written out in numpy, under any setting of torch."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from analysis.architecture.float64 import Float64Mode
from analysis.errors import ArchitectureError
from analysis.models import precision
from analysis.models.precision import exact_forward, plain_settings
from analysis.prompts.prefix_cache import build_prefix_cache, prefix_kwargs
from tests import checkpoints, planted
from tests.plain_forward import MAKERS, PlainModel

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer()
TOKENS = torch.randint(1, len(TOKENIZER), (5, 11), generator=torch.Generator().manual_seed(0))
RELATIVE = 1e-12


@functools.cache
def model_of(kind: str, dtype: torch.dtype = torch.float32) -> tuple[PlainModel, TransformerBridge]:
    hf = MAKERS[kind](len(TOKENIZER)).to(dtype)
    plain = PlainModel(hf)
    return plain, planted.boot(hf, TOKENIZER, dtype=dtype)


@contextmanager
def changed(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def default_dtype(dtype: torch.dtype) -> AbstractContextManager[None]:
    return changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


def matmul_precision(level: str) -> AbstractContextManager[None]:
    return changed(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, level)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "none": nullcontext,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "matmul medium": lambda: matmul_precision("medium"),
    "default float16": lambda: default_dtype(torch.float16),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "two threads": lambda: changed(torch.get_num_threads, torch.set_num_threads, 2),
}


def close(found: torch.Tensor, expected: np.ndarray) -> bool:
    assert found.dtype == torch.float64
    error = np.abs(found.numpy() - expected).max()
    return bool(error <= RELATIVE * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", MAKERS)
def test_logits_and_heads_are_those_of_plain_float64(kind: str, setting: str) -> None:
    plain, model = model_of(kind)
    expected = plain(TOKENS)
    with SETTINGS[setting](), exact_forward(model):
        logits, cache = model.run_with_cache(TOKENS)
    assert close(logits, expected)
    assert not logits.requires_grad
    for layer in range(3):
        assert close(cache[f"blocks.{layer}.attn.hook_z"], plain.z[layer])
        assert close(cache[f"blocks.{layer}.attn.hook_pattern"], plain.patterns[layer])


@pytest.mark.parametrize("kind", MAKERS)
def test_float32_would_not_do(kind: str) -> None:
    plain, model = model_of(kind)
    error = np.abs(model(TOKENS).numpy() - plain(TOKENS)).max()
    assert 1e-9 < error < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", MAKERS)
def test_weights_of_any_dtype_are_taken_as_they_are(kind: str, dtype: torch.dtype) -> None:
    plain, model = model_of(kind, dtype)
    with exact_forward(model):
        assert close(model(TOKENS), plain(TOKENS))


@pytest.mark.parametrize("kind", MAKERS)
def test_prompts_that_share_a_beginning_are_those_run_whole(kind: str) -> None:
    plain, model = model_of(kind)
    tokens = TOKENS.clone()
    tokens[:, :4] = tokens[0, :4]
    with exact_forward(model):
        start = build_prefix_cache(model, tokens[:, :7])
        logits = model(tokens[:, 7:], **prefix_kwargs(start, torch.arange(5)))
    assert close(logits, plain(tokens)[:, 7:])


@pytest.mark.parametrize("held", [0, 4096])
def test_weights_that_are_not_held_give_the_same(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, model = model_of("llama")
    monkeypatch.setattr(precision, "HELD_BYTES", held)
    with exact_forward(model):
        assert close(model(TOKENS), plain(TOKENS))


def test_a_hook_in_the_pass_reads_and_writes_float64() -> None:
    _, model = model_of("llama")
    seen = []

    def halve(z: torch.Tensor, hook: Any) -> torch.Tensor:
        seen.append(z.dtype)
        return z / 2

    with exact_forward(model):
        clean = model(TOKENS)
        moved = model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.attn.hook_z", halve)])
    assert seen == [torch.float64] and moved.dtype == torch.float64
    assert float((moved - clean).abs().max()) > 1e-3


# ---- nothing is left behind


def settings_now() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,  # type: ignore[attr-defined]
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_device(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("context", ["exact", "plain"])
def test_settings_are_as_they_were(setting: str, fails: bool, context: str) -> None:
    _, model = model_of("llama")
    with SETTINGS[setting]():
        before = settings_now()
        try:
            with exact_forward(model) if context == "exact" else plain_settings():
                assert torch.empty(0).device.type == "cpu"
                assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
                if fails:
                    raise KeyError
        except KeyError:
            pass
        assert settings_now() == before


@pytest.mark.parametrize("kind", MAKERS)
def test_the_model_is_untouched(kind: str) -> None:
    _, model = model_of(kind)
    inner = model.original_model
    before = {
        name: (id(tensor), tensor.clone())
        for named in (inner.named_parameters(), inner.named_buffers())
        for name, tensor in named
    }
    plain = model(TOKENS)
    with exact_forward(model):
        model(TOKENS)
    for named in (inner.named_parameters(), inner.named_buffers()):
        for name, tensor in named:
            assert id(tensor) == before[name][0] and torch.equal(tensor, before[name][1])
    assert torch.equal(model(TOKENS), plain)


def test_buffers_that_the_pass_replaces_are_put_back() -> None:
    """Dynamic rotary positions are computed again for texts longer than the model's."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    hf = checkpoints.llama_model(len(TOKENIZER), max_position_embeddings=8, rope_parameters=rope)
    model = planted.boot(hf, TOKENIZER)
    buffers = {n: (id(b), b.dtype) for n, b in model.original_model.named_buffers()}
    with exact_forward(model):
        assert model(TOKENS).dtype == torch.float64
    assert {n: (id(b), b.dtype) for n, b in model.original_model.named_buffers()} == buffers


def test_a_buffer_set_by_hand_is_the_models() -> None:
    hf = checkpoints.llama_model(len(TOKENIZER))
    other = copy.deepcopy(hf)
    other.model.rotary_emb.inv_freq *= 1.5
    found = []
    for each in (hf, other):
        model = planted.boot(each, TOKENIZER)
        with exact_forward(model):
            found.append((model(TOKENS), torch.Tensor()))
        assert float((model(TOKENS) - found[-1][0]).abs().max()) < 1e-4
    assert float((found[0][0] - found[1][0]).abs().max()) > 1e-3


# ---- threads


def test_two_threads_on_one_model_get_the_same_as_one() -> None:
    plain, model = model_of("gpt2")
    expected = plain(TOKENS)
    good: list[bool] = []

    def work(factor: float) -> None:
        for _ in range(5):
            with exact_forward(model):
                hook = ("blocks.1.attn.hook_z", lambda z, hook: z * factor)
                logits = model.run_with_hooks(TOKENS, fwd_hooks=[hook])
            good.append(close(logits, expected) == (factor == 1.0))

    threads = [threading.Thread(target=work, args=(f,)) for f in (1.0, 0.0, 1.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(good) == 15 and all(good)


def test_inside_itself_it_is_one() -> None:
    plain, model = model_of("gpt2")
    with exact_forward(model), exact_forward(model):
        assert close(model(TOKENS), plain(TOKENS))
    assert model(TOKENS).dtype == torch.float32


def test_one_model_can_run_inside_another_s_pass() -> None:
    (outer, one), (inner, other) = model_of("llama"), model_of("qwen2")
    with exact_forward(one):
        with exact_forward(other):
            assert close(other(TOKENS), inner(TOKENS))
        assert close(one(TOKENS), outer(TOKENS))


def test_buffers_of_modules_with_weights_are_recomputed_without_a_trace() -> None:
    """GPT-J keeps its sinusoids beside the weights of every attention."""
    from transformers import GPTJConfig, GPTJForCausalLM

    config = GPTJConfig(
        vocab_size=len(TOKENIZER), n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = planted.boot(GPTJForCausalLM(config).eval(), TOKENIZER)
    before = torch.get_rng_state()
    modules = dict(precision._computed_buffers(model.original_model))
    with torch.no_grad():
        found = precision._recomputed(modules)
    assert torch.equal(torch.get_rng_state(), before)
    buffers = [b for own in modules.values() for b in own.values() if b.ndim == 2]
    assert len(buffers) == 2 and all(id(b) in found for b in buffers)
    angle = np.arange(64)[:, None] * 10000.0 ** (-np.arange(0, 4, 2) / 4)
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    assert found[id(buffers[0])].numpy() == pytest.approx(expected, abs=1e-14)


# ---- single functions


def exact(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    with Float64Mode():
        return make()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: torch.arange(1, 4) / 3, np.arange(1, 4) / 3),
        (lambda: 10000.0 ** (torch.arange(3) / 7), 10000.0 ** (np.arange(3) / 7)),
        (lambda: torch.tensor(0.1), np.float64(0.1)),
        (lambda: torch.full((2,), 0.1), np.full(2, 0.1)),
        (lambda: torch.tensor([1, 3], dtype=torch.float32) / 3, np.array([1, 3]) / 3),
        (lambda: torch.arange(3).float() / 7, np.arange(3) / 7),
        (lambda: torch.arange(3).half() / 7, np.arange(3) / 7),
        (lambda: torch.arange(3).to(torch.bfloat16) / 7, np.arange(3) / 7),
        (lambda: torch.arange(3).type(torch.float32) / 7, np.arange(3) / 7),
        (lambda: torch.zeros(2).add_(0.1), np.full(2, 0.1)),
        (lambda: torch.outer(torch.arange(3), torch.tensor([0.1])), np.arange(3)[:, None] * 0.1),
        (lambda: torch.sqrt(torch.tensor(3)), np.sqrt(3.0)),
    ],
)  # fmt: skip
def test_a_function_that_would_choose_float32_gives_float64(
    make: Callable[[], torch.Tensor], expected: np.ndarray
) -> None:
    found = exact(make)
    assert found.dtype == torch.float64
    assert found.numpy() == pytest.approx(expected, rel=1e-15)


def test_what_is_written_in_place_is_written() -> None:
    target = torch.zeros(2)
    with Float64Mode():
        target[0] = torch.tensor(2.0)
        target.add_(torch.ones(2))
    assert target.tolist() == [3.0, 1.0]


def test_a_device_without_float64_is_refused() -> None:
    parameter = SimpleNamespace(device=torch.device("mps"))
    model: Any = SimpleNamespace(
        original_model=SimpleNamespace(parameters=lambda: iter([parameter])),
        cfg=SimpleNamespace(model_name="gpt2"),
    )
    with pytest.raises(ArchitectureError, match="load it with device='cpu'"), exact_forward(model):
        pass


def test_a_token_leads_up_to_the_margin_and_near_ties_are_told() -> None:
    logits = torch.tensor(
        [[3.0, 1.0, 2.0], [3.0, 3.0, 2.0], [3.0, 3.0 + 1e-12, 0.0], [3.0, 3.0 + 1e-6, 0.0]],
        dtype=torch.float64,
    )
    first, near = precision.is_largest(logits[:, 0], logits)
    assert first.tolist() == [True, True, True, False]
    assert near.tolist() == [False, True, True, False]
    other, near = precision.is_largest(logits[:, 1], logits)
    assert other.tolist() == [False, True, True, True]
    assert near.tolist() == [False, True, True, False]
