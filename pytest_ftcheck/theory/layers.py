"""What an adapter needs to know of a layer: its kind, and how many inputs and outputs it has."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

ADAPTABLE = "Linear, Conv1D, Embedding, Conv1d, Conv2d, Conv3d, MultiheadAttention with one embedding size"


@dataclass(frozen=True)
class Layer:
    """A layer as LoRA sees it: A maps ``inputs`` to r, B maps r to ``outputs``.

    ``kind`` is the class that PEFT takes it for, whatever class of its own a subclass is. ``inputs`` counts the kernel
    in (C_in · K for a convolution, with K = ``kernel``) and is the vocabulary for an embedding.
    """

    kind: str
    inputs: int
    outputs: int
    groups: int = 1
    kernel: int = 1

    @property
    def channels(self) -> int:
        """The inputs without the kernel."""
        return self.inputs // self.kernel

    @property
    def per_rank(self) -> int:
        """Adapter parameters per unit of rank. A of a grouped convolution is not grouped, B is (peft 0.21.2)."""
        return self.inputs + self.outputs // self.groups

    def __str__(self) -> str:
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.kind} {self.inputs}x{self.outputs}{groups}"


def is_linear(module: nn.Module) -> bool:
    """Whether ``module`` is a Linear or the transposed Conv1D of transformers' GPT-2."""
    from torch import nn

    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D; where transformers is not loaded, no model has one."""
    library = sys.modules.get("transformers.pytorch_utils")
    return library is not None and isinstance(module, library.Conv1D)


def layer_of(module: nn.Module) -> Layer | None:
    """``module`` as a layer that LoRA can adapt, or None where it cannot."""
    from torch import nn

    if isinstance(module, nn.Linear):
        return Layer("Linear", module.in_features, module.out_features)
    if _is_conv1d(module):
        weight: Any = module.weight
        return Layer("Conv1D", *weight.shape)
    if isinstance(module, nn.Embedding):
        return Layer("Embedding", module.num_embeddings, module.embedding_dim)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        kernel = math.prod(module.kernel_size)
        kind = f"Conv{len(module.kernel_size)}d"
        return Layer(kind, module.in_channels * kernel, module.out_channels, module.groups, kernel)
    if isinstance(module, nn.MultiheadAttention) and module._qkv_same_embed_dim:
        # Query, key and value are one packed projection; the output projection is a layer of its own.
        return Layer("MultiheadAttention", module.embed_dim, 3 * module.embed_dim)
    return None


def layers_of(name: str, module: nn.Module) -> dict[str, Layer]:
    """Name -> layer of each adapter that LoRA puts on the module ``name``; empty where it cannot adapt it."""
    from torch import nn

    layer = layer_of(module)
    if layer is None:
        return {}
    if not isinstance(module, nn.MultiheadAttention):
        return {name: layer}
    return {name: layer, f"{name}.out_proj": Layer("Linear", module.embed_dim, module.embed_dim)}
