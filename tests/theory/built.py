"""Models that PEFT really builds, beside the closed form of what it should build."""

from __future__ import annotations

import copy
import warnings

from peft import get_peft_model
from torch import nn

from pytest_ftcheck.methods import Full, LoRA, Peft
from pytest_ftcheck.theory.differences import Difference, differences, observed_modules
from pytest_ftcheck.theory.parameters import ParameterForm, parameter_form


class Alone(nn.Module):
    """A model of one layer, and a LayerNorm that is never adapted."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, nn.LayerNorm(4)


def form_of(model: nn.Module, method: Full | LoRA | Peft) -> ParameterForm:
    form = parameter_form(model, method)
    assert form is not None
    return form


def built(model: nn.Module, method: LoRA | Peft) -> nn.Module:
    """``model`` adapted by PEFT; the declaration is left as it was, though PEFT changes what it is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, copy.deepcopy(method.to_peft()))


def assert_form_is_what_peft_builds(model: nn.Module, method: LoRA | Peft) -> ParameterForm:
    """Compares every module, and the two totals with PEFT's own count."""
    form = form_of(model, method)
    adapted = built(model, method)
    assert {m.name: (m.total, m.trainable) for m in form.modules} == observed_modules(adapted)
    assert (form.trainable, form.total) == adapted.get_nb_trainable_parameters()  # type: ignore[operator]
    return form


def told_of(model: nn.Module, declared: LoRA | Peft, otherwise: LoRA | Peft) -> dict[str, str]:
    """Module -> cause, of a model that is built ``otherwise`` than ``declared``."""
    return causes(form_of(model, declared), built(model, otherwise))


def causes(form: ParameterForm, trained: nn.Module) -> dict[str, str]:
    found: tuple[Difference, ...] = differences(form, observed_modules(trained))
    return {difference.module: difference.cause for difference in found}
