"""Breaking how parameters are sorted into the optimizer's groups."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .optimizer import setting
from .parameters import adapted_by
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from ...recipe import Job, Recipe

RATIO = 16


def regrouped(
    regroup: Callable[[list[tuple[str, Any]], dict[str, Any]], list[dict[str, Any]]],
) -> Callable[[Job], contextlib.AbstractContextManager[Any]]:
    """A context in which each group of the model's parameters becomes the groups that ``regroup`` makes of its
    (name, parameter) pairs and its settings.
    """

    def context(job: Job) -> contextlib.AbstractContextManager[Any]:
        import torch

        inner = torch.optim.Optimizer.add_param_group

        def add(this: Any, group: dict[str, Any]) -> None:
            params = group["params"]
            params = [params] if isinstance(params, torch.Tensor) else list(params)
            names = {id(p): name for name, p in job.model.named_parameters()}
            named = [(names[id(p)], p) for p in params if id(p) in names]
            settings = {**this.defaults, **{key: value for key, value in group.items() if key != "params"}}
            for one in regroup(named, settings) if named else [group]:
                inner(this, one)

        return patched(torch.optim.Optimizer, "add_param_group", add)

    return context


def _decay_on_vectors(named: list[tuple[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Vectors decay; one matrix does not, so that the groups are told apart the wrong way round."""
    vectors = [p for _, p in named if p.dim() <= 1]
    matrices = [p for _, p in named if p.dim() > 1]
    return [{**settings, "params": vectors, "weight_decay": 0.1}, {**settings, "params": matrices, "weight_decay": 0.0}]


def _by_factor(is_fast: Callable[[int, str], bool]) -> Callable[[list[tuple[str, Any]], dict[str, Any]], Any]:
    def regroup(named: list[tuple[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
        fast = {id(p) for i, (name, p) in enumerate(named) if is_fast(i, name)}
        return [
            {**settings, "params": [p for _, p in named if id(p) not in fast]},
            {**settings, "params": [p for _, p in named if id(p) in fast], "lr": RATIO * settings["lr"]},
        ]

    return regroup


def _empty_for_embeddings(named: list[tuple[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**settings, "params": [p for _, p in named]}, {**settings, "params": [], "lr": 1e-6}]


def _on_lora(context: Callable[[Job], Any], part: str = ".lora_B.") -> Callable[[Recipe], Recipe]:
    def apply(recipe: Recipe) -> Recipe:
        names = [name for name, _ in adapted_by(recipe, "adapter").named_parameters()]
        if sum(part in name for name in names) < 2:
            raise NotApplicable("the recipe has no two LoRA layers")
        return around_training(recipe, context)

    return apply


def _with_embedding(recipe: Recipe) -> Recipe:
    """The recipe with LoRA on its input embedding, too."""
    from torch import nn

    from ...methods import LoRA

    method = recipe.lora
    embedding = next((n for n, m in recipe.model().named_modules() if isinstance(m, nn.Embedding)), None)
    if not isinstance(method, LoRA) or isinstance(method.target_modules, str) or embedding is None:
        raise NotApplicable("the recipe has no LoRA on modules by name, or its model no embedding")
    import dataclasses

    targets = [*(method.target_modules or []), embedding]
    broken = recipe.replace(lora=dataclasses.replace(method, target_modules=targets))
    return around_training(broken, regrouped(_empty_for_embeddings))


DECAY_ON_EVERYTHING = Sabotage(
    "decay-on-everything", "everything decays by 0.1, norms and biases too", setting(weight_decay=0.1), "full"
)
DECAY_ON_NORMS = Sabotage(
    "decay-on-norms",
    "norms and biases decay, and matrices do not",
    lambda recipe: around_training(recipe, regrouped(_decay_on_vectors)),
    "full",
)
LORA_RATES_UNEQUAL = Sabotage(
    "lora-rates-unequal",
    "B of the first LoRA layers misses the larger rate that B has",
    _on_lora(regrouped(_by_factor(lambda index, name: "lora_B" in name and index >= 4))),
    "adapter",
)
LORA_RATES_SWAPPED = Sabotage(
    "lora-rates-swapped",
    "A has the larger rate that is meant for B",
    _on_lora(regrouped(_by_factor(lambda index, name: "lora_A" in name))),
    "adapter",
)
EMBEDDING_GROUP_EMPTY = Sabotage(
    "embedding-group-empty", "the group for the embedding's adapter is empty", _with_embedding, "adapter"
)
