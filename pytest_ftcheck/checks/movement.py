"""Checks of what moves: all that trains, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.names import first_few_of
from .check import Finding, check
from .sabotages.movement import BUFFER_MOVES, FROZEN_MOVES, OPTIMIZER_MISSES_HALF

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace

# Buffers that change when a sound model trains: statistics, counters, caches, tables that grow, scales of quantizers.
LIVELY = re.compile(
    r"running_|num_batches|inv_freq|cache|cached|ema|moving|momentum|queue|ptr|count|step|amax|scale|zero_point|observer|"
    r"absmax|quant|correction_bias|causal_mask|position_ids|attention_mask"
)
# AdaLoRA counts in a parameter, and gives it values by itself.
COUNTERS = ("ranknum",)


@check(
    "frozen-stay-bit-identical",
    "parameters",
    "after the training every frozen parameter is, bit for bit, what it was before; base weights under adapters too",
    controls=[FROZEN_MOVES],
    catches=["https://www.ai-trainer-academy.top/blog/guide-to-lora-tuning-parameters"],
)
def frozen_stay_bit_identical(evidence: Evidence) -> Iterator[Finding]:
    trace, final = evidence.trace, evidence.standard.final
    trained = frozenset().union(*(update.trainable for update in trace.updates))
    counters = [name for name in final if any(part.startswith(COUNTERS) for part in name.split("."))]
    frozen = [name for name in trace.initial if name in final and name not in trained and name not in counters]
    if not frozen:
        raise NotApplicable("nothing is frozen")
    moved = [name for name in frozen if _differ(trace.initial[name], final[name])]
    if moved:
        yield Finding(
            summary=f"{len(moved)} of {len(frozen)} frozen tensors changed during the training",
            cause="something other than a gradient wrote to them: an adapter merged and not unmerged, weights loaded, "
            "re-initialised or tied in the middle, or weight decay applied by hand",
            remedy="find what writes to the base model between the first and the last update",
            evidence=(first_few_of(moved), f"largest change {_largest(trace.initial, final, moved):.3g}"),
        )


@check(
    "buffers-stay",
    "parameters",
    "buffers that belong to the weights (those in the state dict, statistics and caches left out) do not change",
    controls=[BUFFER_MOVES],
)
def buffers_stay(evidence: Evidence) -> Iterator[Finding]:
    model, before = evidence.trace.model, evidence.trace.initial_buffers
    saved = set(model.state_dict())
    after = {name: b for name, b in model.named_buffers() if name in saved and b.is_floating_point()}
    watched = [name for name in after if name in before and not LIVELY.search(name.lower())]
    if not watched:
        raise NotApplicable("the model has no saved buffer that should stay")
    moved = [name for name in watched if _differ(before[name], after[name])]
    if moved:
        yield Finding(
            summary=f"{len(moved)} of {len(watched)} buffers changed during the training",
            cause="an operation in place (add_, copy_) on a tensor that every later forward pass uses",
            remedy="write to a copy",
            evidence=(first_few_of(moved),),
        )


@check(
    "every-trainable-moves",
    "parameters",
    "every trainable parameter that gets a gradient is moved by an optimizer",
    controls=[OPTIMIZER_MISSES_HALF],
    catches=["https://github.com/adapter-hub/adapters/issues/260"],
)
def every_trainable_moves(evidence: Evidence) -> Iterator[Finding]:
    trace, final = evidence.trace, evidence.standard.final
    pushed = {name for update in trace.updates for name, gradient in update.gradients.items() if bool(gradient.any())}
    moving = [name for name in trace.initial if name in pushed and name in final and trace.trainable[name]]
    still = [name for name in moving if not _differ(trace.initial[name], final[name])]
    for cause, remedy, names in _why_still(still, trace, len(still) == len(moving)):
        yield Finding(
            summary=f"{len(names)} of {len(moving)} trainable tensors with gradients did not move in "
            f"{len(trace.updates)} updates",
            cause=cause,
            remedy=remedy,
            evidence=(first_few_of(names),),
        )


def _why_still(still: list[str], trace: Trace, is_all: bool) -> Iterator[tuple[str, str, list[str]]]:
    """(cause, remedy, names) of those that did not move. Updates that are lost to rounding are not among them: they
    are a matter of the learning rate and the dtype.
    """
    rates: dict[str | None, float] = {}
    for group in (group for update in trace.updates for group in update.groups):
        for name in group.names:
            rates[name] = max(rates.get(name, 0.0), float(group.settings.get("lr", 0.0)))
    without = [name for name in still if name not in rates]
    at_zero = [name for name in still if rates.get(name) == 0.0]
    if without:
        yield (
            "no optimizer holds them: it was built before they were made, or a parameter group was forgotten",
            "build the optimizer last, from every parameter with requires_grad",
            without,
        )
    if at_zero:
        yield (
            "their learning rate is 0 in every update",
            "look at the schedule, and at the rate of their group",
            at_zero,
        )
    if is_all and still and not without and not at_zero and _in_float32(still, trace):
        yield (
            "the weights were put back after they had been trained (a checkpoint loaded, a copy restored)",
            "leave the trained weights in job.model when train(job) returns",
            still,
        )


def _in_float32(names: list[str], trace: Trace) -> bool:
    import torch

    return all(torch.finfo(trace.initial[name].dtype).bits >= 32 for name in names)


def _differ(before: Tensor, after: Tensor) -> bool:
    """Whether they differ in any bit that counts; two NaN in the same place do not."""
    import torch

    if before.shape != after.shape or before.dtype != after.dtype:
        return True
    return not torch.equal(before.nan_to_num(), after.detach().to(before.device).nan_to_num())


def _largest(initial: dict[str, Tensor], final: dict[str, Tensor], names: list[str]) -> float:
    comparable = [name for name in names if initial[name].shape == final[name].shape]
    sizes = [float((final[name].float() - initial[name].float()).abs().max()) for name in comparable]
    return max(sizes, default=float("nan"))
