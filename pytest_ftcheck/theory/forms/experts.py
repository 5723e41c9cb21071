"""LoRA on parameters that are named themselves (``target_parameters``), such as the stacked weights of experts.

A stack (E, d_in, d_out), whichever of both comes first, has a pair of factors for each expert: E · r (d_in + d_out).
A matrix is a stack of one. Several parameters of one module (``gate_up_proj`` and ``down_proj``) add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import RecipeError
from ..growth import Growth, summed
from ..placement import placement_of
from ..targets import rank_of, saved_names
from .adapter import Adapter

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...methods import LoRA


def experts(model: nn.Module, method: LoRA) -> dict[str, Adapter] | None:
    """Name of each module that owns a targeted parameter -> adapter; None where other rules decide about it too."""
    stacks = _targeted(model, method)
    copied = saved_names(placement_of(method))
    if any(_is_other(model.get_submodule(module), module, copied) for module in stacks):
        return None
    return {
        module: together([_stack(f"{module}.{name}", stack, method) for name, stack in owned.items()])
        for module, owned in stacks.items()
    }


def _targeted(model: nn.Module, method: LoRA) -> dict[str, dict[str, Tensor]]:
    """Module -> the parameters of its own that are targeted, by full name or ending, each by its name in the module."""
    found: dict[str, dict[str, Tensor]] = {}
    endings = tuple(f".{target}" for target in placement_of(method).target_parameters)
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if f".{module_name}.{name}".endswith(endings):
                found.setdefault(module_name, {})[name] = parameter
    return found


def _is_other(module: nn.Module, name: str, copied: Sequence[str]) -> bool:
    """Whether the parameters are computed from others, or trained as a full copy."""
    parts = name.split(".")
    outer = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return hasattr(module, "parametrizations") or any(one.endswith(tuple(copied)) for one in outer)


def _stack(name: str, stack: Tensor, method: LoRA) -> Adapter:
    if stack.dim() not in (2, 3):
        raise RecipeError(f"LoRA cannot adapt {name}, a parameter of {stack.dim()} dimensions; allowed: 2, or 3")
    count, inputs, outputs = (1, *stack.shape) if stack.dim() == 2 else stack.shape
    rank = rank_of(method, name)
    note = f"r={rank} on {name.rpartition('.')[2]} {count} x {inputs}x{outputs}"
    return Adapter(note, rank, (Growth(linear=count * (inputs + outputs)),))


def together(adapters: Sequence[Adapter]) -> Adapter:
    """Adapters of one module as one. Of different ranks none is the rank of all, and the sizes are as they are."""
    note, ranks = "; ".join(one.note for one in adapters), {one.rank for one in adapters}
    if len(ranks) > 1:
        return Adapter(note, 0, (Growth(sum(one.size for one in adapters)),))
    return Adapter(note, ranks.pop(), (summed(piece for one in adapters for piece in one.growth),))
