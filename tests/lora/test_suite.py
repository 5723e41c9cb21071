"""``test_lora = lora_properties(MyAdapter)``, as users meet it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.lora import Adapter, check_lora, lora_properties
from pytest_ftcheck.lora.catalogue import all_properties

from .reference import ReferenceAdapter

# A layer that has nothing but its output, which ``{scaling}`` can make wrong.
MINE = """
    import torch
    from torch import nn
    from pytest_ftcheck.lora import Adapter, lora_properties

    class Layer(nn.Module):
        def __init__(self, base, config):
            super().__init__()
            self.base = base.requires_grad_(False)
            rank, weight = config.r, base.weight
            self.a = nn.Parameter(torch.randn(rank, weight.shape[1], dtype=weight.dtype))
            self.b = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype))
            self.s = {scaling}

        def forward(self, x):
            return self.base(x) + x @ self.a.T @ self.b.T * self.s

    class Mine(Adapter):
        {extra}

        def wrap(self, layer, config):
            return Layer(layer, config)

        def factors(self, layer):
            return layer.a, layer.b

    test_lora = lora_properties({arguments})
"""
QUIET = ("-p", "no:cacheprovider")
CHOSEN = ("-k", "output-is-base or merged-output or scaling-as")


def mine(scaling: str = "config.alpha / config.r", extra: str = "pass", arguments: str = "Mine") -> str:
    return MINE.format(scaling=scaling, extra=extra, arguments=arguments)


def test_a_right_layer_passes_and_what_it_has_not_is_not_applicable(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(mine())
    result = pytester.runpytest_inprocess(*QUIET, "-v", *CHOSEN)
    result.stdout.fnmatch_lines(
        [
            "*::test_lora[[]output-is-base-plus-update] PASSED*",
            "*::test_lora[[]scaling-as-declared] NOT APPLICABLE*",
            "*::test_lora[[]merged-output] NOT APPLICABLE*",
            "*1 passed, 2 not applicable*",
        ]
    )


def test_every_property_is_an_item(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=mine())
    result = pytester.runpytest_inprocess(*QUIET, "--collect-only", "-q")
    collected = [line for line in result.outlines if line.startswith("test_it.py::")]
    assert collected == [f"test_it.py::test_lora[{id}]" for id in all_properties()]


def test_a_wrong_layer_fails_with_the_numbers_the_smallest_case_and_the_mistake(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(mine(scaling="config.alpha"))
    result = pytester.runpytest_inprocess(*QUIET, *CHOSEN)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*y[[]0, 0] is *, must be * within *",
            "*on Linear(1 -> 1, no bias), LoRA(r=2, alpha=1), float32, trained factors, (1,) inputs, seed 0*",
            "*likely cause: the scaling is alpha, not divided by the rank*",
            "*y = W x + b + s·B(A x)*",
            "*1 failed, 2 not applicable*",
        ]
    )


def test_an_expected_failure_is_none_and_one_that_passes_is(pytester: pytest.Pytester) -> None:
    expected = "Mine, expected_failures={'output-is-base-plus-update': 'known'}"
    pytester.makepyfile(mine(scaling="config.alpha", arguments=expected))
    pytester.runpytest_inprocess(*QUIET, *CHOSEN).stdout.fnmatch_lines("*1 xfailed*")
    pytester.makepyfile(mine(arguments=expected))
    result = pytester.runpytest_inprocess(*QUIET, *CHOSEN)
    result.stdout.fnmatch_lines(["*passes, and is expected to fail: known*", "*1 failed*"])


def test_two_workers_collect_the_same_items(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(mine())
    result = pytester.runpytest_subprocess(*QUIET, "-n", "2", *CHOSEN)
    result.stdout.fnmatch_lines("*1 passed, 2 not applicable*")


def test_a_layer_on_which_nothing_was_tried_is_not_green(pytester: pytest.Pytester) -> None:
    refusing = mine().replace(
        "return Layer(", "from pytest_ftcheck.errors import NotApplicable; raise NotApplicable('no')"
    )
    pytester.makepyfile(refusing.replace("raise NotApplicable('no')layer, config)", "raise NotApplicable('not mine')"))
    result = pytester.runpytest_inprocess(*QUIET, "-k", "output-is-base")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines("*0 layers were tried on Mine: linear: not mine*")


class Nothing(Adapter):
    pass


class Misspelt(ReferenceAdapter):
    kinds = ("liner",)


class Boastful(ReferenceAdapter):
    features = ("dropout", "qlora")


class NoKind(ReferenceAdapter):
    kinds = ()


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        (object(), "allowed: a class derived from pytest_ftcheck.lora.Adapter"),
        (Nothing, "Nothing.wrap is missing"),
        (Misspelt, "ReferenceLayer.kinds has 'liner'; allowed: linear, conv1d,"),
        (Boastful, "ReferenceLayer.features has 'qlora'; allowed: dropout, rslora"),
        (NoKind, "ReferenceLayer.kinds is empty; allowed: linear"),
    ],
    ids=["no adapter", "no wrap", "unknown kind", "unknown feature", "no kind"],
)
def test_what_is_no_adapter_is_refused_in_one_line(adapter: object, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as caught:
        lora_properties(adapter)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_expected_failures_are_known_and_have_a_reason() -> None:
    with pytest.raises(
        RecipeError, match=r"there is no property 'output-is-bas'; allowed: .*output-is-base-plus-update"
    ):
        lora_properties(ReferenceAdapter, expected_failures={"output-is-bas": "known"})
    with pytest.raises(
        RecipeError, match=r"expected_failures\['merged-output'\] is ' '; allowed: the reason, as a text"
    ):
        lora_properties(ReferenceAdapter, expected_failures={"merged-output": " "})


def test_without_pytest_it_is_a_list_of_verdicts() -> None:
    class OnlyLinear(ReferenceAdapter):
        kinds = ("linear",)

    verdicts = check_lora(OnlyLinear)
    assert [verdict.check for verdict in verdicts] == list(all_properties())
    assert {verdict.status for verdict in verdicts} == {"passed", "not applicable"}


def test_without_hypothesis_the_error_says_what_to_install() -> None:
    script = "import sys; sys.modules['hypothesis'] = None\nfrom pytest_ftcheck.lora import lora_properties"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: pytest_ftcheck.lora.lora_properties needs hypothesis: pip install" in result.stderr
    assert "'pytest-ftcheck[properties]'" in result.stderr.splitlines()[-1]


def test_the_package_imports_no_hypothesis_until_it_is_asked_for_properties() -> None:
    script = (
        "import sys, pytest_ftcheck, pytest_ftcheck.lora; print('hypothesis' in sys.modules, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
