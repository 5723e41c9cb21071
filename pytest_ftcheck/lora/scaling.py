"""The factor in front of B A that a declaration means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..theory.targets import alpha_of, rank_of

if TYPE_CHECKING:
    from ..methods import LoRA


def scaling_of(config: LoRA, module_name: str = "") -> float:
    """alpha / r (Hu et al. 2021, arXiv 2106.09685, §4.1), or alpha / √r (rsLoRA, arXiv 2312.03732), for one module."""
    rank, alpha = rank_of(config, module_name), alpha_of(config, module_name)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)
