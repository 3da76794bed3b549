"""Feature-wise affine modulation of image features by a text vector (FiLM)."""

from __future__ import annotations

from torch import Tensor, nn

from admodels.layers.initialised import xavier_linear


class Film(nn.Module):
    """features B×C×H×W, text B×D → γ ⊙ features + β, γ and β linear in the text and the same at every position.

    gamma_bias: what γ starts near. 1 passes the image through at the start; 0 (with small weights) nearly removes it.
    """

    def __init__(self, text_dim: int, channels: int, *, gamma_bias: float = 1.0) -> None:
        super().__init__()
        self.gamma = xavier_linear(text_dim, channels, bias=gamma_bias)
        self.beta = xavier_linear(text_dim, channels)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        gamma, beta = self.gamma(text), self.beta(text)  # B×C
        return gamma[:, :, None, None] * features + beta[:, :, None, None]
