"""DBAFN: attractiveness score and heatmap of an ad (Wang 2026, Traitement du Signal 43(2), doi 10.18280/ts.430213).

Shapes: B batch, L tokens, D text width, T text hidden width, C channels, S grid side, P = S·S positions.

    (1) Dbafn.reduce            (2)–(3) _TextVector.forward     (4) layers.film.Film
    (5)–(6) _GlobalBranch       (7)–(8) _LocalBranch            (9) _Gate
    (10) Dbafn.score            (11)–(16) loss and admodels.losses; decoder: _Decoder

What differs from the paper, and where its form is an option:
- the text's mean is over real tokens (`text_pool="padded"` divides their sum by PADDED_TOKENS, as the paper does, which
  makes short copy weak; the paper also adds what RoBERTa says at padding, which depends on the batch's width);
- γ starts at 1 (`gamma_bias=0.0` is the paper's, which nearly removes the image at first);
- global attention reads the P positions and the text (`global_attention="single"` is the paper's one-token form,
  which is the identity on V whatever Q and K are: they are left out);
- A is multiplied by P, so that its mean is 1: a softmax over P positions would scale F_local to 1/P of f_global;
- the gate's linear layer may be low-rank (`gate_rank`) and frozen features may be standardised (`normalise_maps`) at
  small sizes;
- `modulation`, `local_branch` and `gate` may be left out, as in the paper's ablation (contrast and sparsity by their
  weights): without the gate the branches are added, without the local branch f_global_expand stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from admodels.layers.attention import Attention
from admodels.layers.film import Film
from admodels.layers.initialised import he_conv, xavier_linear
from admodels.layers.multiscale import Concatenate, Resize
from admodels.losses import contrast as contrastive
from admodels.losses import cross_entropy, huber, saliency_kl, sparse
from admodels.masking import masked_mean

ENTITIES = ("none", "price", "discount", "brand", "product")
PADDED_TOKENS = 64
"""What (3) divides by: the paper pads every text to it."""
ENTITY_THRESHOLD = 0.8


class Output(NamedTuple):
    """score B in [0, 1]; heatmap B×H×W, fp32, sums to 1 per sample; the rest is for the losses."""

    score: Tensor
    heatmap: Tensor
    fused: Tensor
    """B×C, GAP(F_fuse): the vector that the contrast compares."""
    activations: Tensor
    """B×c×2S×2S, the decoder's first layer: what L_sparse sums."""
    entity_logits: Tensor
    """B×L×5, classes as in `ENTITIES`."""

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name."""
        return {"score": self.score, "heatmap": self.heatmap}


class Targets(NamedTuple):
    """Labels of a batch, each of which may be missing for some samples or for all.

    score: B in [0, 1], NaN missing. saliency: B×H×W ≥ 0 of any scale, all zero missing. entities: int64 B×L, −1
    missing.
    """

    score: Tensor | None = None
    saliency: Tensor | None = None
    entities: Tensor | None = None


class Weights(NamedTuple):
    """λ1–λ3 of (12), the entity head's weight, δ of (14), τ of (16)."""

    saliency: float = 0.5
    sparse: float = 0.01
    contrast: float = 0.1
    entities: float = 1.0
    delta: float = 0.1
    tau: float = 0.1
    sparse_reduction: Literal["mean", "sum"] = "mean"


PAPER_WEIGHTS = Weights()


