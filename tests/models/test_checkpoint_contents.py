"""What a checkpoint's files hold, against what its config and loading make of them."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from analysis import load_names, score_heads
from analysis.errors import AnalysisError, ArchitectureError, ModelError
from analysis.export.places import figure_stem
from analysis.ioi.head_classes import published_classes
from analysis.models import load as models
from analysis.models import load_model
from analysis.models.checksums import sha256_of
from analysis.models.open_checkpoint import open_checkpoint
from analysis.provenance import GPT2_SMALL, model_identity
from tests import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def saved(folder: Path, maker: Callable[..., Any] = checkpoints.gpt2_model, **changes: Any) -> Path:
    tokenizer = checkpoints.make_tokenizer()
    return checkpoints.save_checkpoint(maker(len(tokenizer), **changes), tokenizer, folder / "mine")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- weights that loading would leave out ---------------------------------------------------------


READERS = (load_model, open_checkpoint)
"""A checkpoint as a whole, and read layer by layer: each must refuse the same."""


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3")],
)
@pytest.mark.parametrize("which", ["all", "transformer.h.1.mlp.c_fc.weight"])
def test_weights_whose_scale_nobody_knows_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[..., Any],
    dtype: torch.dtype,
    said: str,
    which: str,
) -> None:
    """The values would be those of the file, a hundred times the model's, or rounded."""
    folder = saved(tmp_path)

    def shrink(stored: dict[str, torch.Tensor]) -> None:
        chosen = list(stored) if which == "all" else [which]
        factor = 1 if dtype.is_floating_point else 100
        stored.update({name: (stored[name] * factor).to(dtype) for name in chosen})

    change_weights(folder, shrink)
    loaded = "transformers.AutoModelForCausalLM.from_pretrained"
    monkeypatch.setattr(loaded, lambda *_, **__: pytest.fail("the weights were read"))
    with pytest.raises(ArchitectureError, match=f"is stored as {said}, which is no floating dtype"):
        read(folder)


@pytest.mark.slow
@pytest.mark.parametrize("read", READERS)
def test_masks_of_older_files_may_be_of_any_dtype(tmp_path: Path, read: Callable[..., Any]) -> None:
    folder = saved(tmp_path)
    mask = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    change_weights(folder, lambda stored: stored.update({"transformer.h.0.attn.bias": mask}))
    assert len(score_heads(read(folder), checkpoints.NAMES).pairs)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("transformer.h.1.attn.c_attn.lora_A.weight", "merge the adapter"),
        ("base_model.model.transformer.h.0.attn.c_proj.lora_B.default.weight", "merge the adapter"),
        ("transformer.h.3.ln_1.weight", "hold 1 weights"),
        ("transformer.h.0.attn.gate.weight", r"attn\.gate\.weight"),
        ("score.weight", r"score\.weight"),
    ],
)
def test_a_weight_without_a_place_is_refused_by_name(
    tmp_path: Path, name: str, said: str, read: Callable[..., Any]
) -> None:
    folder = saved(tmp_path)
    change_weights(folder, lambda weights: weights.update({name: torch.ones(4, 4)}))
    with pytest.raises(ArchitectureError, match=said):
        read(folder)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("maker", "layers", "said"),
    [
        (checkpoints.gpt2_model, {"n_layer": 2}, r"h\.2\.attn"),
        (checkpoints.gpt2_model, {"n_layer": 1}, r"h\.1\.attn"),
        (checkpoints.gpt_neox_model, {"num_hidden_layers": 2}, r"layers\.2\."),
        (checkpoints.llama_model, {"num_hidden_layers": 1}, r"layers\.1\."),
    ],
)
def test_more_layers_than_the_config_says_are_refused(
    tmp_path: Path,
    maker: Callable[..., Any],
    layers: dict[str, int],
    said: str,
    read: Callable[..., Any],
) -> None:
    folder = saved(tmp_path, maker)
    change_json(folder / "config.json", **layers)
    with pytest.raises(ArchitectureError, match=said):
        read(folder)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("maker", "switch", "said"),
    [
        (checkpoints.llama_model, "attention_bias", r"proj\.bias"),
        (checkpoints.llama_model, "mlp_bias", r"proj\.bias"),
        (checkpoints.gpt_neox_model, "attention_bias", r"attention\.\w+\.bias"),
    ],
)
def test_biases_that_the_config_switches_off_are_refused(
    tmp_path: Path,
    maker: Callable[..., Any],
    switch: str,
    said: str,
    read: Callable[..., Any],
) -> None:
    folder = saved(tmp_path, maker, **{switch: True})
    change_json(folder / "config.json", **{switch: False})
    with pytest.raises(ArchitectureError, match=said):
        read(folder)


