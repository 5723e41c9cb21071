"""An implementation of LoRA, as the properties see it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import NotApplicable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..methods import LoRA

# Settings of ``LoRA`` beyond rank, alpha and targets.
FEATURES = (
    *("dropout", "rslora", "dora", "lora_bias", "bias", "patterns", "modules_to_save", "layers"),
    *("gaussian", "pissa", "olora"),
)


class Adapter:
    """Derive from this and say how your implementation does what a method's name says.

    ``wrap`` and ``factors`` are necessary. A property that needs a method which you leave out is *not applicable*, as
    is a case for which a method raises ``NotApplicable``; both are told, and neither is a pass.
    """

    kinds: ClassVar[tuple[str, ...]] = ("linear",)
    """What it can adapt: "linear", "conv1d" (GPT-2's), "embedding", "convolution", "experts", "attention", "model"."""

    features: ClassVar[tuple[str, ...]] = ()
    """Which of FEATURES it obeys: "dropout", "rslora", "dora", "lora_bias", "bias", "patterns", "modules_to_save",
    "layers" (to transform), and the initialisations "gaussian", "pissa" and "olora"."""

    @property
    def name(self) -> str:
        """What verdicts and test ids call it: the name of its class."""
        return type(self).__name__

    # Necessary.

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        """``layer``, which is yours to change, with an adapter put on as ``config`` says; ready to be trained."""
        raise NotImplementedError(f"{self.name}.wrap is missing: it puts your adapter on a layer")

    def factors(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """A: (r, inputs) and B: (outputs, r) of the active adapter; for a convolution (r, channels, *kernel) and
        (outputs, r / groups, 1, ...). They share memory with the parameters: what is written there is in force.
        """
        raise NotImplementedError(f"{self.name}.factors is missing: it gives A and B of a layer")

    # Right for most.

    def knows(self, feature: str, kind: str) -> bool:
        """Whether it obeys ``feature``, one of ``features``, on layers of ``kind``."""
        return feature in self.features

    def runs_the_base(self, kind: str) -> bool:
        """Whether it runs a base layer of ``kind`` as it is. One that computes W x + b by itself may round otherwise:
        it is held to the base within rounding, and not bit for bit.
        """
        return True

    def forward(self, wrapped: nn.Module, *inputs: Any) -> Tensor:
        """What ``wrapped`` makes of the inputs, as in training."""
        output: Tensor = wrapped(*inputs)
        return output

    def layers(self, wrapped: nn.Module) -> Mapping[str, nn.Module]:
        """Name in the base -> adapted layer, where ``wrapped`` has more than itself ("" is ``wrapped`` itself)."""
        return {"": wrapped}

    # Abilities: leave out what you have not.

    def scaling(self, layer: nn.Module) -> float:
        """The factor in front of B A."""
        raise NotApplicable(f"{self.name} has no scaling")

    def weight(self, layer: nn.Module) -> Tensor:
        """The base's weight as it is now, merged or not, and as it lies in memory."""
        raise NotApplicable(f"{self.name} has no weight")

    def delta(self, layer: nn.Module) -> Tensor:
        """ΔW as the implementation says it is, in the orientation of its weight."""
        raise NotApplicable(f"{self.name} has no delta")

    def magnitude(self, layer: nn.Module) -> Tensor:
        """DoRA's magnitude: one number for each output."""
        raise NotApplicable(f"{self.name} has no magnitude")

    def merge(self, wrapped: nn.Module) -> None:
        """Add ΔW to the base's weight, and stop computing it apart."""
        raise NotApplicable(f"{self.name} has no merge")

    def unmerge(self, wrapped: nn.Module) -> None:
        """Undo ``merge``."""
        raise NotApplicable(f"{self.name} has no unmerge")

    def disabled(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """A context in which ``wrapped`` is the base."""
        raise NotApplicable(f"{self.name} has no disabled")

    def scale(self, wrapped: nn.Module, factor: float) -> None:
        """Multiply the scaling in force by ``factor``."""
        raise NotApplicable(f"{self.name} has no scale")

    def unscale(self, wrapped: nn.Module) -> None:
        """Undo every ``scale``."""
        raise NotApplicable(f"{self.name} has no unscale")

    def add(self, wrapped: nn.Module, name: str, config: LoRA) -> None:
        """Put a second adapter called ``name`` on the same layers; the one that was active stays so."""
        raise NotApplicable(f"{self.name} has no add")

    def activate(self, wrapped: nn.Module, name: str) -> None:
        """Let the adapter called ``name`` be the one in force. The first one is called "default"."""
        raise NotApplicable(f"{self.name} has no activate")

    def save(self, wrapped: nn.Module, folder: Path) -> None:
        """Write the adapter, and nothing of the base, into ``folder``."""
        raise NotApplicable(f"{self.name} has no save")

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        """``base`` with the adapter that ``save`` wrote, made with the same ``config``."""
        raise NotApplicable(f"{self.name} has no load")

    def can(self, ability: str) -> bool:
        """Whether it has the method of that name."""
        return getattr(type(self), ability) is not getattr(Adapter, ability)
