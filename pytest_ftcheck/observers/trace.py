"""Everything of the first updates of a training, tensors included: what the checks of the catalogue look at.

An ``Observation`` costs two percent and keeps numbers. A ``Trace`` keeps inputs, logits, gradients and parameters, and
is for the short trainings, on few rows, that an audit makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..distributed.world import local
from .arguments import copied, named_arguments
from .events import Watcher
from .head import HeadInput
from .loss import logits_of
from .update import Backward, ForwardPass, Group, Tensors, Update

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Of this many updates gradients and parameters are kept as tensors.
DEEP_UPDATES = 4
# Logits beyond this many numbers are not kept: 200 MB in float32.
MOST_LOGITS = 50_000_000


class Trace(Watcher):
    """What happened in a training. ``model`` is what trained, as it was left. Of the first ``deep`` updates gradients
    and parameters are kept as tensors.
    """

    def __init__(self, deep: int = DEEP_UPDATES) -> None:
        self._deep = deep
        self.updates: list[Update] = []
        # Forward passes that recorded nothing: evaluations within the loop, reference models that share the module.
        # Each with the number of updates and of backward passes before it.
        self.evaluations: list[tuple[int, int, ForwardPass]] = []
        self.initial: Tensors = {}
        self.initial_buffers: Tensors = {}
        self.trainable: dict[str, bool] = {}
        self.optimizers: list[torch.optim.Optimizer] = []
        # The updates (from 0) that an optimizer made anew has begun with.
        self.rebuilt: list[int] = []
        # The updates before each learning rate schedule was made.
        self.schedules: list[int] = []
        # For each step of a schedule the updates before it, and the backward passes since the last of them.
        self.schedule_steps: list[tuple[int, int]] = []
        self._model: nn.Module | None = None
        self._forwards: list[ForwardPass] = []
        self._backwards: list[Backward] = []
        self._names: dict[int, str] = {}
        self._current: ForwardPass | None = None
        # What the output head read in forward passes whose logits do not show.
        self._head: HeadInput | None = None
        self._hidden: list[tuple[ForwardPass, HeadInput]] = []

    @property
    def model(self) -> nn.Module:
        assert self._model is not None, "no model was attached"
        return self._model

    @property
    def forwards(self) -> list[ForwardPass]:
        """All forward passes that gradients were recorded in and an update followed."""
        return [forward for update in self.updates for forward in update.forwards]

    @property
    def unanswered(self) -> list[ForwardPass]:
        """Forward passes that gradients were recorded in and no backward pass followed."""
        return self._forwards

    @property
    def unfinished(self) -> list[Backward]:
        """Backward passes that no update followed."""
        return self._backwards

    # The moments, in their order.

    def attached(self, model: nn.Module) -> None:
        self._model = model
        self._note_parameters()

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        in_eval_mode = tuple(name for name, module in self.model.named_modules() if not module.training)
        inputs = {name: copied(value) for name, value in named_arguments(self.model, args, kwargs)}
        self._current = this = ForwardPass(inputs, torch.is_grad_enabled(), in_eval_mode)
        if self._head is not None:
            self._head.release()
        self._head = HeadInput(self.model) if this.recording else None
        if this.recording:
            this.generators = (_generator_state(self.model), 0)
            self._forwards.append(this)
        else:
            self.evaluations.append((len(self.updates), len(self._backwards), this))

    def forward_ends(self, output: Any) -> None:
        import torch

        this, head = self._current, self._head
        if this is None:
            return
        if head is not None:
            head.release()
        this.output_type = type(output).__name__
        if this.recording:
            this.generators = (this.generators[0], _generator_state(self.model))
        logits, loss = logits_of(output), getattr(output, "loss", None)
        this.own_loss = float(loss.detach()) if isinstance(loss, torch.Tensor) and loss.dim() == 0 else None
        if head is not None:
            self._hidden.append((this, head))
        if logits is None or logits.numel() > MOST_LOGITS:
            return
        this.logits, this.precision = logits.detach().float().clone(), str(logits.dtype)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: _add_gradient(this, gradient))  # type: ignore[no-untyped-call]

    def backward_begins(self, loss: Tensor) -> None:
        deep = self._is_deep()
        rates = tuple(float(group.get("lr", "nan")) for one in self.optimizers for group in one.param_groups)
        before = self._gradients() if deep else {}
        this = Backward(float(loss.detach()), 1.0, self._forwards, rates, before, precision=str(loss.dtype))
        self._backwards.append(this)
        self._forwards = []

    def backward_scaled(self, factor: float) -> None:
        self._backwards[-1].scale = factor

    def backward_ends(self) -> None:
        if self._is_deep():
            self._backwards[-1].after = self._gradients()

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is known for known in self.optimizers):
            self.optimizers.append(optimizer)

    def optimizer_rebuilt(self, old: torch.optim.Optimizer, new: torch.optim.Optimizer) -> None:
        self.optimizers = [new if known is old else known for known in self.optimizers]
        self.rebuilt.append(len(self.updates))

    def schedule_stepped(self, schedule: torch.optim.lr_scheduler.LRScheduler, created: bool) -> None:
        if created:
            self.schedules.append(len(self.updates))
        else:
            self.schedule_steps.append((len(self.updates), len(self._backwards)))

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        deep = self._is_deep()
        self._recover_logits()
        if not self.updates:
            # A training may have cast, moved or frozen since it was attached; the first update's finding counts.
            self._note_parameters()
        groups = [self._group(one, group) for one in self.optimizers for group in one.param_groups]
        rates = tuple(float(group.settings.get("lr", "nan")) for group in groups)
        update = Update(self._backwards, rates, groups, deep)
        named = list(self.model.named_parameters())
        update.trainable = frozenset(name for name, p in named if p.requires_grad)
        update.not_finite = tuple(
            name for name, p in named if p.grad is not None and not local(p.grad).isfinite().all()
        )
        if deep:
            update.gradients, update.before = self._gradients(), self._parameters()
        self.updates.append(update)
        self._backwards = []

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        if self.updates[-1].deep:
            self.updates[-1].after = self._parameters()

    def _recover_logits(self) -> None:
        """Before the head's weight changes: logits that the loss was not taken of, because it is fused or the output is
        a copy, from what the head read.
        """
        for forward, head in self._hidden:
            recovered = head.logits(MOST_LOGITS) if forward.logits_gradient is None else None
            if recovered is not None:
                forward.logits, forward.logits_gradient = recovered
        self._hidden = []

    def _is_deep(self) -> bool:
        return len(self.updates) < self._deep

    def _note_parameters(self) -> None:
        self._names = {id(p): name for name, p in self.model.named_parameters()}
        self.initial = self._parameters()
        self.initial_buffers = {name: b.detach().clone() for name, b in self.model.named_buffers()}
        self.trainable = {name: p.requires_grad for name, p in self.model.named_parameters()}

    def _parameters(self) -> Tensors:
        return {name: local(p.detach()).clone() for name, p in self.model.named_parameters()}

    def _gradients(self) -> Tensors:
        named = self.model.named_parameters()
        return {name: local(p.grad.detach()).clone() for name, p in named if p.grad is not None}

    def _group(self, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Group:
        names = tuple(self._names.get(id(p)) for p in group["params"])
        return Group(type(optimizer).__name__, names, {k: v for k, v in group.items() if k != "params"})


def _generator_state(model: nn.Module) -> int:
    """A digest of the state of the generator that dropout on the model's device draws from."""
    import torch

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return hash(state.numpy().tobytes())


def _add_gradient(this: ForwardPass, gradient: Tensor) -> None:
    part = gradient.detach().float()
    this.logits_gradient = part.clone() if this.logits_gradient is None else this.logits_gradient + part