@pytest.mark.parametrize(
    ("maker", "names"),
    [
        (checkpoints.gpt2_model, ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"]),
        (checkpoints.gpt_neox_model, ["gpt_neox.layers.0.attention.bias"]),
        (checkpoints.gpt_neox_model, ["gpt_neox.layers.1.attention.rotary_emb.inv_freq"]),
        (checkpoints.llama_model, ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
    ],
)
def test_old_masks_and_tables_of_positions_are_known(
    tmp_path: Path, maker: Callable[..., Any], names: list[str]
) -> None:
    folder = saved(tmp_path, maker)
    change_weights(folder, lambda weights: weights.update({name: torch.ones(8) for name in names}))
    for read in READERS:
        assert model_identity(read(folder)).source == "folder"


# --- a config that lies about sizes ---------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"n_embd": 2**20, "n_head": 4},
        {"n_layer": 10**9},
        {"n_layer": 4},
        {"vocab_size": 10**12},
        {"n_positions": 10**9},
        {"n_inner": 10**9},
        {"n_embd": 33},
        {"n_embd": -32},
        {"n_embd": "32"},
        {"n_layer": 0},
        {"vocab_size": None},
    ],
)
def test_a_lie_about_sizes_is_found_before_memory_is_taken(
    tmp_path: Path, lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path)
    change_json(folder / "config.json", **lie)
    monkeypatch.setattr("analysis.models.bridge._weights", lambda *_: pytest.fail("memory taken"))
    for read in READERS:
        with pytest.raises(ModelError):
            read(folder)


# --- the tokenizer --------------------------------------------------------------------------------


def backend(kind: str) -> Any:
    """Tokenizers that transformers' own class for GPT-2 does not rebuild as they are."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    own = checkpoints.make_tokenizer().backend_tokenizer
    if kind == "ignore_merges":
        return own
    if kind == "prefix_space":
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        return own
    if kind == "lowercase":
        own.normalizer = normalizers.Lowercase()
        return own
    words = [f"▁{name}" for name in checkpoints.NAMES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [checkpoints.END, "▁the", *words, *alphabet][:265]  # as many as the embedding's rows
    if kind == "unigram":
        built = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(pieces)], 0))
        built.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        built = Tokenizer(
            models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token=checkpoints.END)
        )
        built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.decoder = decoders.Metaspace()
    return built


@pytest.mark.parametrize("settings", ["kept", "gone"])
@pytest.mark.parametrize(
    "kind", ["ignore_merges", "prefix_space", "lowercase", "unigram", "wordlevel"]
)
def test_the_tokenizer_is_the_files_own(tmp_path: Path, kind: str, settings: str) -> None:
    folder = saved(tmp_path)
    own = backend(kind)
    own.save(str(folder / "tokenizer.json"))
    if settings == "gone":  # a bare tokenizer.json beside a gpt2 config
        (folder / "tokenizer_config.json").unlink()
    text = "the John and Mary, MARY  went 1984"
    try:
        tokenizer = load_model(folder).tokenizer
    except ArchitectureError as error:
        assert "tokenizer of mine cannot be built" in str(error)
        return
    assert (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        == own.encode(text, add_special_tokens=False).ids
    )


def test_names_of_a_unigram_model_are_found(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    backend("unigram").save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").unlink()
    assert load_names(load_model(folder), ["John", "Mary"]).sources == ("John", "Mary")


def test_a_tokenizer_model_alone_is_refused(tmp_path: Path) -> None:
    for name in ("tokenizer.model", "spiece.model"):
        folder = saved(tmp_path / name)
        (folder / "tokenizer.json").rename(folder / name)
        with pytest.raises(ModelError, match=f"only as {name}, which cannot be checked here"):
            load_model(folder)


@pytest.mark.parametrize("words", [("a1", "b2"), tuple(f"w{i}" for i in range(50))])
def test_ids_beyond_the_embedding_are_refused_with_both_numbers(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = saved(tmp_path)
    checkpoints.make_tokenizer((*checkpoints.NAMES, *words)).save_pretrained(folder)
    highest = 264 + len(words)
    for read in READERS:
        with pytest.raises(ArchitectureError, match=f"ids up to {highest}, and its embedding has"):
            read(folder)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["bos_token", "eos_token", "pad_token"])
def test_an_added_special_token_beyond_the_embedding_is_refused(
    tmp_path: Path, kind: str, read: Callable[..., Any]
) -> None:
    folder = saved(tmp_path)
    tokenizer = checkpoints.make_tokenizer()
    tokenizer.add_special_tokens({kind: "<s>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ArchitectureError, match="ids up to 265, and its embedding has 265 rows"):
        read(folder)


# --- what the files ask for -----------------------------------------------------------------------

CODE = """
import pathlib
pathlib.Path({marker!r}).write_text("run")
class X:
    from_pretrained = classmethod(lambda *_, **__: pathlib.Path({marker!r}).write_text("run"))
