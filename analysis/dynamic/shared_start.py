"""Running many prompts that begin alike: the beginning is read once, its keys and values kept.

What a causal model does at a position depends on what stands before it, never on what follows.
So the keys and values of a beginning that prompts share, or that an intervention at the last
positions leaves as it is, are computed once and continued, by transformers' own cache, through
the bridge with all its hooks. Rounding aside, the activations are those of the whole prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NO_LOGITS = torch.empty(0, dtype=torch.int64)
"""``logits_to_keep`` of a run whose activations alone are wanted: transformers then leaves out the
product with W_U, where the bridge's ``stop_at_layer`` after the last layer does not."""


@dataclass(frozen=True)
class Start:
    """Keys and values of the first tokens of some prompts.

    Attributes:
        keys: for each layer, a row for each beginning, or one row where all are alike.
        values: likewise.
        config: of the transformers model, which says how each layer caches.
    """

    keys: tuple[Float[Tensor, "n n_kv_heads length d_head"], ...]
    values: tuple[Float[Tensor, "n n_kv_heads length d_head"], ...]
    config: Any

    def cache(self, rows: Int[Tensor, "m"]) -> Any:
        """A fresh cache that begins with some rows; a model that continues it adds to it."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.config)
        for layer, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(key[rows], value[rows], layer)
        return cache


@torch.no_grad()
def read_start(model: TransformerBridge, tokens: Int[Tensor, "n length"]) -> Start | None:
    """Read beginnings of one length; None for no tokens, which leave nothing to keep.

    What all rows begin with is read once for all of them.
    """
    from transformers import DynamicCache

    n, length = tokens.shape
    if length == 0:
        return None
    alike = int((tokens == tokens[0]).all(0).long().cumprod(0).sum()) if n > 1 else 0
    if alike == length:
        alike = 0
        tokens = tokens[:1]
    config: Any = model.original_model.config
    cache: Any = DynamicCache(config=config)
    first = read_start(model, tokens[:1, :alike])
    if first is not None:
        cache = first.cache(torch.zeros(n, dtype=torch.int64, device=tokens.device))
    model(
        tokens[:, alike:],
        past_key_values=cache,
        use_cache=True,
        return_type=None,
        logits_to_keep=NO_LOGITS,
    )
    layers: list[Any] = cache.layers
    return Start(
        keys=tuple(layer.keys.expand(n, -1, -1, -1) for layer in layers),
        values=tuple(layer.values.expand(n, -1, -1, -1) for layer in layers),
        config=config,
    )


def continued(start: Start | None, rows: Int[Tensor, "m"]) -> dict[str, Any]:
    """Arguments with which the model's call takes tokens that follow these rows of a start."""
    if start is None:
        return {}
    return {"past_key_values": start.cache(rows), "use_cache": True}
