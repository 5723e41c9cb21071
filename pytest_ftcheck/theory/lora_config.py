"""``peft.LoraConfig`` read as our own LoRA declaration, and for which of them there is a closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..methods import LoRA
from .placement import kind_of

if TYPE_CHECKING:
    from peft import PeftConfig

# Settings that decide which modules are adapted, or by how much.
COUNTED = ("exclude_modules", "layers_to_transform", "layers_pattern", "lora_bias", "target_parameters")
# Settings and initialisations of peft 0.21.2 whose counts follow a rule of their own: no closed form is claimed.
UNKNOWN = (
    *("arrow_config", "ensure_weight_tying", "eva_config", "kasa_config", "layer_replication", "megatron_config"),
    *("monteclora_config", "trainable_token_indices", "use_bdlora", "use_qalora"),
)
UNKNOWN_INITS = ("eva", "mica")


def has_closed_form(method: LoRA) -> bool:
    """Whether the parameter counts of ``method`` follow from its rank and targets alone."""
    return method.init not in UNKNOWN_INITS and not any(method.options.get(name) for name in UNKNOWN)


def has_other_counts(config: PeftConfig) -> bool:
    """Whether a configuration of another method than LoRA has a setting whose counts follow a rule of their own."""
    return any(getattr(config, name, None) for name in (*UNKNOWN, "target_parameters"))


def lora_of(config: PeftConfig) -> LoRA | None:
    """The declaration that a LoraConfig means; None for another method, or for one that targets nothing."""
    settings: Any = config
    targets = getattr(settings, "target_modules", None)
    targets_nothing = targets is not None and not targets and not getattr(settings, "target_parameters", None)
    # AdaLoraConfig is a LoraConfig too, but not of this type.
    if kind_of(config) != "LORA" or targets_nothing:
        return None
    return LoRA(
        r=settings.r,
        alpha=settings.lora_alpha,
        target_modules=targets if targets is None or isinstance(targets, str) else sorted(targets),
        dropout=settings.lora_dropout,
        bias=settings.bias,
        modules_to_save=list(settings.modules_to_save or ()),
        rank_pattern=settings.rank_pattern or {},
        alpha_pattern=settings.alpha_pattern or {},
        use_rslora=getattr(settings, "use_rslora", False),
        use_dora=getattr(settings, "use_dora", False),
        init=settings.init_lora_weights,
        task_type=settings.task_type,
        options={name: getattr(settings, name, None) for name in (*COUNTED, *UNKNOWN)},
    )
