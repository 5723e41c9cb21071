"""Breaking what moves: gradients that are cut, parameters that no optimizer has, frozen ones that change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .parameters import adapted_by, after_each_update, in_adapted
from .wrapping import after_adapting, around_training, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from ...recipe import Job, Recipe


def nudge_frozen(job: Job, steps: int) -> None:
    import torch

    frozen = [p for p in job.model.parameters() if not p.requires_grad and p.is_floating_point()]
    if frozen:
        with torch.no_grad():
            frozen[0].flatten()[:1].add_(1e-3)


def _zero_factors(model: nn.Module) -> None:
    from torch import nn

    factors = [p for name, p in model.named_parameters() if "lora_" in name and p.requires_grad]
    if not factors:
        raise NotApplicable("the recipe's adapter has no LoRA factors")
    for parameter in factors:
        nn.init.zeros_(parameter)


def longest_list(model: nn.Module) -> list[nn.Module]:
    """The model's layers: its longest ModuleList or Sequential. NotApplicable where none has two."""
    from torch import nn

    lists = [list(m) for m in model.modules() if isinstance(m, (nn.ModuleList, nn.Sequential))]
    layers = max(lists, key=len, default=[])
    if len(layers) < 2:
        raise NotApplicable("the recipe's model has no list of layers")
    return layers


def _cut_between_layers(model: nn.Module) -> None:
    """What the first layer returns is detached, as a reentrant checkpoint does whose input requires no gradient."""
    longest_list(model)[0].register_forward_hook(_detached)


def _detached(_: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(part.detach() if hasattr(part, "detach") else part for part in output)
    return output.detach() if hasattr(output, "detach") else output


@contextlib.contextmanager
def _half_an_optimizer(_: Job) -> Iterator[None]:
    import torch

    original = torch.optim.Optimizer.add_param_group

    def add(this: Any, group: dict[str, Any]) -> None:
        held = group["params"]
        held = [held] if isinstance(held, torch.Tensor) else list(held)
        original(this, {**group, "params": held[: (len(held) + 1) // 2]})

    with patched(torch.optim.Optimizer, "add_param_group", add):
        yield


def _with_a_buffer(recipe: Recipe) -> Recipe:
    """A table is registered in the model and then written to in each update."""
    import torch

    def register(model: nn.Module) -> None:
        model.register_buffer("ftcheck_table", torch.ones(2))

    def write(job: Job, _: int) -> None:
        for name, buffer in job.model.named_buffers():
            if name.endswith("ftcheck_table"):
                buffer.add_(1)

    adapted_by(recipe, "full" if recipe.lora is None else "adapter")
    return after_each_update(write)(after_adapting(recipe, register))


FROZEN_MOVES = Sabotage(
    "frozen-moves", "a frozen weight is written to in each update", after_each_update(nudge_frozen), "adapter"
)
BUFFER_MOVES = Sabotage("buffer-moves", "a saved buffer is written to in each update", _with_a_buffer)
FACTORS_ZERO = Sabotage("factors-zero", "A and B of the LoRA both begin at 0", in_adapted(_zero_factors), "adapter")
GRADIENTS_CUT = Sabotage(
    "gradients-cut", "the first layer's output is detached", in_adapted(_cut_between_layers, "any")
)
OPTIMIZER_MISSES_HALF = Sabotage(
    "optimizer-misses-half",
    "half of each parameter group is not given to the optimizer",
    lambda recipe: around_training(recipe, _half_an_optimizer),
)
