"""What PEFT gets wrong: known, written up in ``docs/peft-findings.md``, and tried only on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from ...methods import LoRA

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


Stage = Literal["wrapping", "computing", "merging"]


@dataclass(frozen=True)
class Defect:
    """``meets``: whether a layer under a configuration shows it, and at which of ``stages``: when it is adapted, when
    an adapted one computes, or when ΔW is formed.
    """

    id: str
    claim: str
    meets: Callable[[Any, LoRA], bool]
    stages: tuple[Stage, ...] = ("wrapping",)

    def __str__(self) -> str:
        return f"{self.claim} (docs/peft-findings.md#{self.id})"


# Seen in peft 0.21.2; tests/lora/test_peft_findings.py sees to it that each of them is still there.
DEFECTS = (
    Defect(
        "dilation",
        "PEFT's LoRA ignores the dilation of a convolution",
        lambda layer, config: isinstance(layer, CONVOLUTIONS) and any(step > 1 for step in layer.dilation),
    ),
    Defect(
        "conv3d-of-kernel-1",
        "PEFT cannot merge a Conv3d whose kernel begins with 1 x 1",
        lambda layer, config: isinstance(layer, nn.Conv3d) and layer.kernel_size[:2] == (1, 1),
        stages=("merging",),
    ),
    Defect(
        "dora-on-groups",
        "PEFT computes DoRA on a grouped convolution with the wrong groups",
        lambda layer, config: isinstance(layer, CONVOLUTIONS) and layer.groups > 1 and config.use_dora,
    ),
    Defect(
        "olora-on-conv1d",
        "PEFT's OLoRA forgets that the weight of GPT-2's Conv1D lies the other way round",
        lambda layer, config: isinstance(layer, Conv1D) and config.init == "olora",
    ),
    Defect(
        "attention-projects-twice",
        "PEFT adds the update of an attention's output projection twice",
        lambda layer, config: isinstance(layer, nn.MultiheadAttention) and _has_trained(layer.out_proj),
        stages=("computing", "merging"),
    ),
)


def met_by(layer: nn.Module, config: LoRA, stage: Stage) -> list[Defect]:
    """The defects that the base ``layer`` shows under ``config`` at ``stage``."""
    return [defect for defect in DEFECTS if stage in defect.stages and defect.meets(layer, config)]


def _has_trained(projection: Any) -> bool:
    """Whether B of an adapted projection is not 0, as it is at the start."""
    return any(bool(b.weight.any()) for b in projection.lora_B.values())
