"""What PEFT gets wrong: known, written up in ``docs/peft-findings.md``, and tried only on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from ...methods import LoRA

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Defect:
    """``meets``: whether a layer under a configuration shows it. ``on_merging``: only when ΔW is formed."""

    id: str
    claim: str
    meets: Callable[[Any, LoRA], bool]
    on_merging: bool = False

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
        on_merging=True,
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
)


def met_by(layer: nn.Module, config: LoRA) -> list[Defect]:
    """The defects that ``layer`` shows under ``config``."""
    return [defect for defect in DEFECTS if defect.meets(layer, config)]
