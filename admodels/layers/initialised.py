"""Layers with the initialisation that the papers name."""

from __future__ import annotations

from torch import nn


def xavier_linear(inputs: int, outputs: int, *, bias: float = 0.0) -> nn.Linear:
    """A linear layer, Xavier-normal weights, constant bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def he_conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1, He-normal weights for the ReLU behind it, zero bias."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
