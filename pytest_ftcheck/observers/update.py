"""What a trace keeps of one update: its forward and backward passes, and what the optimizer was given and did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


@dataclass
class ForwardPass:
    """One call of the model.

    ``inputs`` are its arguments by name, tensors as copies. ``recording``: gradients were being recorded.
    ``in_eval_mode`` names the modules whose ``training`` flag was off. ``logits`` [..., vocabulary] in float32 and
    ``logits_gradient``, the derivative of what ``backward`` was called on, are None where there were none.
    ``own_loss`` is the loss that the model itself returned, if it did. Where the loss was not taken of the output's
    logits, because it is fused or under mixed precision, both are worked out from the hidden states. ``precision`` is
    the logits' dtype as the model returned them, and ``generators`` digests of the state of torch's random numbers,
    from which dropout is drawn, when the pass began and when it had ended.
    """

    inputs: dict[str, Any]
    recording: bool
    in_eval_mode: tuple[str, ...]
    logits: Tensor | None = None
    logits_gradient: Tensor | None = None
    own_loss: float | None = None
    output_type: str = ""
    precision: str = ""
    generators: tuple[int, int] = (0, 0)

    @property
    def input_ids(self) -> Tensor | None:
        """Token ids [rows, length]: the argument of that name, or else the first whole-number matrix."""
        import torch

        named = self.inputs.get("input_ids")
        if isinstance(named, torch.Tensor):
            return named
        whole = (t for t in self.inputs.values() if isinstance(t, torch.Tensor) and t.dtype == torch.int64)
        return next((t for t in whole if t.dim() == 2), None)


@dataclass
class Backward:
    """One backward pass. ``loss`` is what it was called on, before any gradient scaler; ``scale`` is its factor.

    ``forwards`` are the recorded forward passes since the backward pass before. ``before`` and ``after`` are the
    accumulated gradients by parameter name (absent: None), kept in the first updates only. ``lr``: the learning rates
    of all groups of all optimizers seen so far. ``precision``: the dtype of the loss.
    """

    loss: float
    scale: float
    forwards: list[ForwardPass]
    lr: tuple[float, ...]
    before: Tensors = field(default_factory=dict)
    after: Tensors = field(default_factory=dict)
    precision: str = ""


@dataclass
class Update:
    """One update: its backward passes, and what the optimizer was given and did.

    ``gradients`` are those that the optimizer's step saw, ``before`` and ``after`` the parameters around it (all three
    in the first updates only). ``lr`` and ``groups`` describe the optimizer groups at this step: the names of each
    group's parameters, and its other settings. ``trainable`` names the parameters that require a gradient at this
    step, and ``not_finite`` those whose gradient holds a NaN or an infinity.
    """

    backwards: list[Backward]
    lr: tuple[float, ...]
    groups: list[Group]
    deep: bool
    gradients: Tensors = field(default_factory=dict)
    before: Tensors = field(default_factory=dict)
    after: Tensors = field(default_factory=dict)
    trainable: frozenset[str] = frozenset()
    not_finite: tuple[str, ...] = ()

    @property
    def forwards(self) -> list[ForwardPass]:
        return [forward for backward in self.backwards for forward in backward.forwards]

    @property
    def loss(self) -> float:
        """The objective of the update: the sum of what ``backward`` was called on."""
        return sum(backward.loss for backward in self.backwards)


@dataclass(frozen=True)
class Group:
    """An optimizer group at one step: its optimizer's class, its parameters (None: not the model's), its settings."""

    optimizer: str
    names: tuple[str | None, ...]
    settings: dict[str, Any]
