"""Where a model departs from its declared form, module by module, and what each departure means in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..codec import Record
from .growth import piece_at, rank_for
from .parameters import ModuleForm, ParameterForm, base_name

if TYPE_CHECKING:
    from torch import nn

SHOWN_NAMES = 3


@dataclass(frozen=True)
class Difference(Record):
    """One module whose parameter counts are not the declared ones, and the likely cause."""

    module: str
    expected_trainable: int
    observed_trainable: int
    expected_total: int
    observed_total: int
    cause: str

    def __str__(self) -> str:
        return self.line(f"in {self.module or 'the model itself'}")

    def line(self, where: str) -> str:
        """One line, number first; the trainable count speaks where it differs, else the total."""
        if self.observed_trainable != self.expected_trainable:
            numbers = f"{self.observed_trainable:,} trainable instead of {self.expected_trainable:,}"
        else:
            numbers = f"{self.observed_total:,} parameters instead of {self.expected_total:,}"
        return f"{numbers} {where}: {self.cause}"


def observed_modules(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Base module name -> (parameters, trainable parameters) of a model as it is, adapted or not; tied ones once."""
    modules: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        total, trainable = modules.get(base_name(name), (0, 0))
        size = parameter.numel()
        modules[base_name(name)] = total + size, trainable + size * parameter.requires_grad
    return modules


def differences(form: ParameterForm, observed: Mapping[str, tuple[int, int]]) -> tuple[Difference, ...]:
    """Every module whose (total, trainable) in ``observed`` is not what ``form`` declares; empty where all fit."""
    declared = {module.name: module for module in form.modules}
    found = []
    for name in dict.fromkeys([*declared, *observed]):
        module = declared.get(name, ModuleForm(name, 0, 0))
        total, trainable = observed.get(name, (0, 0))
        if (total, trainable) != (module.total, module.trainable):
            cause = _cause(module, total, trainable)
            found.append(Difference(name, module.trainable, trainable, module.total, total, cause))
    return tuple(found)


def grouped(found: Iterable[Difference]) -> tuple[str, ...]:
    """One line for each cause, the one that concerns most parameters first. Modules that repeat from layer to layer
    with the same numbers are one ("each of 12 modules (h.*.attn)"); others of the same cause are added up.
    """
    causes: dict[str, list[Difference]] = {}
    for difference in found:
        causes.setdefault(difference.cause, []).append(difference)
    return tuple(_line(group) for group in sorted(causes.values(), key=_concerned, reverse=True))


def _concerned(group: list[Difference]) -> int:
    return sum(
        max(abs(d.observed_trainable - d.expected_trainable), abs(d.observed_total - d.expected_total)) for d in group
    )


def _line(group: list[Difference]) -> str:
    """One line for differences of one cause."""
    patterns = [".".join("*" if part.isdigit() else part for part in d.module.split(".")) for d in group]
    names = list(dict.fromkeys(name or "the model itself" for name in patterns))
    if len(group) == 1:
        return str(group[0])
    if len({replace(d, module="") for d in group}) == 1 and len(names) == 1:
        return group[0].line(f"in each of {len(group)} modules ({names[0]})")
    together = replace(
        group[0],
        expected_trainable=sum(d.expected_trainable for d in group),
        observed_trainable=sum(d.observed_trainable for d in group),
        expected_total=sum(d.expected_total for d in group),
        observed_total=sum(d.observed_total for d in group),
    )
    return together.line(f"in {len(group)} modules together ({first_few(names)})")


def first_few(names: Sequence[str]) -> str:
    """The first names of a list that may be long."""
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")


def _cause(module: ModuleForm, total: int, trainable: int) -> str:
    if total == module.total:
        return _cause_in_flags(module, trainable)
    if total == 0:
        return "not in the trained model"
    if module.total == 0:
        return "an adapter, or a weight no longer tied, that was not declared"
    found = rank_for(module.growth, total - module.base)
    if found:
        return _cause_in_rank(module, *found, trainable)
    if total == module.base:
        missing = "no adapter here" if module.growth else "no trained copy here (modules_to_save)"
        return missing + (", and the base is not frozen" if trainable else "")
    if module.added == 0 and total > module.base:
        return _cause_in_addition(module, total, trainable)
    if not module.growth:
        return "another size than in the base model"
    return "no rank gives this size" if module.rank else "another adapter than the declared one"


def _cause_in_rank(module: ModuleForm, rank: int, or_more: bool, trainable: int) -> str:
    """The total fits rank ``rank``, ``or_more`` of it; whether the flags fit too."""
    change = piece_at(module.growth, rank).at(rank) - module.added
    found = replace(module, total=module.total + change, trainable=module.trainable + change, rank=rank)
    cause = f"rank {rank}{' or more' if or_more else ''} instead of {module.rank}"
    return cause if trainable == found.trainable else f"{cause}, and {_cause_in_flags(found, trainable)}"


def _cause_in_addition(module: ModuleForm, total: int, trainable: int) -> str:
    """Something was added to a module that should have nothing added."""
    if total == 2 * module.base and trainable == module.base:
        return "a trained copy here (modules_to_save) that was not declared"
    return "an adapter here that was not declared" + (", frozen" if trainable == 0 else "")


def _cause_in_flags(module: ModuleForm, trainable: int) -> str:
    """The parameters are the declared ones; which of them train is not."""
    part = ("adapter" if module.growth else "copy") if module.added else ""
    if module.bias and abs(trainable - module.trainable) == module.bias:
        return "the bias is frozen" if trainable < module.trainable else "the bias is not frozen"
    if trainable == 0:
        return f"the {part or 'module'} is frozen"
    if trainable == module.total:
        # Full declares single modules frozen, and says so in their note; LoRA freezes the base as a whole.
        return "the module is not frozen" if module.note == "frozen" else "the base is not frozen"
    if part and trainable == module.base:
        return f"the {part} is frozen and the base is not"
    return "part of it is frozen" if trainable < module.trainable else "part of it is not frozen"