"""
PICKLE = b"cos\nsystem\n(S'touch %b'\ntR."
ASKS: list[dict[str, dict[str, Any]]] = [
    {"config.json": {"auto_map": {"AutoConfig": "evil.X", "AutoModelForCausalLM": "evil.X"}}},
    {"config.json": {"num_labels": 10**8}},
    {"config.json": {"tp_plan": "auto", "device_map": "auto", "gguf_file": "x", "subfolder": ".."}},
    {"config.json": {"initializer_range": math.nan}},
    {"config.json": {"attribute_map": {"n_layer": "x"}, "__class__": "x", "to_dict": 3}},
    {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.X", None]}}},
    {"tokenizer_config.json": {"auto_map": 3}},
    {"tokenizer_config.json": {"auto_map": "evil.X"}},
    {"tokenizer_config.json": {"tokenizer_class": "AutoModel"}},
    {"tokenizer_config.json": {"tokenizer_class": "os.system"}},
    {"tokenizer_config.json": {"tokenizer_class": ["AutoModel"]}},
    {
        "tokenizer_config.json": {"tokenizer_class": None},
        "config.json": {"tokenizer_class": "AutoModelForCausalLM"},
    },
    {"tokenizer_config.json": {"model_max_length": []}},
    {"tokenizer_config.json": {"vocab_file": "/etc/passwd", "name_or_path": "owner/x"}},
    {"tokenizer_config.json": {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}},
    {"generation_config.json": {"custom_generate": "owner/x"}},
]


@pytest.mark.slow
def test_nothing_that_a_checkpoint_asks_for_is_run_fetched_or_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each either loads without it or is refused; a pickle and code of its own lie beside it."""
    import transformers

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it asks the network"))
    monkeypatch.setattr(
        transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("config unchecked")
    )
    marker = tmp_path / "run"
    whole = saved(tmp_path)
    for place in ("evil.py", "custom_generate/generate.py"):
        (whole / place).parent.mkdir(exist_ok=True)
        (whole / place).write_text(CODE.format(marker=str(marker)))
    (whole / "pytorch_model.bin").write_bytes(PICKLE % str(marker).encode())
    for number, asked in enumerate(ASKS):
        folder = shutil.copytree(whole, tmp_path / str(number))
        for file, changes in asked.items():
            change_json(folder / file, **changes)
        for read in READERS:
            start = time.process_time()
            with contextlib.suppress(AnalysisError):
                read(folder)
            assert time.process_time() - start < 3, asked
            assert not marker.exists(), asked


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_config_with_a_byte_order_mark_or_without_architectures_is_read(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    without = {k: v for k, v in config.items() if k != "architectures"}
    for other in (
        config,
        without,
        {**without, "architectures": None},
        {**without, "architectures": []},
    ):
        for mark in (b"", b"\xef\xbb\xbf"):
            (folder / "config.json").write_bytes(mark + json.dumps(other).encode())
            assert load_model(folder).cfg.n_layers == 3


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_is_refused(tmp_path: Path, whole: bool) -> None:
    folder = saved(tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    if not whole:
        (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds an adapter .*merge it into that model"):
        load_model(folder)
    with pytest.raises(ModelError, match="holds an adapter"):
        open_checkpoint(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    for read in READERS:
        with pytest.raises(ModelError, match="holds an adapter"):
            read(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_known(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path)
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}")
    with pytest.raises(ModelError, match=r"is not the file but a git-lfs pointer .*git lfs pull"):
        load_model(folder)


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": "../outside.safetensors"},
        {"a": "/etc/passwd"},
        {"a": "model.bin"},
        {"a": 3},
        {"a": None},
        {"a": ["x.safetensors"]},
        ["model.safetensors"],
        {},
        None,
        "x",
    ],
)
def test_a_hostile_index_is_refused(tmp_path: Path, weight_map: Any) -> None:
    folder = saved(tmp_path)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="lists"):
        load_model(folder)


def test_json_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        folder = saved(tmp_path / name)
        (folder / name).write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
        with pytest.raises(ModelError, match=r"cannot be (read as JSON|loaded)"):
            load_model(folder)


@pytest.mark.slow
def test_gpt2_in_a_folder_is_known_by_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path)
    weights = folder / "model.safetensors"
    monkeypatch.setattr(models, "PUBLISHED_WEIGHTS", {sha256_of(weights): GPT2_SMALL})
    linked = tmp_path / "my copy"
    linked.symlink_to(folder, target_is_directory=True)
    for path in (folder, linked):
        identity = load_model(path).identity
        assert (identity.name, identity.title, identity.source) == (GPT2_SMALL, "GPT-2", "folder")
        assert len(published_classes(identity)), "so that its classes are drawn"
    change_weights(folder, lambda stored: stored["transformer.wte.weight"].add_(1e-3))
    identity = load_model(folder).identity
    assert identity.name == folder.name and not len(published_classes(identity))


