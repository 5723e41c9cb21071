"""Every property holds on loralib, on all that it adapts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.lora import LoralibAdapter
from pytest_ftcheck.lora.catalogue import all_properties, property_called
from pytest_ftcheck.lora.trying import try_property
from pytest_ftcheck.methods import LoRA

from .implementation import NETWORKS, assert_held

ABILITIES = {"scale", "unscale", "delta", "magnitude", "disabled", "add", "activate"}
FEATURES = {"rslora", "dora", "lora_bias", "patterns", "modules_to_save", "layers", "gaussian", "pissa", "olora"}


@pytest.mark.parametrize("id", all_properties())
@pytest.mark.filterwarnings("ignore")
def test_every_property_holds_or_is_not_applicable(id: str) -> None:
    assert_held(id, LoralibAdapter(), ABILITIES | FEATURES | NETWORKS, examples=5)


def test_merging_goes_through_the_modes_and_back() -> None:
    adapter = LoralibAdapter()
    wrapped: Any = adapter.wrap(nn.Linear(3, 2), LoRA(r=2)).eval()
    nn.init.ones_(adapter.factors(wrapped[0])[1])
    before = wrapped[0].weight.clone()
    adapter.merge(wrapped)
    assert wrapped[0].merged
    assert not torch.equal(wrapped[0].weight, before)
    adapter.unmerge(wrapped)
    assert not wrapped[0].merged
    assert not wrapped.training


class RoundsOtherwise(LoralibAdapter):
    """And does not say so."""

    kinds = ("conv1d",)

    def runs_the_base(self, kind: str) -> bool:
        return True


def test_that_it_computes_the_base_by_itself_has_to_be_told() -> None:
    assert not LoralibAdapter().runs_the_base("conv1d")
    verdict = try_property(property_called("zero-b-is-the-base"), RoundsOtherwise())
    assert "within 0" in str(verdict.findings)


class ScalesTheBase(LoralibAdapter):
    """By more than rounding, where it computes the base by itself."""

    kinds = ("conv1d",)

    def forward(self, wrapped: nn.Module, *inputs: Any) -> torch.Tensor:
        return super().forward(wrapped, *inputs) * (1 + 1e-5)


@pytest.mark.parametrize("id", ["starts-as-the-base", "zero-b-is-the-base", "dropout-spares-the-base"])
def test_a_base_that_is_off_by_more_than_rounding_is_noticed_there_too(id: str) -> None:
    assert try_property(property_called(id), ScalesTheBase()).status == "failed"


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 2, 3), nn.Conv2d(2, 2, 1, groups=2)])
def test_a_convolution_whose_factors_are_of_another_form_is_refused(layer: nn.Module) -> None:
    with pytest.raises(NotApplicable, match="only of kernel 1 and without groups"):
        LoralibAdapter().wrap(layer, LoRA(r=2))