class Dbafn(nn.Module):
    """The head over encoder features; the defaults are the paper's size.

    map_channels, map_sizes: of the maps, finest first; they are resampled to `grid`, by default the last
    one's (a finer one gives the heatmap more detail). text_dim: width of
    the tokens. heatmap_size: the side of the heatmap.
    forward: maps B×C×S×S each, tokens B×L×D, mask int64 B×L.
    """

    def __init__(
        self,
        *,
        map_channels: Sequence[int],
        map_sizes: Sequence[int],
        text_dim: int,
        text_hidden: int = 768,
        channels: int = 512,
        heads: int = 4,
        score_hidden: int = 256,
        decoder_channels: int = 128,
        heatmap_size: int = 384,
        dropout: float = 0.3,
        gate_rank: int | None = None,
        gamma_bias: float = 1.0,
        text_pool: Literal["masked", "padded"] = "masked",
        global_attention: Literal["spatial", "single"] = "spatial",
        normalise_maps: bool = False,
        grid: int | None = None,
        modulation: bool = True,
        local_branch: bool = True,
        gate: bool = True,
    ) -> None:
        super().__init__()
        if not (local_branch or gate):
            raise ValueError("without local branch and gate nothing says where in the image; leave one of them")
        grid = grid or map_sizes[-1]
        self.concatenate = Concatenate(map_channels, map_sizes, grid, normalise=normalise_maps)
        self.reduce = nn.Sequential(he_conv(self.concatenate.channels, channels, 1), nn.ReLU())
        self.text = _TextVector(text_dim, text_hidden, dropout, padded=text_pool == "padded")
        self.film = Film(text_hidden, channels, gamma_bias=gamma_bias) if modulation else None
        self.global_branch: nn.Module = (
            _GlobalBranch(channels, text_hidden, heads, dropout)
            if global_attention == "spatial"
            else _SingleTokenBranch(channels, text_hidden, dropout)
        )
        self.local_branch = _LocalBranch(channels, dropout) if local_branch else None
        self.gate = _Gate(channels, grid, dropout, rank=gate_rank, weigh=local_branch) if gate else None
        self.score = nn.Sequential(
            xavier_linear(channels, score_hidden), nn.ReLU(), nn.Dropout(dropout), xavier_linear(score_hidden, 1)
        )
        self.decoder = _Decoder(channels, decoder_channels, grid, heatmap_size, dropout)

    def forward(self, maps: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Output:
        image = self.reduce(self.concatenate(maps))  # (1) B×C×S×S
        text, entity_logits = self.text(tokens, mask)  # (2)–(3) B×T
        modulated = image if self.film is None else self.film(image, text)  # (4) B×C×S×S
        local = None if self.local_branch is None else self.local_branch(modulated)  # (7)–(8) B×C×S×S
        fused = self._fuse(self.global_branch(modulated, text), local)  # (5)–(6), (9) B×C×S×S
        pooled = fused.mean((2, 3))  # B×C
        heatmap, activations = self.decoder(fused)
        return Output(
            score=torch.sigmoid(self.score(pooled).squeeze(1)),  # (10) B
            heatmap=heatmap,
            fused=pooled,
            activations=activations,
            entity_logits=entity_logits,
        )

    def _fuse(self, global_vector: Tensor, local: Tensor | None) -> Tensor:
        if self.gate is None:
            assert local is not None
            return local + global_vector[:, :, None, None]
        fused: Tensor = self.gate(global_vector, local)
        return fused


class _TextVector(nn.Module):
    """Tokens B×L×D, mask B×L → text vector B×T and entity logits B×L×5.

    The threshold passes no gradient: the entity head learns from labelled spans alone.
    """

    def __init__(self, text_dim: int, hidden: int, dropout: float, *, padded: bool) -> None:
        super().__init__()
        self.padded = padded
        self.entities = xavier_linear(text_dim, len(ENTITIES))
        self.project = nn.Sequential(xavier_linear(2 * text_dim, hidden), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.entities(tokens)  # B×L×5
        best = torch.softmax(logits, dim=-1)[:, :, 1:].amax(-1)  # B×L
        entity = masked_mean(tokens, (best > ENTITY_THRESHOLD) & mask.bool())  # (2) B×D
        pooled = _padded_mean(tokens, mask) if self.padded else masked_mean(tokens, mask)  # (3) B×D
        return self.project(torch.cat([pooled, entity], dim=1)), logits


def _padded_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """B×L×D as if padded with zeros to PADDED_TOKENS, whatever the batch's width → B×D."""
    return (tokens * mask.to(tokens.dtype).unsqueeze(-1)).sum(1) / PADDED_TOKENS


class _GlobalBranch(nn.Module):
    """(5)–(6) over space: the query is GAP(F') ⊕ T, keys and values are the positions of F' and the text → B×C."""

    def __init__(self, channels: int, text_hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query = xavier_linear(channels + text_hidden, channels)
        self.text = xavier_linear(text_hidden, channels)
        self.attention = Attention(channels, heads, dropout=dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, modulated: Tensor, text: Tensor) -> Tensor:
        query = self.query(torch.cat([modulated.mean((2, 3)), text], dim=1))[:, None]  # B×1×C
        context = torch.cat([modulated.flatten(2).transpose(1, 2), self.text(text)[:, None]], dim=1)  # B×(P+1)×C
        vector: Tensor = self.norm(self.attention(query, context).squeeze(1))
        return vector


class _SingleTokenBranch(nn.Module):
    """(5)–(6) as printed: attention of GAP(F') ⊕ T over itself, one token, hence the identity on V → B×C."""

    def __init__(self, channels: int, text_hidden: int, dropout: float) -> None:
        super().__init__()
        self.value = xavier_linear(channels + text_hidden, channels)
        self.output = xavier_linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, modulated: Tensor, text: Tensor) -> Tensor:
        value = self.value(torch.cat([modulated.mean((2, 3)), text], dim=1))  # B×C
        vector: Tensor = self.norm(self.output(self.dropout(value)))
        return vector


class _LocalBranch(nn.Module):
    """(7)–(8): F' B×C×S×S → A ⊙ V, where A = P · softmax(qᵀK / √C) has a mean of 1 over the positions."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.key = nn.Sequential(he_conv(channels, channels, 1), nn.ReLU(), nn.Dropout(dropout))
        self.value = nn.Sequential(he_conv(channels, channels, 1), nn.ReLU(), nn.Dropout(dropout))
        self.query = nn.Sequential(xavier_linear(channels, channels), nn.ReLU(), nn.Dropout(dropout))
        self.scale = channels**-0.5

    def forward(self, modulated: Tensor) -> Tensor:
        query = self.query(modulated.mean((2, 3))) * self.scale  # B×C
        key, value = self.key(modulated), self.value(modulated)  # B×C×S×S
        alpha = torch.softmax(query[:, None] @ key.flatten(2), dim=-1)  # B×1×P
        weights = alpha * alpha.shape[-1]
        return weights.unflatten(2, value.shape[2:]) * value


class _Gate(nn.Module):
    """(9): f_global B×C, F_local B×C×S×S → G ⊙ F_local + (1 − G) ⊙ f_global_expand; without F_local the last alone."""

    def __init__(self, channels: int, grid: int, dropout: float, *, rank: int | None, weigh: bool = True) -> None:
        super().__init__()
        self.shape = (channels, grid, grid)
        size = channels * grid * grid
        linear = [xavier_linear(channels, size)] if rank is None else [nn.Linear(channels, rank), nn.Linear(rank, size)]
        self.expand = nn.Sequential(*linear, nn.ReLU(), nn.Dropout(dropout))
        self.weigh = (
            nn.Sequential(
                he_conv(2 * channels, channels, 3), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(channels, 1, 3, padding=1)
            )
            if weigh
            else None
        )

    def forward(self, global_vector: Tensor, local: Tensor | None) -> Tensor:
        expanded: Tensor = self.expand(global_vector).unflatten(1, self.shape)  # B×C×S×S
        if self.weigh is None or local is None:
            return expanded
        gate = torch.sigmoid(self.weigh(torch.cat([expanded, local], dim=1)))  # B×1×S×S
        return gate * local + (1.0 - gate) * expanded


class _Decoder(nn.Module):
    """F_fuse B×C×S×S → heatmap B×H×H, a distribution over its pixels, and the first layer's output B×c×2S×2S.

    Four convolutions: up twofold, smooth, up twofold, and after the bilinear rest of the way one to a single channel.
    The softmax is in fp32 in every precision: its mean value, 6.8e-6 at 384×384, is subnormal in fp16.
    """

    def __init__(self, channels: int, hidden: int, grid: int, heatmap_size: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(channels, hidden, 4, stride=2, padding=1), nn.ReLU())
        self.refine = nn.Sequential(
            he_conv(hidden, hidden // 2, 3),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.ConvTranspose2d(hidden // 2, hidden // 4, 4, stride=2, padding=1),
            nn.ReLU(),
            Resize(4 * grid, heatmap_size),
            nn.Conv2d(hidden // 4, 1, 3, padding=1),
        )

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        first = self.up(fused)  # B×c×2S×2S
        logits = self.refine(first).squeeze(1).float()  # B×H×H
        heatmap = torch.softmax(logits.flatten(1), dim=1).unflatten(1, logits.shape[1:])
        return heatmap, first


def loss(
    output: Output,
    targets: Targets,
    *,
    contrast: tuple[Tensor, Tensor] | None = None,
    weights: Weights = PAPER_WEIGHTS,
) -> dict[str, Tensor]:
    """(12) by term, and their weighted sum as `total`; terms without labels are left out.

    contrast: `fused` of the enhanced and of the degraded variant of the same images, copy unchanged.
    """
    terms = {"sparse": sparse(output.activations, reduction=weights.sparse_reduction)}
    total = weights.sparse * terms["sparse"]
    if targets.score is not None:
        terms["score"] = huber(output.score, targets.score, delta=weights.delta)
        total = total + terms["score"]
    if targets.saliency is not None:
        terms["saliency"] = saliency_kl(targets.saliency, output.heatmap)
        total = total + weights.saliency * terms["saliency"]
    if contrast is not None:
        terms["contrast"] = contrastive(output.fused, *contrast, tau=weights.tau)
        total = total + weights.contrast * terms["contrast"]
    if targets.entities is not None:
        terms["entities"] = cross_entropy(output.entity_logits, targets.entities)
        total = total + weights.entities * terms["entities"]
    return {"total": total, **terms}
