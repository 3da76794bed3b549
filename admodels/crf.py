"""Linear-chain conditional random field. B batch, N steps, K labels.

score(y) = start[y₁] + Σ P[n, yₙ] + Σ transitions[yₙ, yₙ₊₁] + end[y_N]; p(y) = softmax over all label sequences.
Masks are B×N, true at real steps, a prefix of every row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearChainCrf(nn.Module):
    """Holds the transition scores (randomly initialised); emissions B×N×K come from outside."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(labels).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(labels).uniform_(-0.1, 0.1))
        self.transitions = nn.Parameter(torch.empty(labels, labels).uniform_(-0.1, 0.1))

    def log_likelihood(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """log p(labels) per sample → B. labels int64 B×N (any value where masked)."""
        return self._score(emissions, labels.clamp(min=0), mask.bool()) - self._forward(emissions, mask.bool())[1]

    def log_marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """log p(yₙ = k) → B×N×K; rows at masked steps are meaningless."""
        mask = mask.bool()
        alpha, log_z = self._forward(emissions, mask)
        return alpha + self._backward(emissions, mask) - log_z[:, None, None]

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> list[list[int]]:
        """Viterbi: the most probable labels of each sample, as long as its mask."""
        mask = mask.bool()
        score = self.start + emissions[:, 0]  # B×K
        back: list[Tensor] = []
        for n in range(1, emissions.shape[1]):
            best, previous = (score[:, :, None] + self.transitions).max(1)  # over the label before → B×K
            score = torch.where(mask[:, n, None], best + emissions[:, n], score)
            back.append(previous)
        last = (score + self.end).argmax(1)
        return [self._trace(back, int(last[b]), b, int(mask[b].sum())) for b in range(len(emissions))]

    @staticmethod
    def _trace(back: list[Tensor], label: int, sample: int, length: int) -> list[int]:
        path = [label]
        for n in range(length - 2, -1, -1):
            path.append(int(back[n][sample, path[-1]]))
        return path[::-1]

    def _score(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        here = emissions.gather(2, labels[:, :, None]).squeeze(2)  # B×N
        step = self.transitions[labels[:, :-1], labels[:, 1:]]  # B×(N−1)
        last = labels.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        return self.start[labels[:, 0]] + (here * mask).sum(1) + (step * mask[:, 1:]).sum(1) + self.end[last]

    def _forward(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """log α B×N×K (emission of its own step included) and log Z B."""
        alpha = [self.start + emissions[:, 0]]
        for n in range(1, emissions.shape[1]):
            step = torch.logsumexp(alpha[-1][:, :, None] + self.transitions, dim=1) + emissions[:, n]
            alpha.append(torch.where(mask[:, n, None], step, alpha[-1]))
        return torch.stack(alpha, dim=1), torch.logsumexp(alpha[-1] + self.end, dim=1)

    def _backward(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """log β B×N×K."""
        beta = [self.end.expand_as(emissions[:, 0])]
        for n in range(emissions.shape[1] - 1, 0, -1):
            step = torch.logsumexp(self.transitions + (emissions[:, n] + beta[0])[:, None, :], dim=2)
            beta.insert(0, torch.where(mask[:, n, None], step, beta[0]))
        return torch.stack(beta, dim=1)
