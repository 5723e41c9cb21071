"""Checks of what a training holds whatever its batches are: weights, gradients, buffers, optimizer state."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..report.units import size
from ..theory.memory import STATES
from ..theory.parameters import ADAPTERS
from .check import Finding, check
from .sabotages.memory import FROZEN_GRADIENTS, SQUARE_BUFFER, STATE_DOUBLED, WEIGHTS_COPIED, WEIGHTS_HELD_TWICE

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence

# Copies of less than this share of all weights are nobody's memory problem (two tables of positions, say).
NOTABLE_SHARE = 0.25


@check(
    "optimizer-state-as-the-closed-form",
    "memory",
    "the optimizer holds as many bytes of state as its algorithm needs for what trains",
    controls=[STATE_DOUBLED],
    catches=["https://arxiv.org/abs/1711.05101"],
)
def optimizer_state_as_the_closed_form(evidence: Evidence) -> Iterator[Finding]:
    ours = {id(p): name for name, p in evidence.trace.model.named_parameters()}
    known = [(one, copies) for one in evidence.trace.optimizers if (copies := _states(one)) is not None]
    if not known:
        raise NotApplicable("no optimizer with a closed form (Adam, AdamW, SGD) was seen")
    for optimizer, copies in known:
        held = {id(p): _state_bytes(state) for p, state in optimizer.state.items() if id(p) in ours}
        needed = {id(p): copies * _bytes(p) for p in _parameters(optimizer) if id(p) in held}
        odd = [ours[key] for key in needed if held[key] != needed[key]]
        if odd or sum(held.values()) != sum(needed.values()):
            yield Finding(
                summary=f"{size(sum(held.values()))} of state in {type(optimizer).__name__}; its algorithm needs "
                f"{size(sum(needed.values()))} for {len(needed)} tensors",
                evidence=(f"with another size: {', '.join(odd[:3])}{', ...' if len(odd) > 3 else ''}",),
                cause="the state was made in another dtype than the parameters', or for their shapes before a cast or "
                "a resize, or something else is stored in it (copies of weights or gradients)",
                remedy="make the optimizer after the model has its final dtype and shapes; keep averages and copies "
                "outside optimizer.state",
            )


def _states(optimizer: torch.optim.Optimizer) -> int | None:
    """Tensors of a parameter's size that the optimizer keeps for it; None where no closed form is known."""
    import torch

    group = optimizer.param_groups[0]
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        return STATES["adamw"] + bool(group.get("amsgrad"))
    if type(optimizer) is torch.optim.SGD:
        return STATES["sgd-momentum" if group.get("momentum") else "sgd"]
    return None


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _state_bytes(state: dict[str, Any]) -> int:
    """Without scalars: the count of updates."""
    import torch

    tensors = [value for value in state.values() if isinstance(value, torch.Tensor) and value.dim() > 0]
    return sum(t.numel() * t.element_size() for t in tensors)


@check(
    "no-gradient-on-frozen-weights",
    "memory",
    "weights that do not train hold no gradient",
    controls=[FROZEN_GRADIENTS],
    catches=["https://github.com/karpathy/llama2.c/pull/187"],
)
def no_gradient_on_frozen_weights(evidence: Evidence) -> Iterator[Finding]:
    found: dict[str, int] = {}
    # Of all updates: a second optimizer is first seen when it steps.
    trained = {name for update in evidence.trace.updates for group in update.groups for name in group.names}
    for update in evidence.trace.updates:
        idle = [n for n in update.gradients if n not in trained or n not in update.trainable]
        found.update({name: _bytes(update.gradients[name]) for name in idle})
    if found:
        names = list(found)
        yield Finding(
            summary=f"{len(found)} weights that do not train hold {size(sum(found.values()))} of gradients",
            evidence=(f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}",),
            cause="they are left out of the optimizer and not frozen (requires_grad is still on), or were frozen after "
            "their first gradient; nobody zeroes such a gradient, and clipping counts it",
            remedy="parameter.requires_grad_(False) on what is not to train, before the first backward pass",
        )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@dataclass(frozen=True)
class Held:
    """A tensor that a model registers: a parameter, or a buffer."""

    name: str
    tensor: Tensor
    is_parameter: bool

    @property
    def is_adapters_own(self) -> bool:
        return any(part.startswith((*ADAPTERS, "modules_to_save")) for part in self.name.split("."))


def held_by(model: nn.Module) -> list[Held]:
    """Each storage that ``model`` registers, once, by its first name."""
    found: dict[int, Held] = {}
    named = [(n, p, True) for n, p in model.named_parameters()] + [(n, b, False) for n, b in model.named_buffers()]
    for name, tensor, is_parameter in named:
        if tensor.numel():
            found.setdefault(tensor.untyped_storage().data_ptr(), Held(name, tensor, is_parameter))
    return list(found.values())


