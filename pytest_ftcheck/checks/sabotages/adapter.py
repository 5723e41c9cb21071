"""Breaking adapters: what they start from, where they sit, how they are scaled, merged and switched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .wrapping import after_adapting

if TYPE_CHECKING:
    from torch import nn

    from ...recipe import Recipe

# How far a sabotage moves weights: about the size of an initial weight, so that any output shows it.
MOVE = 0.1


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of ``model`` that PEFT adapted, by name."""
    from ...evidence.evidence import adapters

    yield from adapters(model)


def on_adapters(change: Callable[[Any], None]) -> Callable[[Recipe], Recipe]:
    """A sabotage that applies ``change`` to every adapted layer right after adaptation."""

    def each(model: nn.Module) -> None:
        for _, layer in adapted_layers(model):
            change(layer)

    return lambda recipe: after_adapting(recipe, each)


def on_peft_model(change: Callable[[Any], None]) -> Callable[[Recipe], Recipe]:
    """A sabotage that applies ``change`` to the PeftModel that adaptation returns."""

    def one(model: nn.Module) -> None:
        if hasattr(model, "peft_config"):
            change(model)

    return lambda recipe: after_adapting(recipe, one)


def _noise(parameter: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(parameter.numel())
    with torch.no_grad():
        parameter.add_((MOVE * torch.randn(parameter.shape, generator=generator)).to(parameter))


def _start_elsewhere(layer: Any) -> None:
    for parameter in layer.parameters():
        if parameter.requires_grad:
            _noise(parameter)


def _change_base(layer: Any) -> None:
    from ...evidence.adapted import base_weight

    _noise(base_weight(layer))


def _thaw_base(layer: Any) -> None:
    from ...evidence.adapted import base_weight

    base_weight(layer).requires_grad_(True)


def _remove_one(model: nn.Module) -> None:
    """Put the base layer back in place of the last adapter."""
    from ...evidence.adapted import base_layer

    names = [name for name, layer in adapted_layers(model) if hasattr(layer, "base_layer")]
    if len(names) > 1:
        parent, _, child = names[-1].rpartition(".")
        setattr(model.get_submodule(parent), child, base_layer(model.get_submodule(names[-1])))


def _with_rank_one(recipe: Recipe) -> Recipe:
    """The adaptation gets another LoRA than the recipe declares. NotApplicable where the recipe has no LoRA."""
    import dataclasses

    from ...methods import LoRA
    from ...training import adapt as default

    if not any(isinstance(method, LoRA) and method.r > 1 for method in recipe.declared_methods.values()):
        raise NotApplicable("the recipe declares no LoRA of a rank above 1")
    inner = recipe.adapt or default

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        return inner(model, dataclasses.replace(method, r=1) if isinstance(method, LoRA) else method)

    return recipe.replace(adapt=adapt)


def _other_scaling(layer: Any) -> None:
    for adapter, rank in getattr(layer, "r", {}).items():
        layer.scaling[adapter] = layer.scaling[adapter] * float(rank) ** 0.5


def _reset_wrongly(layer: Any) -> None:
    def unscale_layer(self: Any, scale: float | None = None) -> None:
        for adapter in self.scaling:
            self.scaling[adapter] = 1.0

    layer.unscale_layer = MethodType(unscale_layer, layer)


def _count_twice(layer: Any) -> None:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = type(self).forward(self, *args, **kwargs)
        return output if self.merged or self.disable_adapters else 2 * output - self.base_layer(*args)

    layer.forward = MethodType(forward, layer)


def _forget_merging(layer: Any) -> None:
    def merge(self: Any, *args: Any, **kwargs: Any) -> None:
        self.merged_adapters.clear()
        type(self).merge(self, *args, **kwargs)

    layer.merge = MethodType(merge, layer)


def _merge_something_else(layer: Any) -> None:
    def merge(self: Any, *args: Any, **kwargs: Any) -> None:
        from ...evidence.adapted import base_weight

        type(self).merge(self, *args, **kwargs)
        base_weight(self).data.mul_(1.05)

    layer.merge = MethodType(merge, layer)


def _unmerge_nothing(layer: Any) -> None:
    layer.unmerge = MethodType(lambda self: self.merged_adapters.clear(), layer)


def _ignore_rows(model: Any) -> None:
    for _, layer in adapted_layers(model):
        _ignore_rows_in(layer)


def _ignore_rows_in(layer: Any) -> None:
    def forward(self: Any, *args: Any, adapter_names: Any = None, **kwargs: Any) -> Any:
        return type(self).forward(self, *args, **kwargs)

    layer.forward = MethodType(forward, layer)


def _with_another(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """``change`` on a model that has two more adapters beside the one that trains."""

    def both(model: Any) -> None:
        import copy

        first = model.active_adapter
        if not isinstance(first, str) or getattr(model.peft_config[first], "is_prompt_learning", False):
            return
        for name in ("another", "a_third"):
            model.add_adapter(name, copy.deepcopy(model.peft_config[first]))
        model.set_adapter(first)
        change(model)

    return both


def _ignore_switching(model: Any) -> None:
    model.set_adapter = MethodType(lambda self, *args, **kwargs: None, model)


def _combine_halves(model: Any) -> None:
    combine = getattr(model.base_model, "add_weighted_adapter", None)
    if combine is None:
        return

    def add_weighted_adapter(self: Any, adapters: Any, weights: Any, *args: Any, **kwargs: Any) -> None:
        type(self).add_weighted_adapter(self, adapters, [weight / 2 for weight in weights], *args, **kwargs)

    model.base_model.add_weighted_adapter = MethodType(add_weighted_adapter, model.base_model)


def _merge_nothing(model: Any) -> nn.Module:
    return model.unload() if hasattr(model, "unload") else model.get_base_model()  # type: ignore[no-any-return]


def _merge_twice(model: Any) -> nn.Module:
    for _, layer in adapted_layers(model):
        if hasattr(layer, "merge"):
            layer.merge()
            layer.merged_adapters.clear()
    return model.merge_and_unload()  # type: ignore[no-any-return]


def _save_merged_without_one(recipe: Recipe) -> Recipe:
    """The merged model is saved with a state dict made by hand, which lacks an adapted layer."""

    def merge(model: Any) -> nn.Module:
        last = [name for name, _ in adapted_layers(model)][-1].removeprefix("base_model.model.")
        result: Any = (recipe.merge or _merge_and_unload)(model)
        if not hasattr(result, "save_pretrained"):
            raise NotApplicable("the merged model has no save_pretrained")

        def save_pretrained(self: Any, folder: Any, **options: Any) -> None:
            kept = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(f"{last}.")}
            type(self).save_pretrained(self, folder, state_dict=kept, **options)

        result.save_pretrained = MethodType(save_pretrained, result)
        return result  # type: ignore[no-any-return]

    return recipe.replace(merge=merge)


def _merge_and_unload(model: Any) -> nn.Module:
    return model.merge_and_unload()  # type: ignore[no-any-return]


def _adapter(id: str, breaks: str, apply: Callable[[Recipe], Recipe]) -> Sabotage:
    return Sabotage(id, breaks, apply, "adapter")


ADAPTER_STARTS_SOMEWHERE_ELSE = _adapter(
    "adapter-starts-somewhere-else", "both factors start from random values", on_adapters(_start_elsewhere)
)
BASE_CHANGED_BY_ADAPTING = _adapter(
    "base-changed-by-adapting", "adapting changes the weights under the adapter", on_adapters(_change_base)
)
BASE_TRAINS_TOO = _adapter("base-trains-too", "the weights under the adapter are not frozen", on_adapters(_thaw_base))
RANK_ONE = _adapter("rank-one", "the adapter has rank 1 instead of the declared one", _with_rank_one)
ONE_ADAPTER_MISSING = _adapter(
    "one-adapter-missing", "the last target gets no adapter", lambda recipe: after_adapting(recipe, _remove_one)
)
SCALING_OF_THE_OTHER_KIND = _adapter(
    "scaling-of-the-other-kind", "alpha/√r instead of alpha/r", on_adapters(_other_scaling)
)
SCALING_LOST_ON_RESET = _adapter(
    "scaling-lost-on-reset", "resetting the scaling makes it 1", on_adapters(_reset_wrongly)
)
ADAPTER_COUNTED_TWICE = _adapter(
    "adapter-counted-twice", "the forward pass adds the adapter's output twice", on_adapters(_count_twice)
)
MERGE_NOT_REMEMBERED = _adapter(
    "merge-not-remembered", "a merged layer is merged again by the next merge", on_adapters(_forget_merging)
)
MERGED_WEIGHTS_PERTURBED = _adapter(
    "merged-weights-perturbed", "merging also scales the base weight", on_adapters(_merge_something_else)
)
UNMERGE_DOES_NOTHING = _adapter(
    "unmerge-does-nothing", "unmerging forgets the merge and leaves the weights merged", on_adapters(_unmerge_nothing)
)
ROWS_IGNORED = _adapter(
    "rows-ignored", "the adapter named for a row is not used", on_peft_model(_with_another(_ignore_rows))
)
SWITCHING_IGNORED = _adapter(
    "switching-ignored", "set_adapter() does nothing", on_peft_model(_with_another(_ignore_switching))
)
COMBINING_HALVES = _adapter(
    "combining-halves", "combined adapters have half their weight", on_peft_model(_with_another(_combine_halves))
)
MERGE_FORGETS_THE_ADAPTER = _adapter(
    "merge-forgets-the-adapter",
    "the export unloads the adapter without merging it",
    lambda r: r.replace(merge=_merge_nothing),
)
MERGED_TWICE = _adapter("merged-twice", "the export merges twice", lambda recipe: recipe.replace(merge=_merge_twice))
MERGED_FILE_LACKS_A_LAYER = _adapter(
    "merged-file-lacks-a-layer", "an adapted layer is missing from the saved merged model", _save_merged_without_one
)
