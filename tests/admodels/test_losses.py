"""Every loss against the paper's formula written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from admodels import losses

NAN = float("nan")


def test_huber_is_the_papers_smooth_l1() -> None:
    prediction, target = torch.tensor([0.5, 0.55, 0.9]), torch.tensor([0.5, 0.5, 0.2])
    expected = (0.0 + 0.5 * 0.05**2 + 0.1 * (0.7 - 0.05)) / 3
    assert losses.huber(prediction, target, delta=0.1).item() == pytest.approx(expected, rel=1e-5)


def test_huber_leaves_missing_targets_out() -> None:
    prediction = torch.tensor([0.5, 0.9], requires_grad=True)
    loss = losses.huber(prediction, torch.tensor([0.4, NAN]), delta=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 0.1**2, rel=1e-4)
    assert prediction.grad is not None
    assert prediction.grad[1] == 0.0


def test_cross_entropy_matches_numpy_and_skips_missing_labels() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [0.1, -1.0, 3.0], [9.0, 9.0, 9.0]], np.float32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = losses.cross_entropy(torch.tensor(logits), torch.tensor([1, 2, -1]), smoothing=0.1)
    each = [-(0.9 * log_p[i, k] + 0.1 * log_p[i].mean()) for i, k in ((0, 1), (1, 2))]
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)


def test_cross_entropy_with_class_weights_is_a_weighted_mean() -> None:
    logits, labels, weight = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1.0, 5.0, 0.5])
    ours = losses.cross_entropy(logits, labels, weight=weight)
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, labels, weight=weight))


def test_binary_cross_entropy_of_probabilities_and_of_logits_agree() -> None:
    logits, target = torch.tensor([[-2.0, 0.3], [4.0, 1.0]]), torch.tensor([[0.0, 1.0], [NAN, 0.25]])
    p = 1 / (1 + np.exp(-logits.numpy()))
    t = target.numpy()
    expected = np.nanmean(-t * np.log(p) - (1 - t) * np.log(1 - p))
    assert losses.binary_cross_entropy_logits(logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert losses.binary_cross_entropy(torch.sigmoid(logits), target).item() == pytest.approx(expected, rel=1e-4)


def test_saliency_kl_normalises_the_target_and_skips_samples_without_a_map() -> None:
    target = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32) * 7
    target[1] = 0.0
    predicted = np.random.default_rng(1).random((3, 4, 5)).astype(np.float32)
    predicted /= predicted.sum((1, 2), keepdims=True)
    each = []
    for i in (0, 2):
        gt = target[i] / target[i].sum()
        each.append((gt * np.log((gt + 1e-8) / (predicted[i] + 1e-8))).sum())
    loss = losses.saliency_kl(torch.tensor(target), torch.tensor(predicted))
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-4)


def test_saliency_kl_is_zero_at_the_truth_and_takes_nan_for_missing() -> None:
    gt = torch.rand(2, 8, 8)
    gt = gt / gt.sum((1, 2), keepdim=True)
    assert losses.saliency_kl(gt, gt).item() == pytest.approx(0.0, abs=1e-6)
    gt[0, 0, 0] = NAN
    assert losses.saliency_kl(gt, torch.full_like(gt, 1 / 64)).isfinite()


def test_sparse_mean_and_the_papers_sum() -> None:
    activations = torch.tensor([[[[1.0, -3.0]]], [[[0.0, 2.0]]]])
    assert losses.sparse(activations).item() == pytest.approx(1.5)
    assert losses.sparse(activations, reduction="sum").item() == pytest.approx((4 + 2) / 2)


def test_contrast_is_info_nce_with_one_negative() -> None:
    anchor, positive, negative = (torch.randn(4, 6) for _ in range(3))
    sim = lambda a, b: float(a @ b / (a.norm() * b.norm()))  # noqa: E731
    each = []
    for a, p, n in zip(anchor, positive, negative, strict=True):
        up, down = math.exp(sim(a, p) / 0.1), math.exp(sim(a, n) / 0.1)
        each.append(-math.log(up / (up + down)))
    assert losses.contrast(anchor, positive, negative, tau=0.1).item() == pytest.approx(np.mean(each), rel=1e-4)


def test_info_nce_is_symmetric_and_matches_numpy() -> None:
    text, image, scale = torch.randn(5, 3), torch.randn(5, 3), torch.tensor(math.log(10.0))
    t = text.numpy() / np.linalg.norm(text, axis=1, keepdims=True)
    v = image.numpy() / np.linalg.norm(image, axis=1, keepdims=True)
    logits = t @ v.T * 10
    rows = -np.log(np.exp(logits.diagonal()) / np.exp(logits).sum(1)).mean()
    columns = -np.log(np.exp(logits.diagonal()) / np.exp(logits).sum(0)).mean()
    assert losses.info_nce(text, image, scale).item() == pytest.approx((rows + columns) / 2, rel=1e-4)
    torch.testing.assert_close(losses.info_nce(text, image, scale), losses.info_nce(image, text, scale))


def test_info_nce_clamps_the_scale_at_a_hundred() -> None:
    text, image = torch.randn(4, 3), torch.randn(4, 3)
    at_limit = losses.info_nce(text, image, torch.tensor(math.log(100.0)))
    torch.testing.assert_close(losses.info_nce(text, image, torch.tensor(50.0)), at_limit)


def test_kl_divergences_match_numpy() -> None:
    p, q = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.4, 0.6], [0.9, 0.1]])
    categorical = losses.categorical_kl(torch.tensor(np.log(p)), torch.tensor(np.log(q)))
    assert categorical.item() == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-5)
    bernoulli = losses.bernoulli_kl(torch.tensor(p[:, 0]), torch.tensor(q[:, 0]))
    assert bernoulli.item() == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["huber", "cross_entropy", "binary_cross_entropy_logits", "saliency_kl"])
def test_a_batch_without_labels_costs_nothing_and_still_back_propagates(name: str) -> None:
    x = torch.rand(2, 3, requires_grad=True)
    loss = {
        "huber": lambda: losses.huber(x, torch.full((2, 3), NAN), delta=0.1),
        "cross_entropy": lambda: losses.cross_entropy(x, torch.tensor([-1, -1])),
        "binary_cross_entropy_logits": lambda: losses.binary_cross_entropy_logits(x, torch.full((2, 3), NAN)),
        "saliency_kl": lambda: losses.saliency_kl(torch.zeros(2, 3, 1), x.unsqueeze(-1)),
    }[name]()
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None
    assert (x.grad == 0).all()


def test_marginal_kl_is_summed_over_the_real_steps() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(3), (2, 2, 4))
    kl = (p * np.log(p / q)).sum(-1)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    ours = losses.marginal_kl(torch.tensor(p).log(), torch.tensor(q).log(), mask)
    assert ours.tolist() == pytest.approx([kl[0, :3].sum(), kl[1, 0]])


def test_top_cross_entropy_takes_the_teachers_best_and_skips_rows_without_one() -> None:
    logits = np.array([[2.0, 0.0, 1.0, -1.0], [5.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]], np.float32)
    teacher = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.0] * 4, [NAN, 1.0, 0.0, 0.0]])
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = losses.top_cross_entropy(torch.tensor(logits), teacher, top=2)
    assert loss.item() == pytest.approx(-(0.75 * log_p[0, 1] + 0.25 * log_p[0, 2]), rel=1e-5)
    assert losses.top_cross_entropy(torch.tensor(logits), teacher[1:], top=9).item() == 0.0


def test_clicks_within_a_test_are_a_choice_by_odds_and_impressions() -> None:
    p = torch.tensor([0.2, 0.5, 0.1, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([100.0, 50.0, 10.0, 0.0, 80.0])
    clicks = torch.tensor([3.0, 1.0, 7.0, 0.0, 2.0])
    groups = torch.tensor([4, 4, 2, 4, -1])
    odds = np.array([0.25 * 100, 1.0 * 50])
    expected = -(3 * np.log(odds[0] / odds.sum()) + np.log(odds[1] / odds.sum())) / 4
    loss = losses.clicked_within(p, seen, clicks, groups)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert p.grad is not None
    # Alone in the batch, unseen, or in no test: nothing to choose between.
    assert p.grad[2:].abs().max() == 0
    assert p.grad[0] * 0.2 * 0.8 == pytest.approx(-float(p.grad[1]) * 0.25, rel=1e-5)
