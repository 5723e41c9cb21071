"""Where a method puts its adapters, and what it trains beside them: the settings that all PEFT methods have in common.

LoRA as this package declares it, and every configuration of the peft library, are read into one record, so that the
rules of matching are written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from ..methods import LoRA

if TYPE_CHECKING:
    from peft import PeftConfig

    Adapting = Union[LoRA, PeftConfig]


@dataclass(frozen=True)
class Placement:
    """``owner`` is how an error names the declaration, ``kind`` what PEFT calls the method ("LORA", "IA3", ...).

    ``target_modules`` is a list of names or endings, a regular expression, "all-linear", or None for PEFT's default.
    ``layers_to_transform`` is a layer's number or a list of them. ``bias`` is "none", "all", or "..._only".
    """

    owner: str
    kind: str
    target_modules: Sequence[str] | str | None
    target_parameters: tuple[str, ...] = ()
    exclude_modules: Sequence[str] | str = ()
    layers_to_transform: Sequence[int] | int | None = None
    layers_pattern: Sequence[str] | str = ()
    modules_to_save: tuple[str, ...] = ()
    task_type: str | None = None
    bias: str = "none"


def placement_of(method: Adapting) -> Placement:
    """The placement that a declaration or a configuration of peft means."""
    if isinstance(method, LoRA):
        options = method.options
        return _placement("LoRA", "LORA", {**options, **{name: getattr(method, name) for name in ALSO_LORAS}})
    names = (*OPTIONAL, *ALSO_LORAS)
    return _placement(type(method).__name__, kind_of(method), {name: getattr(method, name, None) for name in names})


def kind_of(config: PeftConfig) -> str:
    """What PEFT calls the method of a configuration: "LORA", "IA3", "PROMPT_TUNING", ..."""
    kind: Any = config.peft_type
    return str(getattr(kind, "value", kind))


OPTIONAL = ("target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern")
ALSO_LORAS = ("target_modules", "modules_to_save", "task_type", "bias")


def _placement(owner: str, kind: str, settings: dict[str, Any]) -> Placement:
    return Placement(
        owner=owner,
        kind=kind,
        target_modules=settings["target_modules"],
        target_parameters=tuple(settings.get("target_parameters") or ()),
        exclude_modules=settings.get("exclude_modules") or (),
        layers_to_transform=settings.get("layers_to_transform"),
        layers_pattern=settings.get("layers_pattern") or (),
        modules_to_save=tuple(settings["modules_to_save"] or ()),
        task_type=settings["task_type"],
        bias=settings["bias"] or "none",
    )
