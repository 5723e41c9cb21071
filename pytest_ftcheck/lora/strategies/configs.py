"""What an adapter can be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from ...methods import LoRA

ALPHAS = (1.0, 2.0, 8.0, 16.0, 0.5, 3.0)
# The name that an adapter knows a setting by -> its name in LoRA, and what it can be, simplest first.
SETTINGS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dropout": ("dropout", (0.0, 0.5, 0.1)),
    "rslora": ("use_rslora", (False, True)),
    "dora": ("use_dora", (False, True)),
    "bias": ("bias", ("none", "lora_only", "all")),
    "gaussian": ("init", (True, "gaussian")),
}


@st.composite
def lora_configs(
    draw: DrawFn,
    *,
    features: Collection[str] = tuple(SETTINGS),
    targets: Sequence[str] | str | None = None,
    multiple_of: int = 1,
    most: int = 8,
) -> LoRA:
    """Declarations of LoRA with a rank up to ``most`` that is a multiple of ``multiple_of``, and those of SETTINGS that
    ``features`` names; ``targets`` are its target_modules.
    """
    rank = multiple_of * draw(st.integers(1, max(most // multiple_of, 1)))
    alpha = draw(st.sampled_from(ALPHAS))
    known = [setting for feature, setting in SETTINGS.items() if feature in features]
    drawn = {name: draw(st.sampled_from(values)) for name, values in known}
    return LoRA(r=rank, alpha=alpha, target_modules=targets, **drawn)
