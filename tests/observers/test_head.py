"""Logits that a fused loss never shows are worked out from the hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from language_models import tiny_t5

from pytest_ftcheck.observers.head import HeadInput
from pytest_ftcheck.tasks.instruction import tiny_llama

IDS = torch.randint(3, 64, (2, 6), generator=torch.Generator().manual_seed(0))


def recovered(sign: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """What is recovered, and the true logits with their gradient."""
    model: Any = tiny_llama().eval().to(dtype)
    head = HeadInput(model)
    logits = model(input_ids=IDS).logits
    logits.retain_grad()
    loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), IDS[:, 1:].flatten())
    head.release()
    (sign * loss).backward()
    return head.logits(10**6), logits.detach().float(), logits.grad.float()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logits_and_their_gradient_are_those_of_the_head(sign: float) -> None:
    found, logits, gradient = recovered(sign)
    torch.testing.assert_close(found[0], logits)
    torch.testing.assert_close(found[1], gradient, rtol=1e-3, atol=1e-6)


def test_in_bfloat16_they_are_as_exact_as_their_source() -> None:
    found, _, gradient = recovered(dtype=torch.bfloat16)
    assert torch.equal(found[1], found[1].bfloat16().float())
    assert float((found[1] - gradient).norm() / gradient.norm()) < 0.02


def test_another_loss_is_not_explained() -> None:
    model: Any = tiny_llama().eval()
    head = HeadInput(model)
    (model(input_ids=IDS).logits ** 2).mean().backward()
    assert head.logits(10**6) is None


def test_more_than_may_be_kept_is_not_made() -> None:
    model: Any = tiny_llama()
    head = HeadInput(model)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert head.logits(10) is None


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), tiny_t5()])
def test_models_that_do_not_say_what_their_head_is_are_left_alone(model: Any) -> None:
    assert HeadInput(model).logits(10**6) is None


def test_positions_that_are_not_taught_have_no_gradient() -> None:
    found, _, gradient = recovered()
    assert torch.equal(found[1].norm(dim=-1) > 0, gradient.norm(dim=-1) > 0)
