"""Pooling that padding can't reach. B batch, L tokens, D width; masks are B×L, 1 at real tokens."""

from __future__ import annotations

import torch
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


def gather_marked(x: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
    """The marked tokens of B×L×D pushed to the left, in order → B×N×D and their mask B×N; N is the longest row's."""
    count = marked.long().sum(1, keepdim=True)  # B×1
    length = max(int(count.max()), 1)
    order = torch.argsort(1 - marked.long(), dim=1, stable=True)[:, :length]  # B×N
    picked = x.gather(1, order[:, :, None].expand(-1, -1, x.shape[2]))
    return picked, torch.arange(length, device=x.device)[None] < count
