"""Every head of a real language model against a plain computation from its published weights.

The plain computation reads the checkpoint's safetensors by itself and makes every logit,
``(x·W_V)·(W_O·W_U)``, of every head. It does so in float32, for whose rounding there is a bound:
each product of a row of W_O and a column of W_U is a sum of d_model products, each logit one of
d_head such, so with unit roundoff u a logit is off by at most about
``(d_model + d_head)·u·|x·W_V|·‖W_O‖_F·max_t |w_t|``. What this leaves open is computed again in
float64. No head is left out: of every head each eighth question is asked, beginning with another
of them from head to head, so that every question is asked of an eighth of the heads.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.exact import open_pairs, prefilter
from analysis.models.packaged import packaged_checkpoint
from analysis.names import TokenPairs, load_names, token_pairs
from analysis.static.head_scores import HeadScores
from analysis.static.scores import score_heads, target_ranks

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KS = (1, 5, 10)
TILE, GROUP = 4096, 64  # tokens; the vocabulary is a multiple of both
EVERY = 8
pytestmark = pytest.mark.slow

RELATIONS = (
    "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Russia Moscow, Japan Tokyo, "
    "China Beijing, England London, Greece Athens, Egypt Cairo, big bigger, small smaller, "
    "fast faster, high higher, strong stronger, good better, cat cats, dog dogs, book books, "
    "car cars, child children, man woman, king queen, he she, his her, black white, hot cold, "
    "up down, one two, two three, Monday Tuesday, March April, go went, run running"
)


@dataclass(frozen=True)
class Plain:
    """The model's weights as they stand in its checkpoint."""

    config: dict[str, Any]
    weights: dict[str, Tensor]

    def matrix(self, name: str) -> Tensor:
        """A linear layer's weight so that it is applied from the right, ``x @ matrix``."""
        return self.weights[f"model.layers.{name}.weight"].T

    @property
    def embedding(self) -> Tensor:
        return self.weights["model.embed_tokens.weight"]

    @property
    def unembedding(self) -> Tensor:
        return self.weights.get("lm_head.weight", self.embedding).T

    def first_mlp(self, x: Tensor) -> Tensor:
        """The first block's RMSNorm and gated MLP."""
        gain = self.weights["model.layers.0.post_attention_layernorm.weight"].to(x)
        x = x / (x.square().mean(1, keepdim=True) + self.config["rms_norm_eps"]).sqrt() * gain
        gate = x @ self.matrix("0.mlp.gate_proj").to(x)
        up = x @ self.matrix("0.mlp.up_proj").to(x)
        return (gate * gate.sigmoid() * up) @ self.matrix("0.mlp.down_proj").to(x)

    def heads(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """(W_V, W_O) of every head, in float64; three heads read one key-value head."""
        n_heads, n_kv = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        d_head = self.config["hidden_size"] // n_heads
        W_V = self.matrix(f"{layer}.self_attn.v_proj").double()
        W_O = self.matrix(f"{layer}.self_attn.o_proj").double()
        assert W_V.shape == (self.config["hidden_size"], n_kv * d_head)
        return [
            (
                W_V[:, (kv := head * n_kv // n_heads) * d_head : (kv + 1) * d_head],
                W_O[head * d_head : (head + 1) * d_head],
            )
            for head in range(n_heads)
        ]


@pytest.fixture(scope="module")
def plain() -> Plain:
    from safetensors.torch import load_file

    folder = packaged_checkpoint().folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["hidden_act"]) == ("llama", "silu")
    return Plain(config, load_file(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def names(smollm2: TransformerBridge) -> TokenPairs:
    """All shipped names that are one token."""
    return load_names(smollm2)


@pytest.fixture(scope="module")
def pairs(smollm2: TransformerBridge, names: TokenPairs) -> TokenPairs:
    """Some names and the one of them before it in frequency; and words of other relations."""
    some = names.sources[::4]
    shifted = list(zip(some[1:], some[:-1], strict=True))
    words = [tuple(pair.split()) for pair in RELATIONS.split(", ")]
    usable = token_pairs(smollm2, [*shifted, *words])
    assert len(usable) > len(shifted) + 20
    return usable


Answers = dict[tuple[str, bool, int], Tensor]
"""By kind of question, first_mlp and k: ``[2, n_layers, n_heads, n]``, among the largest and among
the smallest: 1 yes, 0 no, -1 not asked."""


@pytest.fixture(scope="module")
def expected(plain: Plain, names: TokenPairs, pairs: TokenPairs) -> Answers:
    sources = torch.tensor(names.source_tokens + pairs.source_tokens)
    targets = torch.tensor(names.target_tokens + pairs.target_tokens)
    kinds = {"names": slice(0, len(names)), "pairs": slice(len(names), len(sources))}
    embedded = plain.embedding[sources].double()
    passed = plain.first_mlp(embedded)
    W_U = plain.unembedding.contiguous()
    W_U_double = W_U.double()
    longest = W_U.norm(dim=0).max()
    W_OU = torch.empty(0)  # memory that every head uses again
    n_layers, n_heads = plain.config["num_hidden_layers"], plain.config["num_attention_heads"]
    found = torch.full((2, len(KS), 2, n_layers, n_heads, len(sources)), -1, dtype=torch.int8)
    for layer in range(n_layers):
        for head, (W_V, W_O) in enumerate(plain.heads(layer)):
            asked = torch.arange((layer * n_heads + head) % EVERY, len(sources), EVERY)
            W_OU = torch.mm(W_O.float(), W_U, out=W_OU)
            for first_mlp in (True, False):
                values = (passed if first_mlp and layer > 0 else embedded)[asked] @ W_V
                if first_mlp or layer > 0:  # in layer 0 both are the same
                    answers = among_extremes(values, targets[asked], W_OU, W_O, W_U_double, longest)
                found[:, :, int(first_mlp), layer, head, asked] = answers.to(torch.int8)
    return {
        (kind, first_mlp, k): found[:, i, int(first_mlp), :, :, here]
        for kind, here in kinds.items()
        for first_mlp in (True, False)
        for i, k in enumerate(KS)
    }


def largest_and_smallest(values: Tensor, W_OU: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the smallest logit of each source in each group of ``GROUP`` tokens."""
    ends = []
    logits = torch.empty(len(values), TILE)
    for start in range(0, W_OU.shape[1], TILE):
        torch.mm(values, W_OU[:, start : start + TILE], out=logits)
        groups = logits.view(len(values), GROUP, -1)
        ends.append((groups.amax(1), groups.amin(1)))
    largest, smallest = (torch.cat(parts, 1) for parts in zip(*ends, strict=True))
    return largest, smallest


def among_extremes(
    values: Tensor, targets: Tensor, W_OU: Tensor, W_O: Tensor, W_U: Tensor, longest: Tensor
) -> Tensor:
    """For each k, bool ``[2, n_k, n]``: target among the k largest, the k smallest logits.

    Where many groups of tokens hold a logit that beats the target's by more than the rounding, the
    target is not among the largest. All other questions are decided by every logit, in float64.

    Args:
        values: float64 ``x·W_V`` of each question's source.
        targets: token ids.
        W_OU: float32 ``W_O·W_U``.
        W_O: float64.
        W_U: float64.
        longest: length of its longest column.
    """
    single = values.float()
    own = (single * W_OU[:, targets].T).sum(1)
    roundoff = (W_O.shape[0] + W_O.shape[1]) * 2.0**-24
    bound = 2.1 * roundoff * values.norm(dim=1) * W_O.norm() * longest
    largest, smallest = largest_and_smallest(single, W_OU)
    above = (largest > (own + bound)[:, None]).sum(1)
    below = (smallest < (own - bound)[:, None]).sum(1)
    answers = torch.zeros(2, len(KS), len(targets), dtype=torch.bool)
    question = ((above < max(KS)) | (below < max(KS))).nonzero()[:, 0]
    exact = torch.linalg.multi_dot([values[question], W_O, W_U])
    difference = exact - exact.gather(1, targets[question][:, None])
    for direction, more in enumerate((difference > 0, difference < 0)):
        for i, k in enumerate(KS):
            answers[direction, i, question] = more.sum(1) < k
    return answers


Scored = Callable[[str, bool, int], HeadScores]


@pytest.fixture(scope="module")
def scored(smollm2: TransformerBridge, names: TokenPairs, pairs: TokenPairs) -> Scored:
    """Scores of a kind of question, first_mlp and k, each asked once for all tests."""
    asked = {"names": names, "pairs": pairs}

    @functools.cache
    def score(kind: str, first_mlp: bool, k: int) -> HeadScores:
        return score_heads(smollm2, asked[kind], k, first_mlp)

    return score


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("first_mlp", [True, False], ids=["first MLP", "embedding"])
@pytest.mark.parametrize("kind", ["names", "pairs"])
def test_every_head_answers_as_the_plain_computation_does(
    scored: Scored, expected: Answers, kind: str, first_mlp: bool, k: int
) -> None:
    scores = scored(kind, first_mlp, k)
    for found, plainly in zip(
        (scores.in_top_k, scores.in_bottom_k), expected[kind, first_mlp, k].numpy(), strict=True
    ):
        assert found.shape == plainly.shape == (30, 9, scores.n_pairs)
        asked = plainly >= 0
        assert asked.any(2).all()
        assert asked.any((0, 1)).all()
        assert found[asked].tolist() == (plainly[asked] == 1).tolist()
    assert np.array_equal(scores.n_in_top_k, scores.in_top_k.sum(2))
    assert np.array_equal(scores.n_in_bottom_k, scores.in_bottom_k.sum(2))


@pytest.mark.parametrize(
    ("threads", "likely", "block"),
    [(1, 128, 8192), (2, 128, 8192), (2, 16, 1000), (2, 300, 40_000)],
)
def test_threads_and_blocks_change_no_answer(
    smollm2: TransformerBridge,
    names: TokenPairs,
    scored: Scored,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    likely: int,
    block: int,
) -> None:
    usual = scored("names", True, 1)
    monkeypatch.setattr(prefilter, "N_FIRST", likely)
    monkeypatch.setattr(prefilter, "N_EXTREME", 2 * likely)
    monkeypatch.setattr(open_pairs, "LARGEST_BLOCK", block)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = score_heads(smollm2, names)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found.in_top_k, usual.in_top_k)
    assert np.array_equal(found.in_bottom_k, usual.in_bottom_k)


def test_ranks_say_what_every_k_decides(
    smollm2: TransformerBridge, names: TokenPairs, scored: Scored
) -> None:
    heads = [(0, 4), (23, 3), (24, 4)]
    ranks = target_ranks(smollm2, names, heads)
    kept = score_heads(smollm2, names, max_rank=100)
    for head in heads:
        of_head = ranks.loc[head]
        assert of_head.index.get_level_values("source").tolist() == list(names.sources)
        assert kept.ranks_top is not None and kept.ranks_bottom is not None
        assert np.array_equal(kept.ranks_top[head], of_head["larger"].clip(upper=100))
        assert np.array_equal(kept.ranks_bottom[head], of_head["smaller"].clip(upper=100))
    for k in KS:
        scores = scored("names", True, k)
        assert np.array_equal(kept.at_k(k).in_top_k, scores.in_top_k)
        assert np.array_equal(kept.at_k(k).in_bottom_k, scores.in_bottom_k)
    # No token ties with another here, so the two ranks and the target are the whole vocabulary.
    total = ranks["larger"] + ranks["smaller"] + 1
    assert (total == smollm2.cfg.d_vocab).mean() > 0.99


def test_there_is_something_to_find(expected: Answers, names: TokenPairs) -> None:
    """The comparison is not one of zeros: some heads copy or suppress, and more so with k."""
    assert len(names) > 150
    for (_, _, k), answers in expected.items():
        assert (answers == 1).any(), k
    found = expected["names", True, 1]
    copied, suppressed = (found == 1).sum(3) / (found >= 0).sum(3)
    assert copied.max() > 0.3
    assert suppressed.max() > 0.1
