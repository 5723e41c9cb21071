"""``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``, in groups or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .random import normal, with_normal_weights

LAYERS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
FUNCTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# Pixels along each axis: room for a kernel of 3, dilated by 2.
EXTENT = 5


@dataclass(frozen=True)
class Convolution:
    """W: (outputs, channels / groups, *kernel) over images (*rows, channels, 5, ...) of 1 to 3 axes.

    A: (r, channels, *kernel) has the stride, padding and dilation of the layer and no groups; B: (outputs, r / groups,
    1, ...) has its groups (peft 0.21.2, ``peft.tuners.lora.layer._ConvNd``).
    """

    axes: int
    channels_per_group: int
    outputs_per_group: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    has_bias: bool = True

    kind = "convolution"

    @property
    def channels(self) -> int:
        return self.channels_per_group * self.groups

    @property
    def outputs(self) -> int:
        return self.outputs_per_group * self.groups

    def shapes(self, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        kernel, ones = (self.kernel,) * self.axes, (1,) * self.axes
        return (r, self.channels, *kernel), (self.outputs, r // self.groups, *ones)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        layer: nn.Module = LAYERS[self.axes](
            self.channels,
            self.outputs,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.has_bias,
            dtype=dtype,
        )
        return with_normal_weights(layer, seed)

    def inputs(self, rows: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        # A convolution knows one dimension of rows.
        return normal((rows[0], self.channels, *(EXTENT,) * self.axes), dtype, seed)

    def weight(self, layer: Any) -> Tensor:
        return layer.weight  # type: ignore[no-any-return]

    def bias(self, layer: Any) -> Tensor | None:
        return layer.bias  # type: ignore[no-any-return]

    def dense(self, weight: Tensor) -> Tensor:
        """(outputs, channels, *kernel): zero where an output does not see a channel."""
        dense = weight.new_zeros(self.outputs, self.channels, *weight.shape[2:])
        for group in range(self.groups):
            rows = slice(group * self.outputs_per_group, (group + 1) * self.outputs_per_group)
            columns = slice(group * self.channels_per_group, (group + 1) * self.channels_per_group)
            dense[rows, columns] = weight[rows]
        return dense

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        """Each group of outputs is made of its share of the ranks."""
        outputs = b.reshape(self.groups, self.outputs_per_group, -1)
        ranks = a.reshape(self.groups, -1, *a.shape[1:])
        return torch.einsum("gor,gr...->go...", outputs, ranks).flatten(0, 1)

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        function = FUNCTIONS[self.axes]
        return function(x, weight, bias, self.stride, self.padding, self.dilation)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        named = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        others = [f"{name} {value}" for name, value in named.items() if value != 1]
        others += [f"padding {self.padding}"] if self.padding else []
        others += [] if self.has_bias else ["no bias"]
        shape = f"{self.channels} -> {self.outputs}, kernel {self.kernel}"
        return f"Conv{self.axes}d({', '.join([shape, *others])})"
