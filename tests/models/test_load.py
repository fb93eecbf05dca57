"""Loading models by name: folders, the hub, ``auto``; and every way in which that can fail."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from analysis.dynamic.scores import dynamic_scores
from analysis.errors import ArchitectureError, ModelError, ParameterError
from analysis.models import fetch_checkpoint, load_model
from analysis.models import load as models
from analysis.models.admission import admit_runs
from analysis.models.building import building_a_model
from analysis.models.checkpoint import Checkpoint
from analysis.models.checksums import sha256_of, weights_checksum
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL, ModelIdentity, model_identity
from analysis.static.scores import score_heads
from tests import checkpoints
from tests.loopback_hub import LoopbackHub, Repository, point_at
from tests.word_lists import MADE_UP_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transformers import PreTrainedModel

MAKERS = {
    "gpt2-like": checkpoints.gpt2_model,
    "pythia-like": checkpoints.gpt_neox_model,
    "llama-like": checkpoints.llama_model,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small checkpoint per architecture."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = checkpoints.make_tokenizer()
    for name, maker in MAKERS.items():
        checkpoints.save_checkpoint(maker(len(tokenizer)), tokenizer, folder / name)
    return folder


@pytest.fixture
def gpt2(saved: Path, tmp_path: Path) -> Path:
    """A copy of the GPT-2-shaped checkpoint, to be damaged."""
    return shutil.copytree(saved / "gpt2-like", tmp_path / "model")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("analysis.models.hub_listing.ask_hub", refuse)


@pytest.fixture
def hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    gpt2 = Repository(saved / "gpt2-like", PINNED[GPT2_SMALL])
    with LoopbackHub({GPT2_SMALL: gpt2, "team/pythia": Repository(saved / "pythia-like")}) as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


def plain(folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- what is loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.usefixtures("no_network")
def test_a_folder_loads_without_network_as_transformers_has_it(saved: Path, name: str) -> None:
    model = load_model(str(saved / name))
    tokens = torch.tensor([[0, 257, 20, 258, 31]])
    expected = plain(saved / name)(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-5)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model_identity(model) == ModelIdentity(
        name, name, checksum=sha256_of(saved / name / "model.safetensors"), source="folder"
    )


def test_the_weights_are_raw(saved: Path) -> None:
    """Neither folded nor centred: the norms' own weights and biases are still there."""
    state = plain(saved / "gpt2-like").state_dict()
    model = load_model(str(saved / "gpt2-like"))
    assert torch.equal(model.W_E, state["transformer.wte.weight"])
    assert torch.equal(model.W_U.T, state["lm_head.weight"])
    assert torch.equal(model.blocks[0].ln2.weight, state["transformer.h.0.ln_2.weight"])
    assert torch.equal(model.blocks[2].ln1.bias, state["transformer.h.2.ln_1.bias"])


def test_no_random_weights_are_drawn_while_a_model_is_built(saved: Path) -> None:
    before = torch.random.get_rng_state()
    with building_a_model():
        made = torch.nn.Linear(3, 4)
    assert not made.weight.any() and not made.bias.any()
    assert made.weight.requires_grad
    assert load_model(str(saved / "gpt2-like")).W_U.any()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.nn.Linear(3, 4).weight.any()


@pytest.mark.slow
def test_gpt2_that_reorders_its_attention_is_run_and_scored_as_it_is(tmp_path: Path) -> None:
    tokenizer = checkpoints.make_tokenizer(MADE_UP_NAMES)
    plain = checkpoints.gpt2_model(
        len(tokenizer), reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True
    )
    checkpoints.save_checkpoint(plain, tokenizer, tmp_path)
    model = load_model(tmp_path)
    assert admit_runs(model).has("logits")
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids), plain(ids).logits, rtol=1e-4, atol=1e-4)
    loaded = score_heads(model, MADE_UP_NAMES)
    assert (loaded.in_top_k == score_heads(tmp_path, MADE_UP_NAMES).in_top_k).all()
    dynamic_scores(model, MADE_UP_NAMES, ["No <X> means no"])