@pytest.mark.slow
def test_checkpoints_of_one_name_in_two_folders_have_figures_of_their_own(tmp_path: Path) -> None:
    stems = []
    for number, run in enumerate(("run1", "run2"), start=1):
        folder = saved(tmp_path / run).rename(tmp_path / run / "checkpoint-500")
        shift = torch.tensor(float(number))
        change_weights(folder, lambda stored: stored["transformer.wte.weight"].add_(shift))  # noqa: B023
        stems.append(figure_stem(score_heads(load_model(folder), checkpoints.NAMES)).name)
    assert stems[0] != stems[1]
    assert all(stem.startswith("checkpoint-500_") for stem in stems)


def test_a_path_and_its_text_are_the_same_model(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert load_model(folder).identity == load_model(str(folder)).identity


@pytest.mark.parametrize("name", ["x" * 300, "./" + "x" * 300, "/" + "x/" * 3000, "~nobody9/x"])
def test_names_longer_than_a_path_can_be_are_refused(name: str) -> None:
    with pytest.raises(AnalysisError):
        load_model(name)


@pytest.mark.slow
@pytest.mark.parametrize("read", [*READERS, lambda folder: score_heads(folder, checkpoints.NAMES)])
@pytest.mark.parametrize("maker", [checkpoints.gpt2_model, checkpoints.llama_model])
def test_loading_leaves_random_numbers_as_they_were(
    tmp_path: Path, maker: Callable[..., Any], read: Callable[..., Any]
) -> None:
    folder = saved(tmp_path, maker)

    def drawn() -> list[float]:
        return [torch.rand(1).item(), float(np.random.random())]

    # Python's own are left out: the run-time checks of array annotations draw some.
    states = torch.get_rng_state(), np.random.get_state()
    expected = drawn()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    read(folder)
    assert drawn() == expected
