"""Mistakes in where a model is adapted, and in what its layers do together."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ftcheck.methods import LoRA

from ..mutant import Mutant
from ..reference_network import Copied, NetworkAdapter, ReferenceNetwork

OUTPUT, STARTS, WHERE = "network-output", "network-starts-as-the-base", "adapts-what-is-declared"
RANKS, SCALINGS, COUNT = "patterns-are-obeyed", "pattern-scalings", "network-trains-the-closed-form"
MERGES, DISABLED, TRAINED = "network-merges", "network-disabled-is-the-base", "saved-modules-are-trained"
RESTORED, BYTES = "network-is-restored", "network-saves-the-closed-form"


class ForgetsTheLastLayer(ReferenceNetwork):
    def targets(self, model: nn.Module) -> tuple[str, ...]:
        names = super().targets(model)
        return names[:-1] if len(names) > 1 else names


class MatchesAPartOfAName(ReferenceNetwork):
    """``q`` is in ``q_proj`` and in ``query``, and ``attn.c_proj`` ends like ``mlp.c_proj``."""

    def targets(self, model: nn.Module) -> tuple[str, ...]:
        endings = [str(target).rpartition(".")[2] for target in self.config.target_modules or ()]
        found = (name for name, module in model.named_modules() if not list(module.children()))
        kept = set(super().targets(model))
        return tuple(
            name
            for name in found
            if name in kept or (name.endswith(tuple(endings)) and hasattr(model.get_submodule(name), "weight"))
        )


class AdaptsEveryLayer(ReferenceNetwork):
    """``layers_to_transform`` is not looked at."""

    def targets(self, model: nn.Module) -> tuple[str, ...]:
        self.config = replace(self.config, options={})
        return super().targets(model)


class OneRankForAll(ReferenceNetwork):
    def config_of(self, name: str) -> LoRA:
        config = super().config_of(name)
        return replace(config, r=self.config.r, alpha=config.alpha * self.config.r / config.r)


class PatternsAreWholeNames(ReferenceNetwork):
    def config_of(self, name: str) -> LoRA:
        rank = self.config.rank_pattern.get(name, self.config.r)
        return replace(self.config, r=rank, alpha=self.config.alpha_pattern.get(name, self.config.alpha))


class OneAlphaForAll(ReferenceNetwork):
    def config_of(self, name: str) -> LoRA:
        return replace(super().config_of(name), alpha=self.config.alpha)


class ScaledWithTheCommonRank(ReferenceNetwork):
    def config_of(self, name: str) -> LoRA:
        config = super().config_of(name)
        ratio = config.r / self.config.r
        return replace(config, alpha=config.alpha * (ratio**0.5 if config.use_rslora else ratio))


class SharesItsFactors(ReferenceNetwork):
    """Layers of the same shape are given the same factors."""

    def start(self) -> None:
        shared: dict[tuple[Any, ...], Any] = {}
        for layer in self.layers.values():
            key = (layer.a.shape, layer.b.shape)
            layer.adapters = shared.setdefault(key, layer.adapters)


class TrainsTheNorms(ReferenceNetwork):
    def start(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or "norm" in name.lower() or ".ln_" in name)


class UntiesTheWeights(ReferenceNetwork):
    """A copy of the base that forgot which weights are shared."""

    def start(self) -> None:
        for module in self.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if not parameter.requires_grad:
                    setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))


class StartsWithAnUpdate(ReferenceNetwork):
    def start(self) -> None:
        for layer in self.layers.values():
            nn.init.normal_(layer.b, std=1e-3)


class RoundsTheBase(ReferenceNetwork):
    """The base is kept in half precision, and cast back."""

    def start(self) -> None:
        for parameter in self.model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.half().to(parameter.dtype)


class MergesAllButTheLast(ReferenceNetwork):
    """And marks it as merged."""

    def merged_layers(self) -> list[Any]:
        *others, last = self.layers.values()
        last.merged = True
        return others


class MergesTheFirstTwice(ReferenceNetwork):
    def merged_layers(self) -> list[Any]:
        first, *others = self.layers.values()
        first.base.weight.data += first.delta()
        return [first, *others]


class DisablesAllButTheLast(ReferenceNetwork):
    def switched(self) -> list[Any]:
        last = list(self.layers.values())[-1]
        return [one for one in super().switched() if one is not last]


class CopiesStayEnabled(ReferenceNetwork):
    def switched(self) -> list[Any]:
        return list(self.layers.values())


class TrainsTheOriginal(ReferenceNetwork):
    class copied_type(Copied):  # noqa: N801 - the name that a network knows it by
        def copy(self, original: nn.Module) -> nn.Module:
            return original.requires_grad_(True)


class CopiesAreFrozen(ReferenceNetwork):
    class copied_type(Copied):  # noqa: N801
        def copy(self, original: nn.Module) -> nn.Module:
            return copy.deepcopy(original)


class TheOriginalComputes(ReferenceNetwork):
    class copied_type(Copied):  # noqa: N801
        def forward(self, *inputs: Any) -> Any:
            return self.original(*inputs)


class SavesNoCopies(ReferenceNetwork):
    def saved(self) -> dict[str, Tensor]:
        return {name: one for name, one in super().saved().items() if ".copied." not in name}


class SavesTheFirstLayerAlone(ReferenceNetwork):
    def saved(self) -> dict[str, Tensor]:
        first = f"model.{self.names[0]}."
        return {name: one for name, one in super().saved().items() if name.startswith(first) or ".copied." in name}


class SavesTheNorms(ReferenceNetwork):
    def saved(self) -> dict[str, Tensor]:
        norms = {name: one.detach() for name, one in self.named_parameters() if one.dim() == 1 and "norm" in name}
        first = {"model.weight": next(iter(self.layers.values())).base.weight.detach()}
        return super().saved() | (norms or first)


class SavesInSinglePrecision(ReferenceNetwork):
    def saved(self) -> dict[str, Tensor]:
        return {name: one.to(torch.float32) for name, one in super().saved().items()}


def _mutant(network: type[ReferenceNetwork], mistake: str, *by: str) -> Mutant:
    return Mutant(network, mistake, by, NetworkAdapter)


MUTANTS = (
    _mutant(ForgetsTheLastLayer, "the last layer is not adapted", WHERE, OUTPUT, COUNT),
    _mutant(MatchesAPartOfAName, "names are matched by their last letters", WHERE, COUNT),
    _mutant(AdaptsEveryLayer, "layers_to_transform is ignored", WHERE, COUNT, BYTES),
    _mutant(OneRankForAll, "rank_pattern is ignored", RANKS, COUNT, BYTES),
    _mutant(PatternsAreWholeNames, "patterns are looked up by the whole name", RANKS, SCALINGS, OUTPUT),
    _mutant(OneAlphaForAll, "alpha_pattern is ignored", SCALINGS, OUTPUT),
    _mutant(ScaledWithTheCommonRank, "the scaling has the common rank", SCALINGS, OUTPUT),
    _mutant(SharesItsFactors, "layers share their factors", COUNT),
    _mutant(TrainsTheNorms, "norms train too", COUNT),
    _mutant(UntiesTheWeights, "shared weights are there twice", COUNT),
    _mutant(StartsWithAnUpdate, "B starts at random", STARTS),
    _mutant(RoundsTheBase, "the base is rounded", STARTS, OUTPUT),
    _mutant(MergesAllButTheLast, "the last layer is not merged", MERGES),
    _mutant(MergesTheFirstTwice, "the first layer is merged twice", MERGES),
    _mutant(DisablesAllButTheLast, "the last layer is not disabled", DISABLED),
    _mutant(CopiesStayEnabled, "copies are not disabled", DISABLED),
    _mutant(TrainsTheOriginal, "the original trains, not a copy", DISABLED, COUNT),
    _mutant(CopiesAreFrozen, "copies do not train", TRAINED, COUNT),
    _mutant(TheOriginalComputes, "the copy is not in the output", TRAINED),
    _mutant(SavesNoCopies, "copies are not saved", RESTORED),
    _mutant(SavesTheFirstLayerAlone, "one layer is saved", RESTORED, BYTES),
    _mutant(SavesTheNorms, "frozen weights are saved", BYTES),
    _mutant(SavesInSinglePrecision, "saved as float32 whatever the precision", BYTES),
)