def test_a_single_name_stays_one_token_in_the_loaded_tokenizer(saved: Path) -> None:
    tokenizer = load_model(str(saved / "llama-like")).tokenizer
    assert tokenizer.encode(" John", add_special_tokens=False) == [257]
    assert len(tokenizer.encode(" Joh", add_special_tokens=False)) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_each_dtype_is_what_the_weights_have(saved: Path, dtype: torch.dtype) -> None:
    model = load_model(str(saved / "llama-like"), dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert model(torch.tensor([[0, 257]])).isfinite().all()


def test_a_sharded_checkpoint_has_one_checksum_for_all_its_shards(saved: Path, gpt2: Path) -> None:
    whole = plain(gpt2)
    (gpt2 / "model.safetensors").unlink()
    whole.save_pretrained(gpt2, max_shard_size="100KB")
    shards = sorted(gpt2.glob("model-*.safetensors"))
    assert len(shards) > 1
    model = load_model(str(gpt2))
    tokens = torch.tensor([[0, 257, 20]])
    torch.testing.assert_close(model(tokens), whole(tokens).logits, rtol=0, atol=1e-5)
    assert model_identity(model).checksum == weights_checksum(shards)
    shards[0].unlink()
    with pytest.raises(ModelError, match=shards[0].name):
        load_model(str(gpt2))


# --- names --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_hub_is_used_through_an_alias_or_an_id_and_not_again(hub: LoopbackHub) -> None:
    fetch_checkpoint("gpt2")
    fetch_checkpoint("team/pythia")
    assert hub.downloads().count("model.safetensors") == 2
    hub.stop()
    identity = model_identity(load_model("gpt2"))
    assert (identity.name, identity.title) == (GPT2_SMALL, "GPT-2")
    assert identity.revision == PINNED[GPT2_SMALL]
    assert model_identity(load_model(GPT2_SMALL)) == identity
    other = model_identity(load_model("team/pythia", revision="main"))
    assert (other.name, other.title, other.revision) == ("team/pythia", "pythia", "1" * 40)


@pytest.mark.slow
def test_an_alias_wins_over_a_folder_of_that_name(
    hub: LoopbackHub, gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt2.rename(gpt2.parent / "gpt2")
    monkeypatch.chdir(gpt2.parent)
    assert model_identity(load_model("gpt2")).source == "hub"
    assert model_identity(load_model("./gpt2")).source == "folder"


def test_the_aliases_titles_are_as_published() -> None:
    titles = {alias: models.TITLES[repo] for alias, repo in models.ALIASES.items()}
    assert titles == {
        "gpt2": "GPT-2",
        "gpt2-small": "GPT-2",
        "gpt2-medium": "GPT-2 Medium",
        "gpt2-large": "GPT-2 Large",
        "gpt2-xl": "GPT-2 XL",
    }


def test_auto_takes_gpt2_where_the_hub_has_it(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_identity(load_model()).name == GPT2_SMALL
    assert capsys.readouterr().out == ""


def test_auto_falls_back_to_the_packaged_model_and_says_so_in_one_sentence(
    hub: LoopbackHub,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packaged = ModelIdentity(models.PACKAGED, models.PACKAGED_TITLE, source="package")  # type: ignore[attr-defined]
    monkeypatch.setattr(
        models, "packaged_checkpoint", lambda *_: Checkpoint(saved / "llama-like", packaged)
    )
    hub.stop()
    start = time.monotonic()
    assert model_identity(load_model()) == packaged
    assert time.monotonic() - start < 20  # huggingface_hub's own attempts take 23 s
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"GPT-2 is not at hand: the hub \(http://\S+\) cannot be reached \(.*refused\) and "
        r"openai-community/gpt2 is not in the local cache; SmolLM2-135M-Instruct, which a Python "
        r"package carries, is used instead\.\n",
        said,
    )


def test_auto_does_not_hide_a_damaged_copy_of_gpt2(hub: LoopbackHub, tmp_path: Path) -> None:
    fetch_checkpoint("gpt2")
    blob = next((tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(ModelError, match=re.escape(f"delete {blob}")):
        load_model()


@pytest.mark.slow
def test_a_fresh_process_obeys_the_environment_and_needs_no_network_for_cached_models(
    hub: LoopbackHub, gpt2: Path, tmp_path: Path
) -> None:
    """As a reader runs it: HF_* from the environment, bars off, then every socket blocked."""
    script = f"""
import socket
from analysis.models import fetch_checkpoint, load_model
fetch_checkpoint("gpt2")
def refuse(*_, **__):
    raise SystemExit("the network was touched")
for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = refuse
import sys
assert not {{"transformers", "transformer_lens"}} & set(sys.modules), "fetching needs neither"
for name in ("gpt2", "auto", {str(gpt2)!r}):
    load_model(name)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "other"),
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "TQDM_DISABLE": "1",
        "PYTHONPATH": str(pathlib.Path(models.__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "model.safetensors" in hub.downloads()


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "  ", None, 7, b"gpt2", ["gpt2"], "a\0b", "\ud800"])
def test_a_name_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ParameterError, match=r"^name "):
        load_model(name)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "gpu"},
        {"device": "cuda:99"},
        {"device": "xpu"},
        {"device": None},
        {"dtype": "float32"},
        {"dtype": torch.int8},
        {"revision": ""},
        {"revision": 3},
        {"revision": "main"},
    ],
)
def test_other_parameters_are_checked_before_anything_is_fetched(options: Any) -> None:
    with pytest.raises(ParameterError, match="|".join(options)):
        load_model("smollm2-135m", **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ParameterError, match="device 'cuda' is not available on this machine"):
        load_model("smollm2-135m", device="cuda")


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "/missing", "~/missing-folder"])
@pytest.mark.usefixtures("no_network")
def test_a_folder_that_does_not_exist_is_said(name: str) -> None:
    with pytest.raises(ModelError, match="does not exist: check the path"):
        load_model(name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["model.safetensors"], r"has no weights \(model.safetensors\): save the model"),
        (["config.json"], r"has no config.json: give a checkpoint"),
        (["tokenizer.json"], r"has no tokenizer \(tokenizer.json\): save"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_a_folder_that_lacks_a_part_is_said(gpt2: Path, files: list[str], message: str) -> None:
    for name in files:
        (gpt2 / name).unlink()
    with pytest.raises(ModelError, match=f"the folder {re.escape(str(gpt2))} {message}"):
        load_model(str(gpt2))


def test_a_file_is_not_taken_for_a_folder(gpt2: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder: give the folder"):
        load_model(str(gpt2 / "model.safetensors"))


def test_pickled_weights_are_never_read(gpt2: Path) -> None:
    (gpt2 / "model.safetensors").unlink()
    torch.save(plain_state(), gpt2 / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only as pickle, which can run code"):
        load_model(str(gpt2))


def plain_state() -> dict[str, torch.Tensor]:
    return {"transformer.wte.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_damaged_weights_are_said(gpt2: Path, content: bytes | None) -> None:
    weights = gpt2 / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] if content is None else content)
    with pytest.raises(ModelError, match=f"{re.escape(str(weights))} is damaged or not safet"):
        load_model(str(gpt2))


def test_weights_that_are_missing_are_never_made_up(gpt2: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(gpt2 / "model.safetensors")
    del weights["transformer.h.1.attn.c_attn.weight"]
    save_file(weights, gpt2 / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of its weights .*h\.1\.attn\.c_attn\.weight"):
        load_model(str(gpt2))


def test_weights_of_other_shapes_than_the_config_says_are_refused(gpt2: Path) -> None:
    edit_json(gpt2 / "config.json", lambda config: config.update(n_embd=16))
    with pytest.raises(ModelError, match=r"gives transformer\.\S+ the shape"):
        load_model(str(gpt2))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_config_is_said(gpt2: Path, content: str) -> None:
    (gpt2 / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json .*: replace it"):
        load_model(str(gpt2))


def test_a_damaged_tokenizer_is_said(gpt2: Path) -> None:
    (gpt2 / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"of model in .* cannot be loaded"):
        load_model(str(gpt2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mystery"}, "transformers does not know"),
        (
            {"model_type": "m", "architectures": ["M"], "auto_map": {"AutoConfig": "run_me.C"}},
            "model is a M: transformer_lens does not boot it",
        ),
        (
            {"architectures": ["GPT2DoubleHeadsModel"]},
            "is a GPT2DoubleHeadsModel: transformer_lens does not boot it",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, "are quantized"),
        ({"text_config": {"quantization_config": {"quant_method": "x"}}}, "are quantized"),
        ({"pruned_heads": {"0": [1]}}, "are pruned"),
        ({"n_head": 0}, r"\(gpt2\) has no attention heads"),
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, "is a MambaForCausalLM"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM"),
        ({"model_type": "bert", "architectures": None}, "is a BertLMHeadModel"),
    ],
)
def test_a_model_that_is_not_supported_is_refused(
    gpt2: Path, change: dict[str, Any], message: str
) -> None:
    edit_json(gpt2 / "config.json", lambda config: config.update(change))
    (gpt2 / "run_me.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(ArchitectureError, match=message):
        load_model(str(gpt2))


def test_code_that_a_known_model_brings_is_not_run(gpt2: Path) -> None:
    (gpt2 / "run_me.py").write_text("raise SystemExit('remote code ran')")
    code = {"auto_map": {"AutoModelForCausalLM": "run_me.Model", "AutoConfig": "run_me.Config"}}
    edit_json(gpt2 / "config.json", lambda config: config.update(code))
    assert model_identity(load_model(str(gpt2))).source == "folder"


def test_a_tokenizer_that_needs_code_is_refused(gpt2: Path) -> None:
    (gpt2 / "run_me.py").write_text("raise SystemExit('remote code ran')")
    code = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["run_me.Mine", None]}}
    edit_json(gpt2 / "tokenizer_config.json", lambda config: config.update(code))
    with pytest.raises(ArchitectureError, match="the tokenizer of model needs code"):
        load_model(str(gpt2))


def test_an_unreachable_hub_says_how_to_go_on(hub: LoopbackHub) -> None:
    hub.stop()
    with pytest.raises(ModelError, match=r"connect to the hub, or use load_model\('smollm2-135m'"):
        load_model("gpt2")


@pytest.mark.parametrize("name", [None, 3, "  ", "https://a.hub/gpt2"])
def test_what_is_neither_a_hub_id_nor_a_folder_is_said(name: Any) -> None:
    with pytest.raises(ParameterError, match="name must be a hub id such as 'gpt2', or a folder"):
        load_model(name)
