"""Breaking the optimizer: what it holds, which one it is, how it is set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .stepping import with_other_groups
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...recipe import Job, Recipe


def in_each_group(change: Callable[[Job, dict[str, Any]], None]) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: ``change(job, group)`` on each parameter group that the training gives an optimizer."""
    return lambda recipe: around_training(recipe, lambda job: with_other_groups(lambda group: change(job, group)))


def setting(**settings: Any) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: every group has these settings, where its optimizer has one of that name."""

    def change(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group.update({name: value for name, value in settings.items() if name in group})

    @contextlib.contextmanager
    def changed(job: Job) -> Iterator[None]:
        import torch

        inner = torch.optim.Optimizer.add_param_group

        def add(this: Any, group: dict[str, Any]) -> None:
            inner(this, group)
            change(this)

        with patched(torch.optim.Optimizer, "add_param_group", add):
            yield

    return lambda recipe: around_training(recipe, changed)


def _forget(job: Job, group: dict[str, Any]) -> None:
    """Every second parameter: of a LoRA layer, that is B."""
    if len(group["params"]) > 1:
        group["params"] = group["params"][0::2]


def _hold_frozen(job: Job, group: dict[str, Any]) -> None:
    ours = {id(p) for p in job.model.parameters()}
    if any(id(p) in ours for p in group["params"]):
        group["params"] += [p for p in job.model.parameters() if not p.requires_grad]


def _hold_twice(job: Job, group: dict[str, Any]) -> None:
    group["params"] += group["params"][:1]


def _hold_copies(job: Job, group: dict[str, Any]) -> None:
    """All but the first are what they were before the model was copied."""
    if len(group["params"]) > 1:
        copies = [p.detach().clone().requires_grad_(p.requires_grad) for p in group["params"][1:]]
        group["params"] = [*group["params"][:1], *copies]


@contextlib.contextmanager
def _in_place_of_adam(name: str) -> Iterator[None]:
    """Whoever builds Adam or AdamW gets the optimizer of torch called ``name``, with the settings that it knows."""
    import inspect

    import torch

    kind = getattr(torch.optim, name)
    known = inspect.signature(kind.__init__).parameters

    class Other(kind):  # type: ignore[misc, valid-type]
        """``kind`` with Adam's arguments."""

        def __init__(self, params: Any, *args: Any, **settings: Any) -> None:
            settings = {**dict(zip(("lr",), args, strict=False)), **settings, "fused": None}
            super().__init__(params, **{key: value for key, value in settings.items() if key in known})

    Other.__name__ = name
    with patched(torch.optim, "AdamW", Other), patched(torch.optim, "Adam", Other):
        yield


def _another_optimizer(recipe: Recipe) -> Recipe:
    if recipe.optimizer is None:
        raise NotApplicable("the recipe declares no optimizer")
    return around_training(recipe, lambda _: _in_place_of_adam("Adamax"))


GROUP_FORGOTTEN = Sabotage("group-forgotten", "the optimizer holds half of the parameters", in_each_group(_forget))
HOLDS_FROZEN = Sabotage("holds-frozen", "the optimizer holds frozen parameters", in_each_group(_hold_frozen), "adapter")
HELD_TWICE = Sabotage("held-twice", "the optimizer holds a parameter twice", in_each_group(_hold_twice))
HOLDS_STALE_COPIES = Sabotage(
    "holds-stale-copies", "the optimizer holds what the parameters were before a copy", in_each_group(_hold_copies)
)
ANOTHER_OPTIMIZER = Sabotage("another-optimizer", "Adamax in place of Adam or AdamW", _another_optimizer)
PLAIN_SGD = Sabotage(
    "plain-sgd",
    "SGD at Adam's rate, undeclared",
    lambda recipe: around_training(recipe.replace(optimizer=None), lambda _: _in_place_of_adam("SGD")),
)
ADAM_EPSILON_LARGE = Sabotage("adam-epsilon-large", "Adam's eps is 0.3", setting(eps=0.3))
BETAS_SWAPPED = Sabotage("betas-swapped", "Adam's betas are swapped", setting(betas=(0.999, 0.9)))
MAXIMIZES = Sabotage("maximizes", "the optimizer makes the loss rise", setting(maximize=True))
