"""Checks of what a training holds while it runs: what grows from update to update, and activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import FtcheckError, NotApplicable
from ..evidence.footprint import Footprint, footprint
from ..report.units import size
from .check import Finding, check
from .sabotages.memory import (
    BATCHES_KEPT,
    CHECKPOINTING_IN_NAME,
    GRAPHS_KEPT,
    WINDOW_IN_ONE_GRAPH,
)

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence
    from ..observers.update import ForwardPass


@check(
    "memory-does-not-grow",
    "memory",
    "after an update nothing is held of the batches and activations of updates long past",
    controls=[BATCHES_KEPT],
    catches=["https://discuss.pytorch.org/t/how-to-debug-causes-of-gpu-memory-leaks/6741/22"],
    cost="training",
)
def memory_does_not_grow(evidence: Evidence) -> Iterator[Finding]:
    seen = _footprint(evidence)
    kept = [seen.kept_bytes[update] for update in seen.old]
    # Less than a batch of token ids: numbers that were kept for a log.
    if not kept or any(held < seen.input_bytes[update] for update, held in zip(seen.old, kept, strict=True)):
        return
    yield Finding(
        summary=f"{size(min(kept))} or more of every update are still held at the end of training",
        evidence=(f"still held of updates {seen.old[0] + 1}, ...: {', '.join(map(size, kept))}",),
        cause="outputs, batches or losses are collected in a list (logits kept for a metric, a loss with its graph, an "
        "evaluation without no_grad), or backward(retain_graph=True) is left in",
        remedy="keep numbers, not tensors: loss.item(), or metric values taken at once; evaluate under torch.no_grad()",
    )


@check(
    "no-graph-is-kept",
    "memory",
    "the autograd graph of a batch is gone when the update is made",
    controls=[GRAPHS_KEPT],
    catches=[
        "https://discuss.pytorch.org/t/gpu-memory-increase-while-i-wanna-to-backward-with-accumulative-loss/43284",
        "https://theneuralbase.com/pytorch/learn/intermediate/memory-leak-detection/",
    ],
    cost="training",
)
def no_graph_is_kept(evidence: Evidence) -> Iterator[Finding]:
    seen = _footprint(evidence)
    kept = [seen.kept_graphs[update] for update in seen.old]
    if not kept or not all(kept):
        return
    yield Finding(
        summary=f"{sum(kept)} autograd graphs of updates long past are still held at the end of training",
        evidence=(f"of updates {seen.old[0] + 1}, ...: {', '.join(map(str, kept))} forward passes",),
        cause="a loss or an output is kept with its graph: losses.append(loss), total += loss, or an evaluation that "
        "is not under no_grad",
        remedy="log loss.item() or loss.detach(); evaluate under torch.no_grad()",
    )


def _footprint(evidence: Evidence) -> Footprint:
    """With evaluations in the training where the loop can make them, since they leak too."""
    try:
        if evidence.recipe.eval_data is not None:
            return footprint(evidence, evaluating=True)
    except FtcheckError:
        pass
    try:
        return footprint(evidence)
    except FtcheckError as error:
        reason = str(error).splitlines()[0]
        raise NotApplicable(f"the training does not run with its memory watched: {reason}") from None


@check(
    "accumulation-frees-activations",
    "memory",
    "each micro-batch is differentiated before the next one's forward pass",
    controls=[WINDOW_IN_ONE_GRAPH],
    catches=[
        "https://discuss.pytorch.org/t/gpu-memory-increase-while-i-wanna-to-backward-with-accumulative-loss/43284"
    ],
)
def accumulation_frees_activations(evidence: Evidence) -> Iterator[Finding]:
    declared, updates = evidence.recipe.accumulation, evidence.trace.updates
    if declared == 1:
        raise NotApplicable("the recipe declares no accumulation")
    at_once = [sum(map(_taught, backward.forwards)) for update in updates for backward in update.backwards]
    # Two passes of every batch (two policies, two dropout masks) are another matter: their number does not follow the
    # window, which is short at the end of an epoch, and there are several backward passes in an update.
    single = all(len(update.backwards) <= 1 for update in updates)
    if single and max(at_once, default=0) == declared:
        yield Finding(
            summary=f"the activations of {declared} micro-batches are held at once, in {at_once.count(declared)} of "
            f"{len(updates)} updates",
            cause="the losses of the micro-batches are added up and differentiated together, so accumulation saves no "
            "memory over one large batch",
            remedy="call (loss / accumulation).backward() in every micro-batch, and step after the last",
        )


def _taught(forward: ForwardPass) -> bool:
    """Whether the backward pass came back through this forward pass, as far as its logits show."""
    return forward.logits is None or forward.logits_gradient is not None


@check(
    "checkpointing-saves-activations",
    "memory",
    "where gradient checkpointing is on, a forward pass saves fewer activations for the backward pass",
    controls=[CHECKPOINTING_IN_NAME],
    catches=["https://github.com/huggingface/diffusers/issues/9850"],
    needs=["transformers"],
    cost="model",
)
def checkpointing_saves_activations(evidence: Evidence) -> Iterator[Finding]:
    model, forwards = evidence.trace.model, evidence.trace.forwards
    if not forwards or not any(_flagged(module) for module in model.modules()):
        raise NotApplicable("gradient checkpointing is not on")
    saved = saved_bytes(model, forwards[0], checkpointing=True)
    plain = saved_bytes(model, forwards[0], checkpointing=False)
    if not (saved < plain):
        mode = "in evaluation mode" if "" in forwards[0].in_eval_mode else "in training mode"
        yield Finding(
            summary=f"{size(saved)} of activations are saved with gradient checkpointing, {size(plain)} without",
            evidence=(f"the model was {mode}; {sum(map(_flagged, model.modules()))} modules have checkpointing on",),
            cause="checkpointing is on in name only: the model is in eval mode (train() forgotten), its layers were "
            "replaced after it was switched on, or their own forward does not ask for it",
            remedy="call model.train() before training, and model.gradient_checkpointing_enable() on the final model",
        )


def _flagged(module: nn.Module) -> bool:
    return vars(module).get("gradient_checkpointing") is True


def saved_bytes(model: nn.Module, forward: ForwardPass, checkpointing: bool) -> int:
    """Bytes of the tensors that one forward pass saves for the backward pass, the model's own weights left out."""
    import torch

    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        module.training = name not in forward.in_eval_mode
        if _flagged(module):
            module.gradient_checkpointing = checkpointing
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    saved: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # Held, so that no address is used twice.
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = _called(model, forward)
    assert output is not None
    return sum(storage.nbytes() for storage in saved.values())


def _called(model: nn.Module, forward: ForwardPass) -> Any:
    try:
        return model(**forward.inputs)
    except Exception as error:  # a user's model may need what the loop gave it otherwise
        raise NotApplicable(f"the model cannot be called by itself ({type(error).__name__})") from None
