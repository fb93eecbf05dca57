"""The tables that tell what a model is, against the modules that it is made of."""

from __future__ import annotations

import pytest
from transformer_lens.model_bridge import TransformerBridge

from analysis.provenance import ModelIdentity, set_identity
from analysis.report.model import describe_model, weight_table
from tests import checkpoints, planted

TOKENIZER = checkpoints.make_tokenizer(["Mary", "John"])


@pytest.fixture
def model() -> TransformerBridge:
    return planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)


def test_a_model_is_described_by_its_identity_and_its_config(model: TransformerBridge) -> None:
    set_identity(
        model, ModelIdentity("team/a-model", "A model", "ab" * 20, "cd" * 32, "hub", "halved")
    )
    table = describe_model(model)["value"]
    config = model.original_model.config
    assert table["model"] == "A model"
    assert table["weights"] == "team/a-model at abababababab, halved"
    assert table["SHA-256 of the weights"] == "cdcdcdcdcdcd…"
    assert table["layers"] == config.n_layer
    assert table["heads per layer"] == table["key-value heads per layer"] == config.n_head
    assert table["d_head"] * config.n_head == table["d_model"] == config.n_embd
    assert table["vocabulary"] == config.vocab_size
    assert (table["norm"], table["MLP"]) == ("LayerNorm", "plain")


def test_a_model_of_nobody_knows_no_checksum(model: TransformerBridge) -> None:
    set_identity(model, ModelIdentity("mine", "Mine"))
    table = describe_model(model)["value"]
    assert (table["weights"], table["SHA-256 of the weights"]) == ("mine", "unknown")


def test_the_weight_table_counts_every_matrix_once(model: TransformerBridge) -> None:
    config = model.original_model.config
    d_head = config.n_embd // config.n_head
    table = weight_table(model)
    assert list(table.index) == ["W_E", "W_V", "W_O", "W_U"]
    assert table["shape"].tolist() == [
        f"{config.vocab_size:,} × {config.n_embd:,}",
        f"{config.n_embd:,} × {d_head}",
        f"{d_head} × {config.n_embd:,}",
        f"{config.n_embd:,} × {config.vocab_size:,}",
    ]
    n_heads = config.n_layer * config.n_head
    assert table["count"].tolist() == [1, n_heads, n_heads, 1]
