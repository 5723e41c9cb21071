"""The floating-point operations of one update of a decoder, to the operation, worked out from shapes alone.

With T = batch · sequence tokens, a layer of m inputs and n outputs takes 2 T m n operations forward, as many backward
for the gradient of its input (dX = dY Wᵀ), and again for that of its weight (dW = Xᵀ dY): 2 N T forward and 4 N T
backward for N weights in matrices (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Embeddings, norms, biases,
activations and AdamW are no matrix products, and are not counted.

What of the backward pass is done depends on what trains: dW only for weights that do, dX only where something that
trains lies below. So LoRA (Hu et al. 2021, arXiv 2106.09685) spares dW of the frozen weights, 2 N T, and dX below the
first adapter, and adds 2 r (m + n) T forward and twice that backward for each adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..errors import RecipeError
from ..run import Flops
from .micro_batch import MicroBatch

if TYPE_CHECKING:
    from torch import nn

    from ..methods import Method

ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class FlopsForm(Record):
    """What one update must take, in all and by part.

    Parts: ``"layers"`` (the linear layers of the blocks), ``"attention"``, ``"head"`` (the output embedding),
    ``"adapters"``, ``"recomputed"`` (what checkpointing does again, all of it in the backward pass), and ``"angles"``
    (of rotary embeddings).
    """

    label: str
    parts: dict[str, Flops]

    @property
    def forward(self) -> int:
        return sum(part.forward for part in self.parts.values())

    @property
    def backward(self) -> int:
        return sum(part.backward for part in self.parts.values())

    @property
    def flops(self) -> Flops:
        """The whole update, comparable with ``Run.flops`` and ``Prediction.flops``."""
        return Flops(self.forward, self.backward)


def flops_form(
    model: nn.Module,
    method: Method,
    *,
    batch_size: int,
    sequence_length: int,
    gradient_checkpointing: bool = False,
    accumulation: int = 1,
    attention: str = "sdpa",
) -> FlopsForm:
    """The closed form of the base ``model`` (without weights, on the meta device, will do) trained by ``method``.

    An update is ``accumulation`` micro-batches of ``batch_size`` rows of ``sequence_length`` tokens, padding included.
    ``attention`` is ``"sdpa"`` for a fused kernel, which computes the scores again in the backward pass, and
    ``"eager"`` for plain products, also where ``scaled_dot_product_attention`` has only its fallback left: on the CPU
    with dropout, on a GPU for grouped heads in float32. (CUDA's flash kernel widens a head to a multiple of 8.)
    ``gradient_checkpointing`` is that of transformers: block by block, ``use_reentrant=False``, with embeddings that
    require a gradient. Raises RecipeError for a model or a method that there is no closed form for.
    """
    numbers = {"batch_size": batch_size, "sequence_length": sequence_length, "accumulation": accumulation}
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{name} is {value!r}; allowed: a whole number of at least 1")
    if attention not in ATTENTION:
        raise RecipeError(f"attention is {attention!r}; allowed: {', '.join(ATTENTION)}")
    once = MicroBatch(model, method, batch_size, sequence_length, gradient_checkpointing, attention == "sdpa")
    once.whole_model()
    parts = {
        name: Flops(accumulation * once.forward[name], accumulation * once.backward[name])
        for name in dict.fromkeys([*once.forward, *once.backward])
    }
    return FlopsForm(method.label, parts)
