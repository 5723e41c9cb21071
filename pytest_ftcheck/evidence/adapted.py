"""A model that PEFT adapted, as the checks of adapters see it: its one active adapter, and each layer's factors.

The formulas are written out here, from the papers, so that PEFT's own layers can be held to them: LoRA W + s·BA
(arXiv 2106.09685), DoRA m·(W + s·BA)/‖W + s·BA‖ over each output's weights (arXiv 2402.09353), AdaLoRA W + s·B(E∘A)/r
(arXiv 2303.10512).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .evidence import adapters

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..methods import LoRA
    from .evidence import Evidence

PREFIX = "base_model.model."
# Initialisations that put a part of the base weight into the adapter: what is left in the base is not the base.
TAKES_FROM_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Settings that change what a LoRA layer computes; no formula of theirs is known here.
OTHER_FORMULAS = (
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "megatron_config", "monteclora_config"),
    *("use_bdlora", "use_qalora", "velora_config", "layer_replication"),
)
# AdaLoRA divides by the rank that is left, kept from 0 by this much (peft 0.21.2).
RANK_FLOOR = 1e-5


def peft_model(model: nn.Module) -> Any:
    """``model`` as the PeftModel that it is. NotApplicable where it is none."""
    if hasattr(model, "peft_config") and hasattr(model, "base_model") and hasattr(model, "active_adapter"):
        return model
    raise NotApplicable("the model is not a PeftModel")


def moved(evidence: Evidence) -> Any:
    """A fresh copy of the adapted model with every trainable parameter moved, as a PeftModel."""
    return peft_model(evidence.moved_model())


def active(model: Any) -> str:
    """The name of the one active adapter."""
    name = model.active_adapter
    name = name() if callable(name) else name
    if not isinstance(name, str):
        raise NotApplicable(f"{len(name)} adapters are active at a time")
    return name


def config_of(model: Any) -> Any:
    """The PEFT configuration of the active adapter."""
    return model.peft_config[active(model)]


def kind_of(config: Any) -> str:
    """The kind of a PEFT configuration: "LORA", "IA3", "PROMPT_TUNING", ..."""
    return str(getattr(config.peft_type, "value", config.peft_type))


def is_prompt(config: Any) -> bool:
    """Whether the method trains inputs and leaves the layers as they are."""
    return bool(getattr(config, "is_prompt_learning", False)) or not hasattr(config, "target_modules")


def takes_from_base(config: Any) -> bool:
    init = getattr(config, "init_lora_weights", True)
    return isinstance(init, str) and init.lower().startswith(TAKES_FROM_BASE)


def refuse_combined(model: Any) -> None:
    """NotApplicable where the active adapter may be made of two others: it then starts where they left off, and has
    settings of its own.
    """
    if len(getattr(model, "peft_config", {})) > 2:
        raise NotApplicable("the active adapter may be a combination of the others")


def refuse_prompts(model: Any) -> None:
    if is_prompt(config_of(model)):
        raise NotApplicable(f"{kind_of(config_of(model))} changes the inputs and adapts no layer")


def trains_beside_the_adapter(model: nn.Module) -> list[str]:
    """Names of trainable parameters of the base itself: neither an adapter's, nor a copy of ``modules_to_save``."""
    inside = tuple(f"{name}." for name, _ in adapters(model))
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and _is_base(name, inside) and "prompt_encoder" not in name
    ]


def _is_base(name: str, adapted: tuple[str, ...]) -> bool:
    # Before 0.6 PEFT leaves the original of a copied module trainable, though nothing reaches it.
    if any(part in name for part in ("modules_to_save", "original_module", "trainable_tokens")):
        return False
    if not name.startswith(adapted):
        return not any(part.startswith(("lora_", "ia3_", "vera_", "internal_")) for part in name.split("."))
    return ".base_layer." in name


def base_layer(module: Any) -> Any:
    """The layer under an adapter. Before peft 0.7 the adapter was a subclass of the layer, and is returned itself."""
    while hasattr(module, "base_layer"):
        module = module.base_layer
    return module


def base_weight(module: Any) -> Any:
    """The weight, or the stack of them that ``target_parameters`` names, that the adapter changes."""
    return getattr(base_layer(module), getattr(module, "parameter_name", "weight"))


def pattern_name(name: str, module: Any) -> str:
    """What PEFT looks the ``rank_pattern`` and ``alpha_pattern`` up by, of the adapted ``module`` called ``name``: its
    name in the base model, or that of the parameter that ``target_parameters`` adapts in it.
    """
    parameter = getattr(module, "parameter_name", None)
    own = name.removeprefix(PREFIX)
    return own if parameter is None else f"{own.replace('.base_layer', '')}.{parameter}"


@dataclass(frozen=True)
class Factors:
    """An adapted layer as matrices, all in float64: ``weight`` [out, in], ``down`` [r, in], ``up`` [out, r].

    ``scaling`` is the factor that the layer holds, ``magnitude`` [out] that of DoRA, ``bias`` [out] is added to the
    output by ``lora_bias``.
    """

    weight: Tensor
    down: Tensor
    up: Tensor
    scaling: float
    magnitude: Tensor | None
    bias: Tensor | None

    @property
    def change(self) -> Tensor:
        """s·BA, [out, in]."""
        return self.scaling * self.up @ self.down

    @property
    def effective(self) -> Tensor:
        """The weight [out, in] that the layer must act as."""
        total = self.weight + self.change
        if self.magnitude is None:
            return total
        factor: Tensor = self.magnitude / total.norm(dim=1)
        return factor[:, None] * total


