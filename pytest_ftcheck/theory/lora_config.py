"""``peft.LoraConfig`` read as our own LoRA declaration, and for which of them there is a closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..methods import LoRA

if TYPE_CHECKING:
    from peft import PeftConfig

# Settings that decide which modules are adapted, or by how much.
COUNTED = ("exclude_modules", "layers_to_transform", "layers_pattern", "lora_bias")
# Settings and initialisations of peft 0.21.2 whose counts follow a rule of their own: no closed form is claimed.
UNKNOWN = (
    *("arrow_config", "ensure_weight_tying", "eva_config", "kasa_config", "layer_replication", "megatron_config"),
    *("monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora"),
)
UNKNOWN_INITS = ("eva", "mica")


def has_closed_form(method: LoRA) -> bool:
    """Whether the parameter counts of ``method`` follow from its rank and targets alone."""
    return method.init not in UNKNOWN_INITS and not any(method.options.get(name) for name in UNKNOWN)


def lora_of(config: PeftConfig) -> LoRA | None:
    """The declaration that a LoraConfig means; None for another method, or for one that targets no module."""
    settings: Any = config
    targets = getattr(settings, "target_modules", None)
    # AdaLoraConfig is a LoraConfig too, but not of this type.
    if getattr(config.peft_type, "value", config.peft_type) != "LORA" or (targets is not None and not targets):
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
