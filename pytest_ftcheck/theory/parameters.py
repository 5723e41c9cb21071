"""How many parameters each module must have and train under a declared method, worked out from the base model.

The closed forms are those of full fine-tuning and of the PEFT methods in ``forms/``, as peft 0.21.2 builds them; they
need no weights, so a model on ``torch.device("meta")`` will do. Buffers are no parameters, here as in PEFT's own count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..errors import RecipeError
from ..methods import Full, LoRA
from .adapters import adapters_of
from .growth import Growth
from .placement import Placement, placement_of
from .targets import USUAL_HEADS, closest_names, saved_names

if TYPE_CHECKING:
    from torch import nn

    from ..methods import Method
    from .forms.adapter import Adapter

# What wrappers put into a parameter's name: torch.compile, FSDP, activation checkpointing, and three of PEFT's.
WRAPPERS = {
    *("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    *("base_layer", "original_module", "token_adapter"),
}
# How the names of an adapter's own parameters begin (the tuners of peft 0.21.2 that sit on a module).
ADAPTERS = (
    *("lora_", "ranknum", "ia3_", "vera_lambda_", "hada_", "lokr_", "boft_", "oft_", "hra_", "randlora_", "vblora_"),
    *("fourierft_", "ln_tuning_", "trainable_tokens_"),
)


@dataclass(frozen=True)
class ModuleForm(Record):
    """The parameters that one module directly owns, its adapter included.

    ``base`` is how many it owns before adaptation and ``bias`` how many of these are its bias. An adapter has rank
    ``rank`` (0: its method has none) and grows with it as ``growth`` says; without an adapter there is no growth.
    """

    name: str
    total: int
    trainable: int
    note: str = ""
    base: int = 0
    bias: int = 0
    rank: int = 0
    growth: tuple[Growth, ...] = ()

    @property
    def added(self) -> int:
        """Parameters of the adapter, or of the copy that ``modules_to_save`` trains."""
        return self.total - self.base


@dataclass(frozen=True)
class ParameterForm(Record):
    """What a method declares: every module that directly owns a parameter, by its name in the base model.

    A tied parameter belongs to the first module that has it, as in ``named_parameters()``.
    """

    label: str
    total: int
    trainable: int
    modules: tuple[ModuleForm, ...]

    @property
    def frozen(self) -> int:
        return self.total - self.trainable


def parameter_form(model: nn.Module, method: Method) -> ParameterForm | None:
    """The closed form of the base ``model`` under ``method``; None for a PEFT method that none is known for.

    Raises RecipeError where the declaration names a module that is not there, or that the method cannot adapt.
    """
    if isinstance(method, Full):
        modules = _full_modules(model, method)
    else:
        declared = method if isinstance(method, LoRA) else method.config
        adapters, placement = adapters_of(model, declared), placement_of(declared)
        if adapters is None or _copies_are_nested(model, placement):
            return None
        modules = _adapted_modules(model, placement, adapters)
    total, trainable = sum(m.total for m in modules), sum(m.trainable for m in modules)
    return ParameterForm(method.label, total, trainable, modules)


def base_name(parameter_name: str) -> str:
    """The base model's module that a parameter of an adapted or wrapped model belongs to; "" for the model itself.

    ``base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight`` belongs to ``transformer.h.0.attn.c_attn``.
    """
    parts = [part for part in parameter_name.split(".") if part not in WRAPPERS]
    while parts[:1] == ["module"]:  # DistributedDataParallel
        del parts[0]
    if parts[:2] == ["base_model", "model"]:
        del parts[:2]
    if "modules_to_save" in parts:
        copy = parts.index("modules_to_save")
        del parts[copy : copy + 2]  # and the adapter's name
    # An adapter's parameter is one of the module above it: what follows is PEFT's (lora_A.default.weight).
    adapter = next((i for i, part in enumerate(parts) if part.startswith(ADAPTERS)), len(parts) - 1)
    return ".".join(parts[:adapter])


def is_frozen(parameter_name: str, patterns: Sequence[str]) -> bool:
    """Whether one of ``patterns`` is a run of whole components of the name: ``wte`` in ``transformer.wte.weight``."""
    return any(f".{pattern}." in f".{parameter_name}." for pattern in patterns)


def frozen_names(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Names, as in ``named_parameters()``, of the parameters that ``Full.frozen`` freezes.

    A tied parameter is frozen by any of its names: freezing GPT-2's ``lm_head`` freezes ``transformer.wte`` with it.
    """
    everywhere = model.named_parameters(remove_duplicate=False)
    frozen = {id(parameter) for name, parameter in everywhere if is_frozen(name, patterns)}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in frozen)


