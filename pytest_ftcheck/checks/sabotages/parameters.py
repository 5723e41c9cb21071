"""Breaking which parameters train."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .stepping import after_each_step
from .wrapping import after_adapting, around_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from ...recipe import Job, Recipe


def adapted_by(recipe: Recipe, kind: str) -> nn.Module:
    """The recipe's model under its first method of ``kind`` ("full" or "adapter"), built anew. NotApplicable where it
    declares none, or its adapter is put on by the training itself.
    """
    from ...building import adapted_model
    from ...evidence.evidence import adapters
    from ...methods import Full

    names = [n for n, method in recipe.declared_methods.items() if isinstance(method, Full) == (kind == "full")]
    if not names:
        raise NotApplicable(f"the recipe declares no method of the kind {kind!r}")
    model = adapted_model(recipe, names[0], seed=0)
    if kind == "adapter" and not adapters(model):
        raise NotApplicable("no layer of the recipe's adapted model has an adapter")
    return model


def in_adapted(change: Callable[[nn.Module], Any], kind: str = "adapter") -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: ``change`` is done to the adapted model. It is tried once on a model of ``kind``, so that
    it may raise NotApplicable at once.
    """

    def changed(model: nn.Module) -> nn.Module | None:
        from ...evidence.evidence import adapters

        is_adapter = bool(adapters(model))
        result = change(model) if is_adapter == (kind == "adapter") or kind == "any" else None
        return result if hasattr(result, "named_modules") else None

    def apply(recipe: Recipe) -> Recipe:
        change(adapted_by(recipe, "full" if kind == "full" or recipe.lora is None else "adapter"))
        return after_adapting(recipe, changed)

    return apply


def after_each_update(change: Callable[[Job, int], None]) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: ``change(job, updates so far)`` is called after each optimizer step of the training."""

    @contextlib.contextmanager
    def hooked(job: Job) -> Iterator[None]:
        steps = itertools.count(1)
        with after_each_step(lambda _: change(job, next(steps))):
            yield

    return lambda recipe: around_training(recipe, hooked)


def _named(model: nn.Module, part: str) -> list[Any]:
    found = [parameter for name, parameter in model.named_parameters() if part in name]
    if not found:
        raise NotApplicable(f"the recipe's adapter has no {part}")
    return found


def _remove_adapters(model: nn.Module) -> None:
    """Take the adapter off every second layer that has one."""
    from ...evidence.evidence import adapters

    wrapped = adapters(model)[1::2]
    if not wrapped or not hasattr(wrapped[0][1], "base_layer"):
        raise NotApplicable("the adapter is on one layer only")
    for name, module in wrapped:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module.base_layer)


def _freeze_lora_a(model: nn.Module) -> None:
    for parameter in _named(model, "lora_A"):
        parameter.requires_grad_(False)


def _freeze_first(model: nn.Module) -> None:
    """Freeze the first tensors that train, which are a third of all."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable[: len(trainable) // 3 or 1]:
        parameter.requires_grad_(False)


def _base_trains(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)


def _freeze_one(job: Job, steps: int) -> None:
    trainable = [p for p in job.model.parameters() if p.requires_grad]
    if steps == 3:
        trainable[-1].requires_grad_(False)


def _second_trains(model: Any) -> None:
    """Add an adapter, go back to the first, and leave the flags of both set, as peft 0.5 did."""
    from ...evidence.names import active_adapters

    if not hasattr(model, "add_adapter") or not hasattr(model, "peft_config"):
        raise NotApplicable("the model is not PEFT's")
    (first,) = active_adapters(model)
    model.add_adapter("second", model.peft_config[first])
    model.set_adapter(first)
    for name, parameter in model.named_parameters():
        if ".second." in f"{name}.":
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _frozen_at_the_end(job: Job) -> Iterator[None]:
    yield
    job.model.requires_grad_(False)


ADAPTERS_MISSING = Sabotage(
    "adapters-missing", "target_modules misses half of the layers", in_adapted(_remove_adapters), "adapter"
)
BASE_NOT_FROZEN = Sabotage(
    "base-not-frozen", "the base is left trainable beside the adapter", in_adapted(_base_trains), "adapter"
)
LORA_A_FROZEN = Sabotage("lora-a-frozen", "only B of the LoRA factors trains", in_adapted(_freeze_lora_a), "adapter")
PARTLY_FROZEN = Sabotage("partly-frozen", "a third of what should train is frozen", in_adapted(_freeze_first, "any"))
FLAGS_CHANGE = Sabotage(
    "flags-change", "a parameter is frozen in the middle of the training", after_each_update(_freeze_one)
)
SECOND_ADAPTER_TRAINS = Sabotage(
    "second-adapter-trains", "an adapter that is not active requires gradients", in_adapted(_second_trains), "adapter"
)
FLAGS_CHANGE_AT_THE_END = Sabotage(
    "frozen-at-the-end",
    "the model is frozen when the training has ended",
    lambda recipe: around_training(recipe, _frozen_at_the_end),
)
