"""Running many prompts that begin alike: the beginning is read once, its keys and values kept.

What a causal model does at a position depends on what comes before it, never on what follows. So
the keys and values of a beginning that prompts share, or that an intervention at the last positions
leaves as it is, are computed once. A pass that continues them is given them as transformers' own
cache, through the bridge with all its hooks. Rounding aside, the activations are those of the whole
prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from analysis.errors import ArchitectureError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NO_LOGITS = torch.empty(0, dtype=torch.int64)
"""``logits_to_keep`` of a run whose activations alone are wanted: transformers then leaves out the
product with W_U, where the bridge's ``stop_at_layer`` after the last layer does not."""


ROWS = 256
"""Beginnings that are read at once."""
LIMIT, LIMIT_FLOAT32 = 1e-8, 1e-2
"""Difference of logits, as a share of their range, that rounding may make in float64, and in less.
"""


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of the first tokens of some prompts, in parts that follow one another.

    Attributes:
        parts: for each part and layer the keys and the values, ``[n, n_kv_heads, length, d_head]``
            with a row for each beginning, or one row where all are alike; of the dtype in which the
            model ran, float64 in ``exact_forward``.
        config: of the transformers model, which says how each layer caches.
    """

    parts: tuple[tuple[tuple[Tensor, Tensor], ...], ...]
    config: Any

    def cache(self, rows: Int[Tensor, "m"]) -> Any:
        """A fresh cache that begins with some rows; a model that continues it adds to it."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.config)
        for part in self.parts:
            for layer, (keys, values) in enumerate(part):
                cache.update(_rows(keys, rows), _rows(values, rows), layer)
        return cache


def _rows(kept: Tensor, rows: Int[Tensor, "m"]) -> Tensor:
    return kept.expand(len(rows), -1, -1, -1) if len(kept) == 1 else kept[rows]


@torch.no_grad()
def build_prefix_cache(
    model: TransformerBridge,
    tokens: Int[Tensor, "n length"],
    *,
    following: Int[Tensor, "n n_following"] | None = None,
) -> PrefixCache | None:
    """Read beginnings of one length; None for no tokens, which leave nothing to keep.

    What all rows begin with is read, and kept, once for all of them.

    Args:
        model: to be continued.
        tokens: the beginnings.
        following: what comes after them. The first prompt is then also read whole, and must give
            the same logits at its end.

    Raises:
        ArchitectureError: the beginnings are longer than the model's sliding window, so that their
            keys would not be kept whole; or the model goes on from a beginning in another way than
            it reads the whole prompt (a cache that is cut, positions that change with the length,
            attention to what follows).
    """
    length = tokens.shape[1]
    config: Any = model.original_model.config
    window = getattr(config, "sliding_window", None)
    if window and length >= window:
        raise ArchitectureError(
            f"{model.cfg.model_name} attends to the last {window} tokens only, and the prompts "
            f"have {length} or more; use shorter ones."
        )
    alike = int((tokens == tokens[0]).all(0).long().cumprod(0).sum())
    prefix = PrefixCache((), config)
    for piece in (tokens[:1, :alike], tokens[:, alike:]):
        if piece.shape[1]:
            prefix = _continued(model, prefix, piece)
    if not prefix.parts:
        return None
    if following is not None:
        _check_continuation(model, prefix, tokens[:1], following[:1])
    return prefix


def _check_continuation(
    model: TransformerBridge,
    prefix: PrefixCache,
    tokens: Int[Tensor, "1 length"],
    following: Int[Tensor, "1 n_following"],
) -> None:
    first = torch.zeros(1, dtype=torch.int64, device=tokens.device)
    whole = torch.cat([tokens, following], 1)
    expected = model(whole)[0, -1].double()
    found = model(following, **prefix_kwargs(prefix, first))[0, -1].double()
    size = float(expected.max() - expected.min())
    error = float((found - expected).abs().max()) / max(size, torch.finfo(torch.float64).tiny)
    limit = LIMIT if prefix.parts[0][0][0].dtype == torch.float64 else LIMIT_FLOAT32
    if not error <= limit:
        raise ArchitectureError(
            f"{model.cfg.model_name} reads {whole.shape[1]} tokens in another way where the "
            f"first {tokens.shape[1]} have been read before: the logits differ by {error:.1g} "
            "of their size. Use shorter prompts, or another model."
        )


def _continued(
    model: TransformerBridge, prefix: PrefixCache, tokens: Int[Tensor, "n length"]
) -> PrefixCache:
    """A prefix with one more part."""
    n, length = tokens.shape
    blocks: list[list[tuple[Tensor, Tensor]]] = []
    for rows in torch.arange(n, device=tokens.device).split(ROWS):
        cache = prefix.cache(rows)
        model(
            tokens[rows],
            past_key_values=cache,
            use_cache=True,
            return_type=None,
            logits_to_keep=NO_LOGITS,
        )
        layers: list[Any] = cache.layers
        # Copies: views would keep the whole cache, with the beginning once more for each row.
        blocks.append(
            [(la.keys[:, :, -length:].clone(), la.values[:, :, -length:].clone()) for la in layers]
        )
    part = tuple(
        (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
        for layer in zip(*blocks, strict=True)
    )
    return PrefixCache((*prefix.parts, part), prefix.config)


def prefix_kwargs(prefix: PrefixCache | None, rows: Int[Tensor, "m"]) -> dict[str, Any]:
    """Arguments with which the model's call takes tokens that follow these rows of a prefix."""
    if prefix is None:
        return {}
    return {"past_key_values": prefix.cache(rows), "use_cache": True}