def factors_of(module: Any, adapter: str) -> Factors | None:
    """The factors of a LoRA or AdaLoRA layer for ``adapter``; None where this is another kind of layer."""
    held = _held(module, adapter)
    if held is None or _has_other_formula(module, adapter):
        return None
    down, up, up_bias = held
    weight = as_matrix(module, base_layer(module).weight)
    down, up = down.reshape(down.shape[0], -1), up.reshape(up.shape[0], -1)
    if weight.shape != (up.shape[0], down.shape[1]) or down.shape[0] != up.shape[1]:
        return None
    scaling = float(module.scaling[adapter])
    if "lora_E" in dir(module) and adapter in module.lora_E:
        down = down * module.lora_E[adapter].detach().double()
        scaling /= float(module.ranknum[adapter].detach().double()) + RANK_FLOOR
    bias = None if up_bias is None else scaling * up_bias
    return Factors(weight, down, up, scaling, _magnitude(module, adapter), bias)


def _held(module: Any, adapter: str) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """A, B and the bias of B, as the layer holds them; embeddings hold theirs under other names."""
    if hasattr(module, "parameter_name"):
        return None
    for a, b in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
        downs, ups = getattr(module, a, {}), getattr(module, b, {})
        if adapter in downs and adapter in ups:
            down, up = downs[adapter], ups[adapter]
            bias = getattr(up, "bias", None)
            matrices = [getattr(part, "weight", part).detach().double() for part in (down, up)]
            return matrices[0], matrices[1], None if bias is None else bias.detach().double()
    return None


def _has_other_formula(module: Any, adapter: str) -> bool:
    from torch import nn

    base = base_layer(module)
    variant = getattr(module, "lora_variant", {}).get(adapter)
    if variant is not None and "Dora" not in type(variant).__name__:
        return True
    known = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    if not (isinstance(base, known) or is_conv1d(base)) or not base.weight.is_floating_point():
        return True
    return getattr(base, "groups", 1) != 1


def _magnitude(module: Any, adapter: str) -> Tensor | None:
    held = getattr(module, "lora_magnitude_vector", None)
    if held is None or adapter not in held:
        return None
    vector = held[adapter]
    return getattr(vector, "weight", vector).detach().double().flatten()  # type: ignore[no-any-return]


def is_conv1d(layer: Any) -> bool:
    """Whether it is the transposed linear layer of transformers' GPT-2."""
    return type(layer).__name__ == "Conv1D" and hasattr(layer, "nf")


def as_matrix(module: Any, weight: Tensor) -> Tensor:
    """A layer's weight as [out, in] in float64: "in" is an embedding's vocabulary, a convolution's C_in · kernel."""
    from torch import nn

    base, matrix = base_layer(module), weight.detach().double()
    if is_conv1d(base) or isinstance(base, nn.Embedding):
        return matrix.T
    return matrix.flatten(1)


def acting_as(module: Any, matrix: Tensor, bias: Tensor | None = None) -> Any:
    """A copy of the layer under ``module``, in float64, with the weight ``matrix`` [out, in] and ``bias`` added."""
    from torch import nn

    layer = copy.deepcopy(base_layer(module)).double()
    turned = is_conv1d(layer) or isinstance(layer, nn.Embedding)
    layer.weight = nn.Parameter((matrix.T if turned else matrix).reshape(layer.weight.shape), requires_grad=False)
    if bias is not None:
        present = getattr(layer, "bias", None)
        layer.bias = nn.Parameter(bias if present is None else present + bias, requires_grad=False)
    return layer


def an_input(layer: Any) -> Tensor:
    """An input that every row of the layer's weight acts on, the same at every call."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Embedding):
        return torch.arange(min(layer.num_embeddings, 64)).reshape(1, -1)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        sides = [k * d + 2 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        return torch.randn(2, layer.in_channels, *sides, generator=generator, dtype=torch.float64)
    inputs = layer.weight.shape[0] if is_conv1d(layer) else layer.weight.shape[1]
    return torch.randn(2, 4, inputs, generator=generator, dtype=torch.float64)


def has_formula(config: Any) -> bool:
    """Whether the layers of a configuration compute what ``Factors`` says."""
    plain = kind_of(config) in ("LORA", "ADALORA")
    return plain and not any(getattr(config, name, None) for name in OTHER_FORMULAS)


def declared_scaling(alpha: float, rank: int, rslora: bool) -> float:
    """alpha/r of LoRA, alpha/√r of rsLoRA (arXiv 2312.03732)."""
    return alpha / math.sqrt(rank) if rslora else alpha / rank


def declared_lora(method: Any) -> LoRA | None:
    """A declared method as LoRA, also where it was given as PEFT's own LoraConfig; None for any other."""
    from ..methods import LoRA, Peft

    if isinstance(method, LoRA):
        return method
    if not isinstance(method, Peft):
        return None
    from ..theory.lora_config import lora_of

    return lora_of(method.config)
