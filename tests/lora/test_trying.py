"""How an implementation is tried: what is drawn, what is told, and what is not a pass."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor, nn

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.profiles import CI, NIGHTLY, chosen_profile
from pytest_ftcheck.lora.trying import try_property
from pytest_ftcheck.methods import LoRA

from .mutants import scaling
from .reference import ReferenceAdapter, ReferenceLayer

OUTPUT = property_called("output-is-base-plus-update")


class LinearAdapter(ReferenceAdapter):
    kinds = ("linear",)


class GivesNaN(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update) * torch.nan


class IsWrongNowAndThen(ReferenceLayer):
    """By a generator that no seed reaches."""

    passes = 0

    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        type(self).passes += 1
        return super().combine(output, update) + float(type(self).passes == 3)


class Raises(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        raise ValueError("no more")


class IsWrongOnWideLayers(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update) + float(output.shape[-1] >= 4 and self.current.config.r >= 3)


@pytest.mark.parametrize("layer", [GivesNaN, IsWrongNowAndThen, Raises])
def test_what_is_not_right_is_never_a_pass(layer: type[ReferenceLayer]) -> None:
    assert try_property(OUTPUT, LinearAdapter(layer)).status == "failed"


def test_an_error_is_told_with_the_line_of_ones_own_code() -> None:
    (finding,) = try_property(OUTPUT, LinearAdapter(Raises)).findings
    assert finding.summary == "raised ValueError: no more"
    assert __file__ in str(finding.lines())


def test_the_failing_case_is_the_smallest() -> None:
    (finding,) = try_property(OUTPUT, LinearAdapter(IsWrongOnWideLayers)).findings
    assert "on Linear(1 -> 4, no bias), LoRA(r=3, alpha=1), float32, trained factors, (1,) inputs, seed 0" in str(
        finding
    )


def test_each_kind_of_layer_that_fails_is_told() -> None:
    verdict = try_property(OUTPUT, ReferenceAdapter(Raises))
    assert [str(finding).count("convolution") for finding in verdict.findings] == [0, 0, 0, 1]


def test_the_same_cases_are_drawn_each_time_and_others_for_another_seed() -> None:
    drawn: list[list[str]] = []

    class Noting(LinearAdapter):
        def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
            drawn[-1].append(f"{layer} {config.label}")
            return super().wrap(layer, config)

    for seed in (None, None, 1):
        drawn.append([])
        assert try_property(OUTPUT, Noting(), seed=seed).status == "passed"
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 10


def test_cases_that_an_adapter_refuses_are_told_and_the_others_tried() -> None:
    class NoBias(LinearAdapter):
        def wrap(self, layer: Any, config: LoRA) -> nn.Module:
            if layer.bias is not None:
                raise NotApplicable("I take no bias")
            return super().wrap(layer, config)

    verdict = try_property(OUTPUT, NoBias())
    assert (verdict.status, verdict.reason) == ("passed", "not tried: linear: I take no bias")


def test_where_every_case_is_refused_nothing_has_passed() -> None:
    class Refuses(LinearAdapter):
        def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
            raise NotApplicable("not today")

    verdict = try_property(OUTPUT, Refuses())
    assert (verdict.status, verdict.reason) == ("not applicable", "linear: not today")


def test_an_ability_that_is_missing_makes_a_property_not_applicable() -> None:
    class NoMerge(LinearAdapter):
        def can(self, ability: str) -> bool:
            return ability != "merge"

    verdict = try_property(property_called("merged-weight"), NoMerge())
    assert (verdict.status, verdict.reason) == ("not applicable", "ReferenceLayer has no merge")
    verdict = try_property(property_called("dora-output"), LinearAdapter())
    assert verdict.reason == "ReferenceLayer has no magnitude; ReferenceLayer does not know dora"


def test_nothing_of_the_global_random_numbers_is_used_up() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    try_property(OUTPUT, LinearAdapter())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("mutant", scaling.MUTANTS[:4], ids=lambda mutant: mutant.name)
def test_the_mistake_that_explains_the_numbers_is_named(mutant: Any) -> None:
    named = {
        "NotScaled": "the update is not scaled",
        "AlphaAlone": "the scaling is alpha, not divided by the rank",
        "TheWrongWayRound": "the scaling is the wrong way round: r / alpha",
        "WholeNumbersDivided": "the scaling is a whole number: alpha // r",
    }
    adapter = mutant.adapted()
    adapter.kinds = ("linear",)
    (finding,) = try_property(OUTPUT, adapter).findings
    assert finding.cause == named[mutant.name]


def test_the_profile_is_that_of_ci_until_another_one_is_chosen() -> None:
    assert (chosen_profile().max_examples, chosen_profile().derandomize) == (25, True)
    before = hypothesis.settings.get_current_profile_name()
    try:
        hypothesis.settings.load_profile(NIGHTLY)
        assert (chosen_profile().max_examples, chosen_profile().derandomize) == (1000, False)
        hypothesis.settings.load_profile(CI)
        assert chosen_profile().max_examples == 25
    finally:
        hypothesis.settings.load_profile(before)


def test_pytest_knows_the_profiles_by_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_ftcheck.lora.profiles import chosen_profile

        def test_profile():
            assert chosen_profile().max_examples == 1000
        """
    )
    for profile, outcome in (("ftcheck-nightly", "passed"), ("ftcheck-ci", "failed")):
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--hypothesis-profile={profile}")
        result.assert_outcomes(**{outcome: 1})
