"""BERT's layers, with a visual prefix in the attention of every one of them.

Shapes: B batch, L tokens, P prefix length, D width, N heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class PrefixLayers(nn.Module):
    """Runs transformers' layers of BERT's kind (BERT, RoBERTa, MiniLM …); they keep their parameters and names.

    forward: hidden B×L×D, bias float B×1×1×L (`additive_mask`), per layer a prefix B×P×2D (keys, then values) that is
    prepended to the layer's own keys and values → B×L×D. Without prefixes it is the plain stack.
    Raises ValueError for layers of another kind.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        for layer in self.layers:
            if not hasattr(getattr(layer, "attention", None), "self"):
                raise ValueError(f"a visual prefix needs layers of BERT's kind, not {type(layer).__name__}")

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, hidden: Tensor, bias: Tensor, prefixes: Sequence[Tensor] | None = None) -> Tensor:
        if prefixes is not None:
            # The prefix is all real: nothing is added to its logits.
            open_prefix = bias.new_zeros((*bias.shape[:3], prefixes[0].shape[1]))
            bias = torch.cat([open_prefix, bias], dim=3)  # B×1×1×(P+L)
        for n, layer in enumerate(self.layers):
            hidden = _run(layer, hidden, bias, None if prefixes is None else prefixes[n])
        return hidden


def _run(layer: nn.Module, hidden: Tensor, bias: Tensor, prefix: Tensor | None) -> Tensor:
    """(12) of MVLA, then the layer's own residual and feed-forward parts."""
    attention = layer.attention
    own = attention.self  # type: ignore[union-attr]
    q, k, v = own.query(hidden), own.key(hidden), own.value(hidden)  # type: ignore[union-attr, operator]
    if prefix is not None:
        keys, values = prefix.chunk(2, dim=2)  # B×P×D
        k, v = torch.cat([keys, k], dim=1), torch.cat([values, v], dim=1)  # B×(P+L)×D
    q, k, v = (x.unflatten(2, (own.num_attention_heads, -1)).transpose(1, 2) for x in (q, k, v))  # type: ignore[union-attr]
    logits = q @ k.transpose(-1, -2) * own.attention_head_size**-0.5 + bias  # type: ignore[union-attr, operator]
    mixed = own.dropout(torch.softmax(logits, dim=-1)) @ v  # type: ignore[union-attr, operator]  # B×N×L×d
    attended = attention.output(mixed.transpose(1, 2).flatten(2), hidden)  # type: ignore[union-attr, operator]
    output: Tensor = layer.output(layer.intermediate(attended), attended)  # type: ignore[operator]
    return output
