"""Checkpoints read layer by layer give what loaded ones give, bit for bit."""

from __future__ import annotations

import gc
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.dynamic.agreement import agreement
from analysis.dynamic.scores import dynamic_scores
from analysis.embeddings import EMBEDDINGS, effective_embedding
from analysis.errors import ArchitectureError, ModelError, WeightsError
from analysis.export.places import figure_stem
from analysis.models import load as models
from analysis.models.admission import admit_runs
from analysis.models.checksums import weights_checksum
from analysis.models.load import load_model
from analysis.models.open_checkpoint import open_checkpoint
from analysis.progress import listen_to_progress
from analysis.provenance import GPT2_SMALL
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import score_vocabulary
from analysis.weights import (
    folded_unembedding,
    folded_value_weights,
    output_weights,
    unembedding_matrix,
    value_weights,
)
from tests import checkpoints, planted
from tests.families.tiny import EACH, N_LAYERS, tiny_model
from tests.word_lists import MADE_UP_NAMES

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
TOKENS = planted.name_tokens(TOKENIZER)


def saved(name: str, folder: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB") -> Path:
    model = tiny_model(name, len(TOKENIZER)).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_weights_and_vectors_are_those_of_the_loaded_model(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path)
    lazy, loaded = open_checkpoint(folder), load_model(str(folder))
    assert lazy.cfg.n_layers == loaded.cfg.n_layers == N_LAYERS
    assert torch.equal(unembedding_matrix(lazy), unembedding_matrix(loaded))
    for layer in (0, 2, 1):
        assert torch.equal(value_weights(lazy, layer), value_weights(loaded, layer))
        assert torch.equal(output_weights(lazy, layer), output_weights(loaded, layer))
        found, expected = folded_value_weights(lazy, layer), folded_value_weights(loaded, layer)
        assert torch.equal(found, expected)
    for kind in EMBEDDINGS:
        found = effective_embedding(lazy, TOKENS, kind)
        assert torch.equal(found, effective_embedding(loaded, TOKENS, kind))
    assert torch.equal(folded_unembedding(lazy), folded_unembedding(loaded))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen3-moe", "falcon"])
def test_scores_are_those_of_the_loaded_model(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    folder = saved(name, tmp_path, dtype, shard="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    lazy, loaded = open_checkpoint(folder), load_model(str(folder), dtype=dtype)
    found, expected = (score_heads(m, planted.NAMES, k=3) for m in (lazy, loaded))
    assert np.array_equal(found.in_top_k, expected.in_top_k)
    assert np.array_equal(found.in_bottom_k, expected.in_bottom_k)
    assert found.in_top_k.any() and not found.in_top_k.all()
    assert eigenvalue_scores(lazy).equals(eigenvalue_scores(loaded))


@pytest.mark.slow
def test_the_whole_vocabulary(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    found, expected = (
        score_vocabulary(m) for m in (open_checkpoint(folder), load_model(str(folder)))
    )
    assert found.to_frame().equals(expected.to_frame())


@pytest.mark.slow
def test_a_path_is_enough(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    found = score_heads(str(folder), planted.NAMES)
    assert np.array_equal(
        found.in_top_k, score_heads(load_model(str(folder)), planted.NAMES).in_top_k
    )


@pytest.mark.slow
def test_one_layer_is_held_at_a_time(tmp_path: Path) -> None:
    lazy = open_checkpoint(saved("llama", tmp_path))
    first = value_weights(lazy, 0)
    value_weights(lazy, 1)
    gc.collect()
    # By type(): isinstance asks a proxy for its object, which may be gone.
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    alive = [t for t in tensors if t.shape == first.shape]
    assert sum(torch.equal(t, first) for t in alive) == 1  # the one that is held here
    held = lazy.blocks[1]
    assert lazy.blocks[1] is held


@pytest.mark.slow
@torch.no_grad()
def test_nan_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.2.self_attn.v_proj.weight"][3, 5] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"layers\.2\.self_attn\.v_proj\.weight holds NaN"):
        score_heads(open_checkpoint(folder), planted.NAMES)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.self_attn.o_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 .*layers\.1\.self_attn\.o_proj\.weight"):
        score_heads(open_checkpoint(folder), planted.NAMES)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        open_checkpoint(folder)


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    """Written anew, or gone: the checksum that the scores would bear is of what was opened."""
    folder = saved("llama", tmp_path)
    lazy, file = open_checkpoint(folder), folder / "model.safetensors"
    value_weights(lazy, 0)
    weights = {name: -tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="changed since it was opened"):
        value_weights(lazy, 1)
    file.unlink()
    with pytest.raises(ModelError, match="changed since it was opened"):
        value_weights(lazy, 2)


@pytest.mark.slow
def test_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="load it with load_model"):
        admit_runs(open_checkpoint(saved("llama", tmp_path)))


# ---- which weights they are


def sha256(*files: Path) -> str:
    """Of a file, or of the digests of several in a row, sorted."""
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_scores_by_path_name_the_weights(tmp_path: Path, shard: str) -> None:
    folder = saved("llama", tmp_path / "final", shard=shard)
    files = sorted(folder.glob("*.safetensors"))
    assert (len(files) > 1) == (shard == "20KB")
    found = score_heads(folder, planted.NAMES)
    assert found.model.checksum == sha256(*files)
    recorded = found.provenance["model"]
    assert isinstance(recorded, dict) and recorded["checksum"] == found.model.checksum
    assert found.model == load_model(folder).identity


@pytest.mark.slow
def test_two_folders_of_one_name_are_two_models(tmp_path: Path) -> None:
    """The same checkpoint but for its weights, which are another run's."""
    one = saved("gpt2", tmp_path / "a" / "final")
    other = shutil.copytree(one, tmp_path / "c" / "final")
    weights = {k: -1.3 * v for k, v in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    first, second = (score_heads(str(folder), planted.NAMES) for folder in (one, other))
    assert first.model.name == second.model.name == "final"
    assert first.model != second.model
    assert figure_stem(first) != figure_stem(second)
    assert figure_stem(first) == figure_stem(score_heads(load_model(one), planted.NAMES))


@pytest.mark.slow
def test_scores_by_path_agree_with_those_of_the_running_model(tmp_path: Path) -> None:
    words = (*planted.NAMES, *MADE_UP_NAMES)
    tokenizer = checkpoints.make_tokenizer(words)
    folder = checkpoints.save_checkpoint(
        checkpoints.gpt2_model(len(tokenizer)), tokenizer, tmp_path / "A3"
    )
    running = dynamic_scores(load_model(folder), words, k=20)
    by_path, whole = (
        agreement(score_heads(m, words, k=20), running, 20) for m in (folder, load_model(folder))
    )
    assert by_path.equals(whole)


def test_a_copy_of_published_weights_is_known_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("gpt2", tmp_path / "mine")
    published = {sha256(folder / "model.safetensors"): GPT2_SMALL}
    monkeypatch.setattr(models, "PUBLISHED_WEIGHTS", published)
    opened = open_checkpoint(folder)
    assert (opened.identity.name, opened.identity.title) == (GPT2_SMALL, "GPT-2")
    assert opened.cfg.model_name == GPT2_SMALL


def test_the_checksum_is_read_in_blocks_and_can_be_stopped(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate((2_500_000, 1_000_000, 0, 10)):
        files.append(tmp_path / f"model-{number}.safetensors")
        files[-1].write_bytes(bytes(range(250)) * (size // 250) + b"x" * (size % 250))
    told: list[tuple[int, int]] = []
    with listen_to_progress(lambda done, total, _: told.append((done, total))):
        assert weights_checksum(files) == sha256(*files)
        assert weights_checksum(files[:1]) == sha256(files[0])
    assert [done for done, _ in told] == [*range(6), *range(4)]
    assert {total for _, total in told} == {5, 3}

    class Stop(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise Stop

    with listen_to_progress(stop), pytest.raises(Stop):
        weights_checksum(files)


def test_a_checkpoint_that_is_refused_is_not_read_for_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("llama", tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(models, "weights_checksum", lambda _: pytest.fail("the weights were read"))
    with pytest.raises(ModelError, match="tokenizer"):
        open_checkpoint(folder)
