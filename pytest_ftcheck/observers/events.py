"""The moments of a training that somebody else's code runs, announced to watchers.

Nothing of the loop is owned or replaced: forward passes are seen by hooks on the model, updates by torch's hooks for
all optimizers, and the start of a backward pass by wrapping ``torch.autograd.backward``, through which
``Tensor.backward`` goes (torch has no hook there).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Watcher:
    """Base of everything that watches; each method is called at its moment and does nothing unless overridden."""

    def attached(self, model: nn.Module) -> None:
        """``model`` is what trains from now on."""

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called with these inputs."""

    def forward_ends(self, output: Any) -> None:
        """The model returned ``output``."""

    def backward_begins(self, loss: Tensor) -> None:
        """``backward`` is called on ``loss``, unscaled."""

    def backward_scaled(self, factor: float) -> None:
        """The backward pass that has just begun is on the loss times ``factor``, by a gradient scaler."""

    def backward_ends(self) -> None:
        """Gradients have been accumulated."""

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer that holds parameters of the model is about to step."""

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """The first of those optimizers is about to step: an update of the training."""

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """It has stepped."""

    def optimizer_rebuilt(self, old: torch.optim.Optimizer, new: torch.optim.Optimizer) -> None:
        """``new``, which holds parameters of ``old``, is about to step in its place."""

    def schedule_stepped(self, schedule: torch.optim.lr_scheduler.LRScheduler, created: bool) -> None:
        """A learning rate schedule of such an optimizer has stepped; ``created``: by its own constructor."""


class Events:
    """Announces the events of one model's training to ``watchers``, in their order, while ``listening()``."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers
        self.model: nn.Module | None = None
        self._owned: list[torch.optim.Optimizer] = []
        self._hooks: list[Any] = []
        # Steps of optimizers that hold no parameter of the model.
        self.foreign_steps = 0
        self._muted = 0
        self._backward_since_update = False
        self._unscaled: dict[int, tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Events:
        """A copy of a model that is watched (an average of its weights, say) has hooks to a copy of this: of nobody."""
        return Events(())

    def attach(self, model: nn.Module) -> None:
        """Watch ``model``, in place of one attached before. What DistributedDataParallel wraps is watched itself."""
        from ..distributed.world import unwrapped

        model = unwrapped(model)
        self._release()
        self.model = model
        self._hooks = [
            model.register_forward_pre_hook(self._on_forward, with_kwargs=True),
            model.register_forward_hook(self._on_output),
        ]
        self._owned = []
        for watcher in self.watchers:
            watcher.attached(model)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Events]:
        """Install the hooks that are not the model's; everything is removed at the end."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        before = register_optimizer_step_pre_hook(self._on_update_begins)
        after = register_optimizer_step_post_hook(self._on_update_ends)
        with self._wrapped_backward(), self._wrapped_scaler(), self._wrapped_schedules():
            try:
                yield self
            finally:
                before.remove()
                after.remove()
                self._release()
                self._unscaled.clear()
                self._owned = []

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """Announce nothing meanwhile: for what observers run themselves, such as an evaluation."""
        self._muted += 1
        try:
            yield
        finally:
            self._muted -= 1

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _on_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._muted:
            for watcher in self.watchers:
                watcher.forward_begins(args, kwargs)

    def _on_output(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._muted:
            for watcher in self.watchers:
                watcher.forward_ends(output)

    def _on_update_begins(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if self._muted or not self._holds_ours(optimizer):
            self.foreign_steps += not self._muted
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            return self._announce_update(optimizer)
        # A closure makes the gradients within the step (Lightning, LBFGS): the update begins when it has run.
        announced: list[bool] = []

        def observed() -> Any:
            result = closure()
            if not announced:
                announced.append(True)
                self._announce_update(optimizer)
            return result

        return (args[0], observed), {key: value for key, value in kwargs.items() if key != "closure"}

    def _announce_update(self, optimizer: torch.optim.Optimizer) -> None:
        for watcher in self.watchers:
            watcher.optimizer_steps(optimizer)
            if optimizer is self._owned[0]:
                watcher.update_begins(optimizer)
        if optimizer is self._owned[0]:
            self._backward_since_update = False

    def _on_update_ends(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._muted and self._owned and optimizer is self._owned[0]:
            for watcher in self.watchers:
                watcher.update_ends(optimizer)

    def _holds_ours(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether it trains this model: another model's optimizer (a reward model, a teacher) is not our update."""
        if any(optimizer is known for known in self._owned):
            return True
        if self.model is None:
            return False
        held = _held(optimizer)
        if not any(id(p) in held for p in self.model.parameters()):
            return False
        # After a backward pass, one with the same parameters takes the other's place; two that step one after the other
        # share them.
        rebuilt = [i for i, known in enumerate(self._owned) if self._backward_since_update and held & _held(known)]
        for index in rebuilt[:1]:
            for watcher in self.watchers:
                watcher.optimizer_rebuilt(self._owned[index], optimizer)
            self._owned[index] = optimizer
        if not rebuilt:
            self._owned.append(optimizer)
        return True

    @contextlib.contextmanager
    def _wrapped_backward(self) -> Iterator[None]:
        import torch

        original = torch.autograd.backward

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            loss = tensors if isinstance(tensors, torch.Tensor) else None
            # Gradients that are not scalars come from within: reentrant checkpointing calls backward in backward.
            if self._muted or loss is None or loss.dim() > 0:
                return original(tensors, *args, **kwargs)
            scaled, unscaled = self._unscaled.pop(id(loss), (None, loss))
            for watcher in self.watchers:
                watcher.backward_begins(unscaled if scaled is loss else loss)
                if scaled is loss and unscaled:
                    watcher.backward_scaled(float(loss.detach() / unscaled.detach()))
            self._backward_since_update = True
            original(tensors, *args, **kwargs)
            for watcher in self.watchers:
                watcher.backward_ends()
            return None

        torch.autograd.backward = backward
        try:
            yield
        finally:
            torch.autograd.backward = original

    @contextlib.contextmanager
    def _wrapped_scaler(self) -> Iterator[None]:
        """Remember what a gradient scaler scaled, so that the loss before scaling is the one that is recorded."""
        import torch

        scaler = torch.amp.GradScaler
        original: Callable[..., Any] = scaler.scale

        def scale(this: Any, outputs: Any) -> Any:
            result = original(this, outputs)
            if isinstance(outputs, torch.Tensor) and isinstance(result, torch.Tensor):
                self._unscaled[id(result)] = (result, outputs)
            return result

        scaler.scale = scale  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            scaler.scale = original  # type: ignore[method-assign]

    @contextlib.contextmanager
    def _wrapped_schedules(self) -> Iterator[None]:
        """Announce the steps of learning rate schedules; torch has no hook for them."""
        from torch.optim.lr_scheduler import LRScheduler

        original = LRScheduler.step

        @functools.wraps(original)
        def step(this: Any, *args: Any, **kwargs: Any) -> None:
            created = not getattr(this, "_step_count", 0)
            original(this, *args, **kwargs)
            ours = {id(p) for p in self.model.parameters()} if self.model is not None else set()
            if not self._muted and ours & _held(this.optimizer):
                for watcher in self.watchers:
                    watcher.schedule_stepped(this, created)

        LRScheduler.step = step  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            LRScheduler.step = original  # type: ignore[method-assign]


def _held(optimizer: torch.optim.Optimizer) -> set[int]:
    """The ids of an optimizer's parameters."""
    return {id(p) for group in optimizer.param_groups for p in group["params"]}
