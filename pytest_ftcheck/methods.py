"""How a model is fine-tuned: in full, with LoRA, or with any other PEFT configuration.

A method is a declaration. It is what the parameter closed forms and the account of a run are held to, whatever the
user's own code then does with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from .errors import RecipeError

if TYPE_CHECKING:
    from peft import PeftConfig

BIAS = ("none", "lora_only", "all")


def _positive(owner: str, name: str, value: Any, kind: type[int] | type[float] = int) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (kind is int and not isinstance(value, int)) or not (math.isfinite(value) and value > 0):
        noun = "whole number" if kind is int else "finite number"
        raise RecipeError(f"{owner}.{name} is {value!r}; allowed: a {noun} greater than 0")


def _patterns(owner: str, name: str, value: Any) -> tuple[str, ...]:
    """A tuple of module names; a lone string is refused, since ``tuple("c_attn")`` would be letters."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise RecipeError(f"{owner}.{name} is {value!r}; allowed: a list of module names")
    return tuple(value)


@dataclass(frozen=True)
class Full:
    """Full fine-tuning: every parameter trains, except those under the modules named in ``frozen``.

    ``lr`` is the peak learning rate. ``frozen`` holds module names or their endings (``["wte"]``).
    """

    lr: float = 1e-3
    frozen: Sequence[str] = ()

    def __post_init__(self) -> None:
        _positive("Full", "lr", self.lr, float)
        object.__setattr__(self, "frozen", _patterns("Full", "frozen", self.frozen))

    @property
    def title(self) -> str:
        """What tables and curves call it, in a word or two."""
        return "full"

    @property
    def label(self) -> str:
        """The whole declaration in one line, with its learning rate, as it is printed beside results."""
        frozen = f", frozen={list(self.frozen)}" if self.frozen else ""
        return f"Full(lr={self.lr:g}{frozen})"


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): ΔW = (alpha / r) · B A on the targeted modules.

    ``target_modules``: module names or their endings, one regular expression as a string that must match the whole
    name, ``"all-linear"``, or None for what PEFT targets by default in a model of that type. ``rank_pattern`` and
    ``alpha_pattern`` map a name's ending (a regular expression) to its own value. ``init`` is PEFT's
    ``init_lora_weights``. ``options`` go to ``peft.LoraConfig`` as they are; with ``target_parameters`` among them
    ``target_modules`` may be empty.
    """

    r: int = 8
    alpha: float = 16
    target_modules: Sequence[str] | str | None = None
    lr: float = 1e-2
    dropout: float = 0.0
    bias: str = "none"
    modules_to_save: Sequence[str] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    init: bool | str = True
    task_type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive("LoRA", "r", self.r)
        _positive("LoRA", "alpha", self.alpha, float)
        _positive("LoRA", "lr", self.lr, float)
        if not (isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1):
            raise RecipeError(f"LoRA.dropout is {self.dropout!r}; allowed: a number from 0 up to, not including, 1")
        if self.bias not in BIAS:
            raise RecipeError(f"LoRA.bias is {self.bias!r}; allowed: {', '.join(BIAS)}")
        if self.target_modules is not None and not isinstance(self.target_modules, str):
            object.__setattr__(self, "target_modules", _patterns("LoRA", "target_modules", self.target_modules))
        if self.target_modules is not None and not (self.target_modules or self.options.get("target_parameters")):
            raise RecipeError(f"LoRA.target_modules is {self.target_modules!r}; allowed: at least one module name")
        object.__setattr__(self, "modules_to_save", _patterns("LoRA", "modules_to_save", self.modules_to_save))
        for name, rank in self.rank_pattern.items():
            _positive("LoRA", f"rank_pattern[{name!r}]", rank)

    @property
    def title(self) -> str:
        """What tables and curves call it, in a word or two."""
        return f"LoRA r={self.r}"

    @property
    def label(self) -> str:
        """The whole declaration in one line, with its learning rate, as it is printed beside results."""
        targets, parameters = self.target_modules, self.options.get("target_parameters") or ()
        where = targets if isinstance(targets, str) else "+".join((*(targets or ()), *sorted(parameters)))
        extras = [name for name in ("use_rslora", "use_dora") if getattr(self, name)]
        extras += [f"modules_to_save={list(self.modules_to_save)}"] if self.modules_to_save else []
        tail = "".join(f", {extra}" for extra in extras)
        return f"LoRA(r={self.r}, alpha={self.alpha:g}, {where or 'default targets'}, lr={self.lr:g}{tail})"

    def to_peft(self) -> PeftConfig:
        """The ``peft.LoraConfig`` that this declaration means."""
        from peft import LoraConfig

        targets = self.target_modules
        settings: dict[str, Any] = dict(
            r=self.r,
            lora_alpha=self.alpha,
            target_modules=targets if isinstance(targets, str) or targets is None else list(targets),
            lora_dropout=self.dropout,
            bias=self.bias,
            modules_to_save=list(self.modules_to_save) or None,
            init_lora_weights=self.init,
            task_type=self.task_type,
        )
        # Named only when asked for: older PEFT releases do not know them.
        settings.update({name: True for name in ("use_rslora", "use_dora") if getattr(self, name)})
        patterns = {"rank_pattern": self.rank_pattern, "alpha_pattern": self.alpha_pattern}
        settings.update({name: dict(pattern) for name, pattern in patterns.items() if pattern})
        return LoraConfig(**settings, **self.options)


@dataclass(frozen=True)
class Peft:
    """Any other PEFT method, given as its own configuration (``peft.IA3Config(...)``, ``peft.VeraConfig(...)``)."""

    config: PeftConfig
    lr: float = 1e-2

    def __post_init__(self) -> None:
        _positive("Peft", "lr", self.lr, float)
        if not hasattr(self.config, "peft_type"):
            raise RecipeError(f"Peft.config is {self.config!r}; allowed: a configuration of the peft library")

    @property
    def title(self) -> str:
        """What tables and curves call it, in a word or two."""
        return type(self.config).__name__.removesuffix("Config")

    @property
    def label(self) -> str:
        """The whole declaration in one line, with its learning rate, as it is printed beside results."""
        return f"Peft({type(self.config).__name__}, lr={self.lr:g})"

    def to_peft(self) -> PeftConfig:
        """The configuration as it was given."""
        return self.config


Method = Union[Full, LoRA, Peft]
