"""Breaking what a training lets go of, and what it holds."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .wrapping import after_adapting, around_training, patched

if TYPE_CHECKING:
    from torch import nn

    from ...recipe import Job, Recipe


def _hooked(install: Callable[[Job], list[Any]]) -> Callable[[Recipe], Recipe]:
    """The hooks that ``install(job)`` returns are there while training runs."""

    @contextlib.contextmanager
    def hooking(job: Job) -> Iterator[None]:
        hooks = install(job)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    return lambda recipe: around_training(recipe, hooking)


def _keep_graphs(job: Job) -> list[Any]:
    """After the backward pass: its saved tensors are freed, and the nodes stay."""
    from ...observers.loss import logits_of

    kept: list[Any] = []

    def keep(model: nn.Module, args: Any, output: Any) -> None:
        logits = logits_of(output)
        if logits is not None and logits.requires_grad:
            kept.append(logits.sum())

    return [job.model.register_forward_hook(keep)]


def _keep_batches(job: Job) -> list[Any]:
    kept: list[Any] = []

    def keep(model: nn.Module, args: Any, kwargs: Any) -> None:
        values = [*args, *kwargs.values()]
        kept.append([value.detach().clone() for value in values if hasattr(value, "detach")])

    return [job.model.register_forward_pre_hook(keep, with_kwargs=True)]


def _double_state(job: Job) -> list[Any]:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def keep(optimizer: Any, args: Any, kwargs: Any) -> None:
        for parameter, state in optimizer.state.items():
            state.setdefault("master", parameter.detach().double())

    return [register_optimizer_step_post_hook(keep)]


def _frozen_gradients(recipe: Recipe) -> Recipe:
    def install(job: Job) -> list[Any]:
        import torch

        frozen = [p for p in job.model.parameters() if not p.requires_grad]
        if not frozen:
            raise NotApplicable("nothing is frozen")

        def fill(model: nn.Module, args: Any) -> None:
            for parameter in frozen:
                parameter.grad = torch.zeros_like(parameter)

        return [job.model.register_forward_pre_hook(fill)]

    return _hooked(install)(recipe)


def _one_graph(recipe: Recipe) -> Recipe:
    """Backward passes wait until there are as many losses as declared, and are one."""
    if recipe.accumulation == 1:
        raise NotApplicable("the recipe declares no accumulation")

    @contextlib.contextmanager
    def waiting(job: Job) -> Iterator[None]:
        import torch

        original, losses = torch.Tensor.backward, list[Any]()

        def backward(this: Any, *args: Any, **kwargs: Any) -> None:
            losses.append(this)
            if len(losses) == job.accumulation:
                original(torch.stack(losses).sum(), *args, **kwargs)  # type: ignore[no-untyped-call]
                losses.clear()

        with patched(torch.Tensor, "backward", backward):
            yield

    return around_training(recipe, waiting)


def _checkpoint_in_name(recipe: Recipe) -> Recipe:
    """The switch is on; the function that it switches on calls its layer as always."""
    if not hasattr(recipe.model(), "gradient_checkpointing_enable"):
        raise NotApplicable("the model knows no gradient checkpointing")

    def change(model: nn.Module) -> None:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
        for module in model.modules():
            if hasattr(module, "_gradient_checkpointing_func"):
                vars(module)["_gradient_checkpointing_func"] = lambda function, *args, **kwargs: function(*args)

    return after_adapting(recipe, change)


def _copy_weights(model: nn.Module) -> None:
    for module in list(model.modules()):
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() == 2 and not weight.requires_grad:
            module.register_buffer("weight_as_loaded", weight.detach().clone())
            return


def _hold_twice(model: nn.Module) -> None:
    base = getattr(model, "base_model", model)
    reference = copy.deepcopy(base)
    for parameter in reference.parameters():
        parameter.requires_grad_(False)
    base.add_module("reference", reference)


def _square_buffer(recipe: Recipe) -> Recipe:
    longest = getattr(getattr(recipe.model(), "config", None), "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise NotApplicable("the model's configuration names no longest context")

    def change(model: nn.Module) -> None:
        import torch

        mask = torch.ones(longest, longest, dtype=torch.bool).triu(1)
        model.register_buffer("causal_mask", mask, persistent=False)

    return after_adapting(recipe, change)


GRAPHS_KEPT = Sabotage("graphs-kept", "a number with its autograd graph is kept of every batch", _hooked(_keep_graphs))
BATCHES_KEPT = Sabotage("batches-kept", "a copy of every batch is kept", _hooked(_keep_batches))
STATE_DOUBLED = Sabotage(
    "optimizer-state-doubled", "the optimizer keeps a float64 copy of every parameter", _hooked(_double_state)
)
FROZEN_GRADIENTS = Sabotage("frozen-gradients", "frozen weights hold gradients", _frozen_gradients, method="adapter")
WINDOW_IN_ONE_GRAPH = Sabotage(
    "window-in-one-graph", "the losses of a window are added up and differentiated together", _one_graph
)
CHECKPOINTING_IN_NAME = Sabotage(
    "checkpointing-in-name",
    "gradient checkpointing is switched on and does nothing",
    _checkpoint_in_name,
)
WEIGHTS_COPIED = Sabotage(
    "weights-copied",
    "a buffer holds a copy of a frozen weight",
    lambda recipe: after_adapting(recipe, _copy_weights),
    method="adapter",
)
WEIGHTS_HELD_TWICE = Sabotage(
    "weights-held-twice",
    "a frozen copy of the whole model is held inside it",
    lambda recipe: after_adapting(recipe, _hold_twice),
)
SQUARE_BUFFER = Sabotage(
    "buffer-of-context-squared",
    "the model registers a mask for its longest context",
    _square_buffer,
)
