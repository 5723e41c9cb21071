"""Targets, weights and smoothing are read off the gradient of the logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ftcheck.evidence.supervision import Supervision, supervision
from pytest_ftcheck.observers.update import ForwardPass

ROWS, LENGTH, VOCABULARY = 3, 5, 11


def seen(loss: Tensor, logits: Tensor, scale: float = 1.0) -> Supervision:
    (gradient,) = torch.autograd.grad(loss, logits)
    found = supervision(ForwardPass({}, True, (), logits.detach().float(), gradient.float()), scale)
    assert found is not None
    return found


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(ROWS, LENGTH, VOCABULARY, generator=generator)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    found = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    found[0, :2] = -100
    return found


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)


def test_targets_and_weights_of_a_mean_are_found(logits: Tensor, labels: Tensor) -> None:
    found = seen(cross_entropy(logits, labels), logits)
    assert found.is_cross_entropy
    assert found.smoothing == 0.0
    assert torch.equal(found.targets, labels.masked_fill(labels == -100, -1))
    assert found.count == 13
    torch.testing.assert_close(found.weights[labels != -100], torch.full((13,), 1 / 13))


def test_smoothing_is_told_from_the_target(logits: Tensor, labels: Tensor) -> None:
    found = seen(cross_entropy(logits, labels, smoothing=0.1), logits)
    assert found.is_cross_entropy
    assert found.smoothing == pytest.approx(0.1, abs=1e-4)
    torch.testing.assert_close(found.weights[labels != -100], torch.full((13,), 1 / 13))


def test_a_gradient_in_bfloat16_gives_the_weights_to_a_percent(labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, LENGTH, VOCABULARY, generator=generator).bfloat16().requires_grad_()
    found = seen(cross_entropy(logits.float(), labels), logits)
    assert found.is_cross_entropy
    assert found.is_rounded
    torch.testing.assert_close(found.weights[labels != -100], torch.full((13,), 1 / 13), rtol=0.01, atol=0)


def test_a_token_that_is_all_but_certain_keeps_its_weight(labels: Tensor) -> None:
    logits = torch.zeros(ROWS, LENGTH, VOCABULARY)
    logits.scatter_(-1, labels.clamp_min(0)[..., None], 18.0).requires_grad_()
    found = seen(cross_entropy(logits, labels), logits)
    assert found.is_cross_entropy
    torch.testing.assert_close(found.weights[labels != -100], torch.full((13,), 1 / 13), rtol=1e-3, atol=0)


def test_the_factor_of_a_gradient_scaler_is_no_weight(logits: Tensor, labels: Tensor) -> None:
    found = seen(cross_entropy(logits, labels) * 1024, logits, scale=1024)
    torch.testing.assert_close(found.weights[labels != -100], torch.full((13,), 1 / 13))


@pytest.mark.parametrize("kind", ["divergence", "squares", "unlikelihood", "focal"])
def test_other_losses_are_no_cross_entropy(kind: str, logits: Tensor, labels: Tensor) -> None:
    log_p, fixed = logits.log_softmax(-1), torch.linspace(0, 1, VOCABULARY).softmax(-1)
    at_target = log_p.gather(-1, labels.clamp_min(0)[..., None])
    losses = {
        "divergence": -(fixed * log_p).sum(-1).mean(),
        "squares": (logits**2).mean(),
        "unlikelihood": at_target.mean(),
        "focal": -((1 - at_target.exp()) ** 2 * at_target + 0.1 * logits.logsumexp(-1, keepdim=True) ** 2).mean(),
    }
    found = seen(losses[kind], logits)
    assert not found.is_cross_entropy
    assert found.count == ROWS * LENGTH


def test_without_logits_or_their_gradient_nothing_is_told() -> None:
    assert supervision(ForwardPass({}, True, ())) is None
    assert supervision(ForwardPass({}, True, (), torch.zeros(2, 1), torch.ones(2, 1))) is None