@check(
    "no-stray-weight-copies",
    "memory",
    "the model holds each weight of the base model once, and besides it only what trains",
    controls=[WEIGHTS_COPIED, WEIGHTS_HELD_TWICE],
    catches=["https://github.com/huggingface/trl/pull/6053", "https://github.com/huggingface/peft/issues/2206"],
    cost="model",
)
def no_stray_weight_copies(evidence: Evidence) -> Iterator[Finding]:
    base, trained = held_by(evidence.base_model()), held_by(evidence.trace.model)
    yield from _more_of_a_shape(base, trained, evidence.is_full)
    yield from _twice_the_same(trained)


def _more_of_a_shape(base: list[Held], trained: list[Held], is_full: bool) -> Iterator[Finding]:
    """Matrices of a base weight's shape of which there are more than in the base model."""
    allowed = Counter(tuple(held.tensor.shape) for held in base if held.tensor.dim() > 1)
    extra = []
    for held in trained:
        shape = tuple(held.tensor.shape)
        # An adapter's own matrices, and the copies of modules_to_save, are there to train.
        if shape not in allowed or (not is_full and (held.tensor.requires_grad or held.is_adapters_own)):
            continue
        allowed[shape] -= 1
        if allowed[shape] < 0:
            extra.append(held)
    if extra:
        yield Finding(
            summary=f"{len(extra)} more weight matrices are held than the base model has: "
            f"{size(sum(_bytes(held.tensor) for held in extra))} that do not train",
            evidence=(f"among those of their shape: {', '.join(held.name for held in extra[:3])}",),
            cause="weights are kept twice: a tie was broken by a copy, a buffer holds merged or original weights, or a "
            "module was wrapped twice",
            remedy="register a weight once and share it (tie_weights()); keep what can be recomputed out of the model",
        )


def _twice_the_same(trained: list[Held]) -> Iterator[Finding]:
    """Frozen matrices with the same numbers in another storage."""
    frozen = [held for held in trained if held.is_parameter and not held.tensor.requires_grad and held.tensor.dim() > 1]
    groups: dict[Any, list[Held]] = {}
    for held in frozen:
        # The sum over float64 separates matrices that differ; those that it does not are compared.
        groups.setdefault((tuple(held.tensor.shape), float(held.tensor.double().sum())), []).append(held)
    copies = [(one, other) for held in groups.values() for one, other in itertools.pairwise(held)]
    copies = [(one, other) for one, other in copies if _is_a_copy(one.tensor, other.tensor)]
    wasted = sum(_bytes(other.tensor) for _, other in copies)
    if wasted > NOTABLE_SHARE * sum(_bytes(held.tensor) for held in trained if held.is_parameter):
        yield Finding(
            summary=f"{len(copies)} frozen weights are held twice, with the same numbers: {size(wasted)}",
            evidence=(f"{copies[0][0].name} and {copies[0][1].name}",),
            cause="a reference model, or layers that it should share, was copied although neither copy trains",
            remedy="share the frozen modules between both models; with an adapter, switch it off for the reference",
        )


def _is_a_copy(one: Tensor, other: Tensor) -> bool:
    """Equal, and not merely filled with one number."""
    import torch

    return torch.equal(one, other) and bool((one != one.flatten()[0]).any())


def _has_position_table(model: nn.Module, longest: int) -> bool:
    from torch import nn

    words = getattr(model, "get_input_embeddings", lambda: None)()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not words]
    # OPT's table has two rows more.
    return any(longest <= table.num_embeddings <= longest + 2 for table in tables)


@check(
    "no-buffer-of-context-squared",
    "memory",
    "no buffer grows with the square of the longest context",
    controls=[SQUARE_BUFFER],
    catches=["https://github.com/huggingface/transformers/issues/29484"],
)
def no_buffer_of_context_squared(evidence: Evidence) -> Iterator[Finding]:
    model = evidence.trace.model
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 2:
        raise NotApplicable("the model's configuration names no longest context")
    # A learned table of positions keeps the context short (GPT-2's masks are no surprise); rotary positions do not.
    if _has_position_table(model, longest):
        raise NotApplicable("positions are learned, which limits the context")
    square = [(name, b) for name, b in model.named_buffers() if tuple(b.shape[-2:]) == (longest, longest)]
    if square:
        yield Finding(
            summary=f"{len(square)} buffers of {longest} x {longest} hold {size(sum(_bytes(b) for _, b in square))}; "
            f"all weights hold {size(sum(map(_bytes, model.parameters())))}",
            evidence=(f"{', '.join(name for name, _ in square[:3])}: at a context of 128k, 16 GB for each",),
            cause="the model registers an attention mask for its longest context (transformers 4.38.0 to 4.38.2 for "
            "Llama and Gemma)",
            remedy="another release of transformers, or a mask that is made for the batch's own length",
        )
