"""The chain against brute force over every label sequence."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from admodels.crf import LinearChainCrf

LABELS, STEPS, BATCH = 3, 4, 3
LENGTHS = (4, 2, 1)


@pytest.fixture
def crf() -> LinearChainCrf:
    torch.manual_seed(0)
    crf = LinearChainCrf(LABELS).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_()
    return crf


@pytest.fixture
def emissions() -> Tensor:
    return torch.randn(BATCH, STEPS, LABELS, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask() -> Tensor:
    return torch.arange(STEPS)[None] < torch.tensor(LENGTHS)[:, None]


def score(crf: LinearChainCrf, emissions: Tensor, path: tuple[int, ...]) -> float:
    total = crf.start[path[0]] + crf.end[path[-1]] + sum(emissions[n, k] for n, k in enumerate(path))
    return float((total + sum(crf.transitions[a, b] for a, b in pairwise(path))).detach())


def distribution(crf: LinearChainCrf, emissions: Tensor, length: int) -> dict[tuple[int, ...], float]:
    scores = {path: score(crf, emissions, path) for path in product(range(LABELS), repeat=length)}
    values = torch.tensor(list(scores.values()), dtype=torch.double)
    return dict(zip(scores, torch.softmax(values, 0).tolist(), strict=True))


def test_log_likelihood(crf: LinearChainCrf, emissions: Tensor, mask: Tensor) -> None:
    labels = torch.tensor([[0, 2, 1, 1], [2, 0, -1, -1], [1, -1, -1, -1]])
    ours = crf.log_likelihood(emissions, labels, mask)
    for b, length in enumerate(LENGTHS):
        p = distribution(crf, emissions[b], length)[tuple(labels[b, :length].tolist())]
        assert ours[b].exp().item() == pytest.approx(p, rel=1e-9)


def test_marginals(crf: LinearChainCrf, emissions: Tensor, mask: Tensor) -> None:
    ours = crf.log_marginals(emissions, mask).exp()
    for b, length in enumerate(LENGTHS):
        paths = distribution(crf, emissions[b], length)
        for n, k in product(range(length), range(LABELS)):
            expected = sum(p for path, p in paths.items() if path[n] == k)
            assert ours[b, n, k].item() == pytest.approx(expected, rel=1e-9)


def test_viterbi(crf: LinearChainCrf, emissions: Tensor, mask: Tensor) -> None:
    for b, (path, length) in enumerate(zip(crf.decode(emissions, mask), LENGTHS, strict=True)):
        paths = distribution(crf, emissions[b], length)
        assert tuple(path) == max(paths, key=lambda p: paths[p])


def test_what_stands_at_padding_changes_nothing(crf: LinearChainCrf, emissions: Tensor, mask: Tensor) -> None:
    other = torch.where(mask[:, :, None], emissions, 1e3)
    labels = torch.zeros(BATCH, STEPS, dtype=torch.long)
    torch.testing.assert_close(crf.log_likelihood(other, labels, mask), crf.log_likelihood(emissions, labels, mask))
    assert crf.decode(other, mask) == crf.decode(emissions, mask)


def test_every_parameter_learns(crf: LinearChainCrf, emissions: Tensor, mask: Tensor) -> None:
    (-crf.log_likelihood(emissions, torch.ones(BATCH, STEPS, dtype=torch.long), mask).sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in crf.parameters())
