"""Probe of the loss that keeps the load of experts balanced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import NotApplicable
from ..models import build
from ..probe import probe

if TYPE_CHECKING:
    from torch import Tensor


ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"


@probe(
    "balance-loss-leaves-out-padding",
    "loss",
    "the load-balancing loss of experts is that of the real tokens",
    library="transformers",
    cause="padding takes part in the routing statistics, or the mask is applied in the wrong order",
    cases=lambda: ("mixtral", "qwen2-moe", "qwen3-moe", "olmoe", "gpt-oss"),
    needs="transformers>=4.38",
    links=[f"{PULLS}28256", f"{ISSUES}28115"],
)
def balance_loss(name: str, seed: int) -> Iterator[str]:
    import importlib

    import torch

    base = type(build(name)).__module__
    function = getattr(importlib.import_module(base), "load_balancing_loss_func", None)
    if function is None:
        raise NotApplicable("the installed release has no load_balancing_loss_func")
    generator = torch.Generator().manual_seed(5)
    gates = tuple(torch.randn(2 * 6, 4, generator=generator) for _ in range(2))
    plain = function(gates, 4, 2)
    ones = function(gates, 4, 2, torch.ones(2, 6).long())
    if not abs(float(plain) - float(ones)) <= 1e-4:
        yield f"{float(plain):.5f} without a mask and {float(ones):.5f} with one of ones"
    wanted = _balance(gates, 4, 2)
    if not abs(float(plain) - wanted) <= 1e-4:
        yield f"{float(plain):.5f} instead of {wanted:.5f}: experts × Σ share of tokens × mean probability"
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    kept = tuple(gate[mask.reshape(-1).bool()] for gate in gates)
    padded, wanted = float(function(gates, 4, 2, mask)), float(function(kept, 4, 2))
    if not abs(padded - wanted) <= 1e-4:
        yield f"{padded:.5f} with two padded positions and {wanted:.5f} without them"


def _balance(gates: tuple[Tensor, ...], experts: int, chosen: int) -> float:
    import torch

    probabilities = torch.cat(gates).softmax(-1)
    picked = probabilities.topk(chosen).indices
    share = torch.nn.functional.one_hot(picked, experts).float().mean(0).sum(0)
    return float(experts * (share * probabilities.mean(0)).sum())
