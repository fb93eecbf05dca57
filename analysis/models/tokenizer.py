"""The tokenizer of a checkpoint: the one in its files, and no other.

transformers may build another tokenizer than the file describes: for some classes it takes the
vocabulary and merges and leaves the rest out. So what was built encodes some texts, and so does
``tokenizer.json`` by the tokenizers library itself; where they differ, the file's is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.errors import ArchitectureError, ModelError, first_line
from analysis.models.checkpoint import read_json
from analysis.tokenizers import PROBES, encode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""With these, transformers neither asks the hub nor runs code that a checkpoint brings."""


def load_tokenizer(folder: Path, title: str, config: Any) -> Any:
    """The tokenizer as transformer_lens wants it: putting its BOS token first, if it has one.

    ``config`` is a checked one (``model_config``), else transformers would read the checkpoint's.
    """
    import transformers

    settings = folder / "tokenizer_config.json"
    raw = read_json(settings) if settings.is_file() else {}
    code = raw.get("auto_map")
    needs_code = "AutoTokenizer" in code if isinstance(code, dict) else isinstance(code, list)
    if needs_code and not hasattr(transformers, str(raw.get("tokenizer_class"))):
        # transformers would quietly take another tokenizer in its place.
        raise ArchitectureError(
            f"the tokenizer of {title} needs code from its repository to be run, which never "
            "happens here: use another model."
        )
    own = _own_encoder(folder, title)
    kinds: list[Any] = [transformers.PreTrainedTokenizerFast]
    named = (raw.get("tokenizer_class"), getattr(config, "tokenizer_class", None))
    if not any(map(_is_no_tokenizer, named)):
        kinds.insert(0, transformers.AutoTokenizer)
    for kind in kinds:
        if (
            kind is transformers.PreTrainedTokenizerFast
            and not (folder / "tokenizer.json").is_file()
        ):
            break
        chosen = {"config": config} if kind is transformers.AutoTokenizer else {}
        tokenizer = _built(kind, folder, chosen)
        if tokenizer is not None and _encodes_as(tokenizer, own):
            return tokenizer
    raise ArchitectureError(
        f"the tokenizer of {title} cannot be built so that it encodes as its own file does: "
        "save it again with save_pretrained(), or use another model."
    )


def _is_no_tokenizer(name: object) -> bool:
    """Whether a checkpoint names, as its tokenizer's class, something else of transformers.

    ``AutoTokenizer`` would call it: with "AutoModelForCausalLM" it would load a model by the
    unchecked config, kernels of a hub and all.
    """
    import transformers

    if name is None:
        return False
    if not isinstance(name, str):
        return True
    found = [getattr(transformers, f"{name}{end}", None) for end in ("", "Fast")]
    return not all(
        isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizerBase)
        for kind in found
        if kind is not None
    )


def _encodes_as(tokenizer: Any, own: Any) -> bool:
    """Whether two tokenizers give some texts the same ids."""
    try:
        return all(
            encode(tokenizer, text) == own.encode(text, add_special_tokens=False).ids
            for text in PROBES
        )
    except Exception:  # what was built is no tokenizer: its class is the checkpoint's word
        return False


def _own_encoder(folder: Path, title: str) -> Any:
    """The tokenizer that the files describe, by the tokenizers library alone."""
    import tokenizers

    whole = folder / "tokenizer.json"
    try:
        if whole.is_file():
            read_json(whole)
            return tokenizers.Tokenizer.from_file(str(whole))
        return tokenizers.ByteLevelBPETokenizer.from_file(
            str(folder / "vocab.json"), str(folder / "merges.txt")
        )
    except ModelError:
        raise
    except Exception as error:  # the library raises bare Exceptions
        raise ModelError(
            f"the tokenizer of {title} in {folder} cannot be loaded ({first_line(error)}): "
            "replace it."
        ) from error


def _built(kind: Any, folder: Path, chosen: Mapping[str, Any]) -> Any:
    """What transformers makes of the folder; None where this class cannot."""
    try:
        return kind.from_pretrained(folder, add_bos_token=True, **chosen, **LOCAL)
    except Exception:  # it has no BOS, or one that cannot be put first; or the class is not its
        try:
            return kind.from_pretrained(folder, **chosen, **LOCAL)
        except Exception:  # the next class may
            return None


def highest_id(tokenizer: Any) -> int:
    """The highest id that a tokenizer gives, -1 if it gives none; ids may have gaps below it."""
    special = [i for i in tokenizer.all_special_ids if isinstance(i, int)]
    return max([*tokenizer.get_vocab().values(), *special], default=-1)


def check_ids(tokenizer: Any, n_rows: int, title: str) -> None:
    """Refuse a tokenizer that gives ids for which the embedding has no row."""
    highest = highest_id(tokenizer)
    if highest >= n_rows:
        raise ArchitectureError(
            f"the tokenizer of {title} gives ids up to {highest:,}, and its embedding has "
            f"{n_rows:,} rows: resize the embedding (resize_token_embeddings) and save the model "
            "again, or use the tokenizer that it was trained with."
        )
