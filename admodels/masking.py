"""Pooling that padding can't reach. B batch, L tokens, D width; masks are B×L, 1 at real tokens."""

from __future__ import annotations

from torch import Tensor

MASKED = -1e4
"""Added to the attention logits of padding: exp() of it is exactly 0 in fp32, and it is finite in fp16."""


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of B×L×D over the tokens whose mask is not 0 → B×D; zeros where no token is left."""
    weights = mask.to(tokens.dtype).unsqueeze(-1)  # B×L×1
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def additive_mask(mask: Tensor) -> Tensor:
    """B×L → float B×1×1×L to add to attention logits: 0 at real tokens, a large negative number at padding."""
    return (1.0 - mask[:, None, None, :].float()) * MASKED
