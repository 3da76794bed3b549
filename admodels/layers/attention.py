"""Multi-head attention between two sequences. B batch, Q queries, K keys, D width, N heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from admodels.layers.initialised import xavier_linear


class Attention(nn.Module):
    """Scaled dot-product attention: queries B×Q×D, context B×K×E → B×Q×D.

    bias: float, broadcast to B×N×Q×K and added to the logits (`additive_mask`).
    """

    def __init__(self, dim: int, heads: int, *, context_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} isn't a multiple of heads {heads}; choose heads that divide it")
        self.heads = heads
        self.scale = 1.0 / math.sqrt(dim // heads)
        self.query = xavier_linear(dim, dim)
        self.key = xavier_linear(context_dim or dim, dim)
        self.value = xavier_linear(context_dim or dim, dim)
        self.output = xavier_linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        q = self._split(self.query(queries) * self.scale)  # B×N×Q×d
        k, v = self._split(self.key(context)), self._split(self.value(context))  # B×N×K×d
        logits = q @ k.transpose(-1, -2)  # B×N×Q×K
        if bias is not None:
            logits = logits + bias
        mixed = self.dropout(torch.softmax(logits, dim=-1)) @ v  # B×N×Q×d
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # B×Q×D
        return output

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _CrossBlock(nn.Module):
    """One direction: attend to the other sequence, then feed forward, each with residual and LayerNorm behind it."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout=dropout)
        self.norm_attention = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(xavier_linear(dim, hidden), nn.GELU(), xavier_linear(hidden, dim))
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        x = self.norm_attention(x + self.dropout(self.attention(x, context, bias)))
        fed: Tensor = self.norm_feed_forward(x + self.dropout(self.feed_forward(x)))
        return fed


class CrossModalEncoder(nn.Module):
    """Stacked layers in which text and image attend to each other, both reading the layer below.

    image B×V×D, text B×L×D, text_bias B×1×1×L (from `additive_mask`) → the same shapes. Image positions are all real;
    what stands at the text's padding is never read. With 0 layers both come back as they are.
    """

    def __init__(self, dim: int, *, layers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.to_image = nn.ModuleList(_CrossBlock(dim, heads, hidden, dropout) for _ in range(layers))
        self.to_text = nn.ModuleList(_CrossBlock(dim, heads, hidden, dropout) for _ in range(layers))

    def forward(self, image: Tensor, text: Tensor, text_bias: Tensor) -> tuple[Tensor, Tensor]:
        for to_image, to_text in zip(self.to_image, self.to_text, strict=True):
            image, text = to_image(image, text, text_bias), to_text(text, image)
        return image, text
