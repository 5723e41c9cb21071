"""A right implementation of LoRA, in steps that a mutant can get wrong one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.lora.adapter import Adapter
from pytest_ftcheck.methods import LoRA

CONVOLUTIONS: dict[type, Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


class Factors(nn.Module):
    """One adapter of a layer."""

    def __init__(self, base: Any, config: LoRA) -> None:
        super().__init__()
        self.config = config
        a_shape, b_shape = self.shapes(base, config.r)
        self.a = nn.Parameter(torch.empty(a_shape, dtype=base.weight.dtype))
        self.b = nn.Parameter(torch.empty(b_shape, dtype=base.weight.dtype))
        self.factor = 1.0
        self.start()

    def shapes(self, base: Any, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if isinstance(base, nn.Linear):
            return (r, base.in_features), (base.out_features, r)
        if isinstance(base, Conv1D):
            return (r, base.weight.shape[0]), (base.weight.shape[1], r)
        if isinstance(base, nn.Embedding):
            return (r, base.num_embeddings), (base.embedding_dim, r)
        ones = (1,) * len(base.kernel_size)
        return (r, base.in_channels, *base.kernel_size), (base.out_channels, r // base.groups, *ones)

    def start(self) -> None:
        nn.init.normal_(self.a)
        nn.init.zeros_(self.b)

    def scaling(self) -> float:
        config = self.config
        return self.factor * config.alpha / (config.r**0.5 if config.use_rslora else config.r)


class ReferenceLayer(nn.Module):
    """A frozen base layer and the adapters on it."""

    factors_type = Factors

    def __init__(self, base: nn.Module, config: LoRA) -> None:
        super().__init__()
        self.base: Any = base
        for parameter in base.parameters():
            parameter.requires_grad_(False)
        self.adapters = nn.ModuleDict()
        self.active, self.enabled, self.merged = "default", True, False
        self.add("default", config)

    def add(self, name: str, config: LoRA) -> None:
        self.adapters[name] = self.factors_type(self.base, config)

    @property
    def current(self) -> Factors:
        return self.adapters[self.active]  # type: ignore[return-value]

    @property
    def a(self) -> Tensor:
        return self.current.a

    @property
    def b(self) -> Tensor:
        return self.current.b

    # What it computes.

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            self.unmerge()
        output: Tensor = self.base(x)
        if not self.enabled or self.merged:
            return output
        return self.combine(output, self.update(x))

    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return output + update * self.current.scaling()

    def update(self, x: Tensor) -> Tensor:
        return self.up(self.down(self.drop(x)))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.current.config.dropout, self.training) if x.is_floating_point() else x

    def down(self, x: Tensor) -> Tensor:
        base, convolution = self.base, CONVOLUTIONS.get(type(self.base))
        if isinstance(base, nn.Embedding):
            return F.embedding(x, self.a.T, base.padding_idx)
        if convolution is None:
            return F.linear(x, self.a)
        return convolution(x, self.a, None, base.stride, base.padding, base.dilation)

    def up(self, hidden: Tensor) -> Tensor:
        convolution = CONVOLUTIONS.get(type(self.base))
        return F.linear(hidden, self.b) if convolution is None else convolution(hidden, self.b, groups=self.base.groups)

    # Merging.

    def delta(self) -> Tensor:
        """ΔW in the orientation of the base's weight."""
        if getattr(self.base, "groups", 1) > 1:
            raise NotApplicable("ΔW of a grouped convolution has no groups, and does not fit into its weight")
        product = torch.einsum("or,r...->o...", self.b.flatten(1), self.a)
        return self.orient(product) * self.current.scaling()

    def orient(self, product: Tensor) -> Tensor:
        return product.T if isinstance(self.base, (Conv1D, nn.Embedding)) else product

    def merge(self) -> None:
        if not self.merged:
            self.base.weight.data += self.delta()
            self.merged = True

    def unmerge(self) -> None:
        if self.merged:
            self.base.weight.data -= self.delta()
            self.merged = False


class ReferenceAdapter(Adapter):
    """``ReferenceLayer``, or a mutant of it, for the properties."""

    kinds = ("linear", "conv1d", "embedding", "convolution")
    features = ("dropout", "rslora")

    def __init__(self, layer_type: type[ReferenceLayer] = ReferenceLayer) -> None:
        self.layer_type = layer_type

    @property
    def name(self) -> str:
        return self.layer_type.__name__

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        return self.layer_type(layer, config)

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        return layer.current.a, layer.current.b

    def scaling(self, layer: Any) -> float:
        return layer.current.scaling()  # type: ignore[no-any-return]

    def weight(self, layer: Any) -> Tensor:
        return layer.base.weight  # type: ignore[no-any-return]

    def delta(self, layer: Any) -> Tensor:
        return layer.delta()  # type: ignore[no-any-return]

    def merge(self, wrapped: Any) -> None:
        wrapped.merge()

    def unmerge(self, wrapped: Any) -> None:
        wrapped.unmerge()

    @contextlib.contextmanager
    def disabled(self, wrapped: Any) -> Iterator[None]:
        wrapped.enabled = False
        try:
            yield
        finally:
            wrapped.enabled = True

    def scale(self, wrapped: Any, factor: float) -> None:
        wrapped.current.factor *= factor

    def unscale(self, wrapped: Any) -> None:
        wrapped.current.factor = 1.0

    def add(self, wrapped: Any, name: str, config: LoRA) -> None:
        wrapped.add(name, config)

    def activate(self, wrapped: Any, name: str) -> None:
        wrapped.active = name

    def save(self, wrapped: Any, folder: Path) -> None:
        save_file(dict(wrapped.current.state_dict()), folder / "adapter.safetensors")

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        layer = self.layer_type(base, config)
        layer.current.load_state_dict(load_file(folder / "adapter.safetensors"))
        return layer