def _full_modules(model: nn.Module, method: Full) -> tuple[ModuleForm, ...]:
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    unknown = [pattern for pattern in method.frozen if not any(is_frozen(name, [pattern]) for name in names)]
    _refuse(model, "Full.frozen", unknown)
    frozen = frozen_names(model, method.frozen)
    sizes, biases = _sizes(model)
    trainable: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        trainable[base_name(name)] += 0 if name in frozen else parameter.numel()
    return tuple(
        ModuleForm(name, size, trainable[name], "" if trainable[name] else "frozen", size, biases[name])
        for name, size in sizes.items()
    )


def _adapted_modules(model: nn.Module, placement: Placement, adapters: Mapping[str, Adapter]) -> tuple[ModuleForm, ...]:
    sizes, biases = _sizes(model)
    copies = _copies(model, placement)
    # The base may be wrapped itself (torch.compile): its modules are called as in observed names.
    named = {base_name(f"{name}.weight"): adapter for name, adapter in adapters.items()}
    return tuple(
        _copied(name, sizes[name], biases[name], copies[name])
        if name in copies
        else _adapted(name, sizes[name], biases[name], named.get(name), placement.bias)
        for name in dict.fromkeys([*sizes, *named, *copies])
    )


def _copied(name: str, size: int, bias: int, copy: int) -> ModuleForm:
    """``modules_to_save``: the original stays, frozen, and a full copy trains. A tied weight is copied too."""
    return ModuleForm(name, size + copy, copy, "a trained copy", size, bias)


def _adapted(name: str, size: int, bias: int, adapter: Adapter | None, biases: str) -> ModuleForm:
    """``biases``: whether none train, all, or those of adapted layers ("lora_only", "vera_only")."""
    trained_bias = bias if biases == "all" or (biases.endswith("_only") and adapter) else 0
    tail = ", bias" if trained_bias else ""
    if adapter is None:
        return ModuleForm(name, size, trained_bias, tail.lstrip(", "), size, bias)
    trainable = adapter.size - adapter.frozen + trained_bias
    note = adapter.note + tail
    return ModuleForm(name, size + adapter.size, trainable, note, size, bias, adapter.rank, adapter.growth)


def _copies(model: nn.Module, placement: Placement) -> Counter[str]:
    """Base name -> parameters of the copy that ``modules_to_save`` makes."""
    copies: Counter[str] = Counter()
    for name in saved_modules(model, placement):
        for parameter_name, parameter in model.get_submodule(name).named_parameters():
            copies[base_name(f"{name}.{parameter_name}")] += parameter.numel()
    return copies


def saved_modules(model: nn.Module, placement: Placement) -> list[str]:
    """The modules that ``modules_to_save`` means; PEFT matches the last letters, so ``head`` is ``lm_head`` too."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    unknown = [saved for saved in placement.modules_to_save if not any(name.endswith(saved) for name in names)]
    # PEFT itself lists every usual name of a head, whichever of them the model has.
    _refuse(model, f"{placement.owner}.modules_to_save", [saved for saved in unknown if saved not in USUAL_HEADS])
    endings = saved_names(placement)
    outermost: list[str] = []
    for name in names:
        if name.endswith(endings) and not name.startswith(tuple(f"{outer}." for outer in outermost)):
            outermost.append(name)
    return outermost


def _copies_are_nested(model: nn.Module, placement: Placement) -> bool:
    """Whether ``modules_to_save`` names a module and a part of it: PEFT copies the part again, inside both."""
    copied = [name for name, _ in model.named_modules() if name.endswith(saved_names(placement))]
    return any(inner.startswith(f"{outer}.") for outer in copied for inner in copied)


def _sizes(model: nn.Module) -> tuple[Counter[str], Counter[str]]:
    """Base name -> parameters that the module directly owns, and those of its bias."""
    sizes: Counter[str] = Counter()
    biases: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        sizes[base_name(name)] += parameter.numel()
        if name == "bias" or name.endswith(".bias"):
            biases[base_name(name)] += parameter.numel()
    return sizes, biases


def _refuse(model: nn.Module, setting: str, missing: Iterable[str]) -> None:
    named = ", ".join(closest_names(model, name) for name in missing)
    if named:
        raise RecipeError(f"{setting} names no module of this model: {named}")
