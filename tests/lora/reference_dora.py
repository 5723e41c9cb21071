"""The right implementation, with DoRA, PiSSA, OLoRA and the biases as well."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.methods import LoRA

from .reference import CONVOLUTIONS, Factors, ReferenceAdapter, ReferenceLayer


class WideFactors(Factors):
    """Factors that can start in every way, with a bias on B where ``lora_bias`` asks for it."""

    def __init__(self, base: Any, config: LoRA) -> None:
        super().__init__(base, config)
        if config.options.get("lora_bias"):
            self.beta = nn.Parameter(torch.zeros_like(self.b[:, 0].flatten()))

    def start(self) -> None:
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        nn.init.zeros_(self.b)
        if self.config.init == "gaussian":
            nn.init.normal_(self.a, std=1 / self.config.r)


class WideLayer(ReferenceLayer):
    """A layer with DoRA where it is declared, whose adapter can start as a part of the weight."""

    factors_type = WideFactors

    def add(self, name: str, config: LoRA) -> None:
        super().add(name, config)
        if config.init in ("pissa", "olora"):
            self.split(self.adapters[name])
        for bias in [] if self.base_bias is None else [self.base_bias]:
            bias.requires_grad_(config.bias != "none")
        if config.use_dora:
            self.magnitude = nn.Parameter(self.lengths(self.base.weight.detach()))

    @property
    def base_bias(self) -> nn.Parameter | None:
        return getattr(self.base, "bias", None)

    # How it starts.

    def split(self, factors: Any) -> None:
        """Let the factors be a part of the weight, and the base what is left of it."""
        weight = self.orient(self.base.weight.detach()).double()
        b, a = self.principal(weight, factors) if factors.config.init == "pissa" else self.orthonormal(weight, factors)
        rank = a.shape[0]
        with torch.no_grad():
            factors.a.zero_()[:rank].copy_(a)
            factors.b.zero_()[:, :rank].copy_(b)
            part = factors.scaling() * factors.b.double() @ factors.a.double()
            self.base.weight.copy_(self.orient(weight - part))

    def principal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        r = factors.config.r
        root = (s[:r] / factors.scaling()).sqrt()
        return u[:, :r] * root, root[:, None] * v[:r]

    def orthonormal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(weight)
        rank = factors.config.r
        return q[:, :rank], r[:rank]

    # What it computes.

    def forward(self, x: Tensor) -> Tensor:
        if self.enabled and not self.merged and self.current.config.use_dora:
            return self.decomposed(x)
        output = super().forward(x)
        return output + self.bias_of_b() if self.enabled and not self.merged else output

    def bias_of_b(self) -> Tensor | float:
        if not hasattr(self.current, "beta"):
            return 0.0
        return self.by_output(self.current.beta * self.current.scaling())

    def decomposed(self, x: Tensor) -> Tensor:
        output: Tensor = self.base(x)
        bias = 0.0 if self.base_bias is None else self.by_output(self.base_bias)
        updated = output - bias + self.update(x) * self.current.scaling()
        return updated * self.by_output(self.ratio()) + bias

    def by_output(self, vector: Tensor) -> Tensor:
        """(outputs,) -> the shape that multiplies an output."""
        return vector.view(-1, *(1,) * len(self.base.kernel_size)) if type(self.base) in CONVOLUTIONS else vector

    def ratio(self) -> Tensor:
        return self.magnitude / self.lengths(self.base.weight + self.delta()).detach()

    def lengths(self, weight: Tensor) -> Tensor:
        """Over the inputs of each output."""
        return torch.linalg.vector_norm(self.outputs_first(weight).flatten(1), dim=1)

    def outputs_first(self, weight: Tensor) -> Tensor:
        return weight.T if isinstance(self.base, (Conv1D, nn.Embedding)) else weight

    # Merging.

    def merge(self) -> None:
        if self.merged:
            return
        if hasattr(self.current, "beta") and self.base_bias is None:
            raise NotApplicable("there is no bias to merge the bias of B into")
        if self.current.config.use_dora:
            self.used = self.ratio().detach()
            self.base.weight.data = self.outputs_scaled(self.base.weight.data + self.delta().detach(), self.used)
            self.merged = True
            return
        super().merge()
        if hasattr(self.current, "beta"):
            self.base_bias.data += self.current.beta.detach() * self.current.scaling()  # type: ignore[union-attr]

    def unmerge(self) -> None:
        if self.merged and self.current.config.use_dora:
            self.base.weight.data = self.outputs_scaled(self.base.weight.data, 1 / self.used) - self.delta().detach()
            self.merged = False
        super().unmerge()

    def outputs_scaled(self, weight: Tensor, by: Tensor) -> Tensor:
        first = self.outputs_first(weight)
        return self.outputs_first(first * by.view(-1, *(1,) * (first.dim() - 1)))


class WideAdapter(ReferenceAdapter):
    """``WideLayer``, or a mutant of it, for the properties."""

    features = ("dropout", "rslora", "dora", "lora_bias", "bias", "pissa", "olora", "gaussian")

    def __init__(self, layer_type: type[ReferenceLayer] = WideLayer) -> None:
        super().__init__(layer_type)

    def wrap(self, layer: Any, config: LoRA) -> nn.Module:
        if config.use_dora and getattr(layer, "groups", 1) > 1:
            raise NotApplicable("no DoRA on a grouped convolution")
        return super().wrap(layer, config)

    def magnitude(self, layer: Any) -> Tensor:
        return layer.magnitude  # type: ignore[no-any-return]
