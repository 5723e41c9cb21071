"""A network with adapters on it, as a property meets it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from ...methods import LoRA
from ...theory.layers import layers_of
from ...theory.targets import rank_of, targeted_modules
from ...theory.tolerance import FACTOR, unit_roundoff
from ..adapter import Adapter
from ..bases.random import seeded
from ..comparison import off
from ..layer_case import Exact
from ..scaling import scaling_of
from ..state import AdapterState
from .network import Attention, Network

# How much larger an error may be than that of the same network with the same weights and no adapter: it has up to twice
# as many roundings in each layer, and they may fall out worse.
WORSE = 4
# The spread of ΔW, which is that of the weights: an update that is lost in them would not be seen to be wrong.
SPREAD = 0.3


@dataclass(frozen=True)
class NetworkCase:
    """What is drawn: a network and a declaration. ``seed`` decides weights, factors and inputs."""

    network: Network | Attention
    config: LoRA
    dtype: torch.dtype
    seed: int

    def subject(self, adapter: Adapter) -> AdaptedNetwork:
        return AdaptedNetwork(self, adapter)

    def __str__(self) -> str:
        config = self.config
        others = {"rank_pattern": dict(config.rank_pattern), "alpha_pattern": dict(config.alpha_pattern)}
        others |= {"modules_to_save": list(config.modules_to_save), **config.options}
        told = "".join(f", {name}={value}" for name, value in others.items() if value)
        return f"{self.network}, {config.label}{told}, {str(self.dtype).removeprefix('torch.')}, seed {self.seed}"


class AdaptedNetwork:
    """The network of a case, adapted by the implementation under test, in evaluation mode, its factors as they start.

    ``base`` is the same without adapters, and ``plan`` as well, with weights that mean nothing. ``inputs`` is what both
    are given. ``layers`` are the implementation's adapted layers by their names in the base, ``declared`` those that
    there should be.
    """

    def __init__(self, case: NetworkCase, adapter: Adapter) -> None:
        self.case, self.adapter = case, adapter
        self.plan = case.network.plan()
        self.inputs = case.network.inputs(2, case.dtype, case.seed)
        with warnings.catch_warnings(), seeded(case.seed):
            warnings.simplefilter("ignore")
            self.wrapped = adapter.wrap(case.network.build(case.dtype, case.seed), case.config).eval()

    @cached_property
    def base(self) -> nn.Module:
        return self.case.network.build(self.case.dtype, self.case.seed).requires_grad_(False)

    @property
    def layers(self) -> dict[str, nn.Module]:
        return dict(self.adapter.layers(self.wrapped))

    @cached_property
    def declared(self) -> dict[str, str]:
        """Each layer that there should be -> the module that was targeted, which patterns are about."""
        names = targeted_modules(self.plan, self.case.config)
        return {layer: name for name in names for layer in layers_of(name, self.plan.get_submodule(name))}

    def as_declared(self) -> list[tuple[str, nn.Module]]:
        """The layers that are both adapted and declared: where they differ, other properties tell."""
        layers = self.layers
        return [(name, layers[name]) for name in self.declared if name in layers]

    def rank(self, layer: str) -> int:
        """What the declaration gives ``layer``."""
        return rank_of(self.case.config, self.declared[layer])

    def scaling(self, layer: str) -> float:
        """What the declaration gives ``layer``."""
        return scaling_of(self.case.config, self.declared[layer])

    def fill(self) -> AdaptedNetwork:
        """Give every factor numbers as training does, so that ΔW is as large as the weights; gives itself."""
        for number, (name, layer) in enumerate(self.as_declared()):
            a, b = self.adapter.factors(layer)
            AdapterState(seed=self.case.seed + number).fill(a, b, self.case.dtype)
            with torch.no_grad():
                b.mul_(SPREAD / (self.scaling(name) * math.sqrt(self.rank(name))))
        return self

    def __call__(self) -> Tensor:
        """What the implementation makes of the inputs."""
        return self.of(self.wrapped)

    def of(self, wrapped: nn.Module) -> Tensor:
        # Attention chooses another kernel where its mask has a gradient, as that of T5 has while all of it trains.
        with torch.no_grad():
            return self.case.network.output(self.adapter.forward(wrapped, *self.inputs))

    def of_base(self) -> Tensor:
        with torch.no_grad():
            return self.case.network.output(self.base(*self.inputs))

    def wrong_output(self, what: str = "logits") -> str | None:
        """One line where the output is not that of the base with W + s·B A in place of each declared W.

        The exact one is worked out in float64. The same in the network's precision shows what rounding does in a
        network like this one: ``WORSE`` times as much is allowed, and no less than is allowed to a single layer.
        """
        exact, rounded = (self._with_updated_weights(dtype) for dtype in (torch.float64, self.case.dtype))
        least = FACTOR * unit_roundoff(self.case.dtype) * float(exact.abs().max())
        allowed = WORSE * max(float((rounded - exact).abs().max()), least)
        return off(what, self(), Exact(exact, torch.full_like(exact, allowed)))

    def _with_updated_weights(self, dtype: torch.dtype) -> Tensor:
        # By every name that a shared weight has: the update of one layer is not that of another.
        parameters = dict(self.base.named_parameters(remove_duplicate=False))
        state = {name: one.detach().double() for name, one in parameters.items()}
        for name, layer in self.as_declared():
            a, b = (one.detach().double() for one in self.adapter.factors(layer))
            weight, delta = _updated_weight(name, self.plan.get_submodule(name), self.scaling(name) * b @ a)
            state[weight] = state[weight] + delta
        state |= dict(self.base.named_buffers(remove_duplicate=False))
        cast = {name: one.to(dtype) if one.is_floating_point() else one for name, one in state.items()}
        inputs = (one.to(dtype) if isinstance(one, Tensor) and one.is_floating_point() else one for one in self.inputs)
        with torch.no_grad():
            found = functional_call(self.base, cast, tuple(inputs), tie_weights=False)
        return self.case.network.output(found).double()


def _updated_weight(name: str, module: nn.Module, delta: Tensor) -> tuple[str, Tensor]:
    """Which parameter of the network B A is added to, and B A as that lies in memory. ``delta``: (outputs, inputs)."""
    weight = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
    return f"{name}.{weight}", delta.T if isinstance(module, (Conv1D, nn.Embedding)) else delta
