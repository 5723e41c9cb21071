"""What an adapter can be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from ...methods import BIAS, LoRA
from ..adapter import FEATURES

ALPHAS = (1.0, 2.0, 8.0, 16.0, 0.5, 3.0)
# The name that an adapter knows a setting by -> its name in LoRA, and what it can be, simplest first.
SETTINGS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dropout": ("dropout", (0.0, 0.5, 0.1)),
    "rslora": ("use_rslora", (False, True)),
    "dora": ("use_dora", (False, True)),
    "bias": ("bias", BIAS),
}
INITS = ("gaussian", "pissa", "olora")


@st.composite
def lora_configs(
    draw: DrawFn,
    *,
    features: Collection[str] = FEATURES,
    targets: Sequence[str] | None = None,
    saved: Sequence[str] = (),
    layers: int = 0,
    multiple_of: int = 1,
    most: int = 8,
) -> LoRA:
    """Declarations of LoRA, with the settings that ``features`` names, of ``pytest_ftcheck.lora.adapter.FEATURES``.

    The rank is a multiple of ``multiple_of`` up to ``most``. ``targets`` are endings of module names: some of them are
    the target_modules, and have ranks and alphas of their own. ``saved`` are names that modules_to_save can have, and
    ``layers`` is the number of layers of which layers_to_transform can leave some out.
    """
    ranks = st.integers(1, max(most // multiple_of, 1)).map(lambda rank: rank * multiple_of)
    rank, alpha = draw(ranks), draw(st.sampled_from(ALPHAS))
    known = [setting for feature, setting in SETTINGS.items() if feature in features]
    drawn = {name: draw(st.sampled_from(values)) for name, values in known}
    drawn["init"] = draw(st.sampled_from((True, *(init for init in INITS if init in features))))
    options = draw(_options(features, layers))
    if options.get("lora_bias") and (drawn.get("use_dora") or drawn["init"] is not True):
        del options["lora_bias"]  # Nobody has defined these together, and PEFT refuses them.
    if targets:
        # In the order of ``targets``, not in that of drawing.
        chosen = draw(st.sets(st.sampled_from(list(targets)), min_size=1))
        drawn["target_modules"] = [target for target in targets if target in chosen]
    if targets and "patterns" in features:
        drawn["rank_pattern"] = draw(st.dictionaries(st.sampled_from(drawn["target_modules"]), ranks, max_size=2))
        alphas = st.dictionaries(st.sampled_from(drawn["target_modules"]), st.sampled_from(ALPHAS), max_size=2)
        drawn["alpha_pattern"] = draw(alphas)
    if saved and "modules_to_save" in features:
        drawn["modules_to_save"] = draw(st.sampled_from(((), *((name,) for name in saved))))
    return LoRA(r=rank, alpha=alpha, options=options, **drawn)


@st.composite
def _options(draw: DrawFn, features: Collection[str], layers: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "lora_bias" in features and draw(st.booleans()):
        options["lora_bias"] = True
    if "layers" in features and layers > 1 and draw(st.booleans()):
        options["layers_to_transform"] = sorted(draw(st.sets(st.integers(0, layers - 1), min_size=1)))
    return options
