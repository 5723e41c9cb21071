"""``ft_benchmark``: pytest-benchmark times updates of a recipe's own loop."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recipes import tiny_recipe

from pytest_ftcheck.comparison.stepping import time_steps
from pytest_ftcheck.errors import RecipeError

QUIET = ("-p", "no:cacheprovider", "--ftcheck-device=cpu")
TEST = """
    import time
    import pytest
    import torch
    from pytest_ftcheck import Full, Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        def train(job):
            optimizer = torch.optim.SGD(job.model.parameters(), lr=1e-3)
            for step in range(job.steps):
                time.sleep(0.2 if step < 3 else 0.02)
                job.model(torch.ones(4, 8)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

        model = lambda: torch.nn.Linear(8, 8)
        return Recipe(name="mine", model=model, train=train, train_data=[{}], full=Full(lr=1e-3))

    @pytest.mark.benchmark(group="steps")
    def test_step(ft_benchmark, ft_recipe):
        assert 0.02 < ft_benchmark("full", rounds=6, warmup_rounds=3) < 0.1
"""


@pytest.fixture(autouse=True)
def outside_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker of xdist, pytest-benchmark times nothing."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_each_round_is_an_update_after_those_that_warm_up(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    pytester.runpytest_inprocess(*QUIET, "-p", "no:xdist", "--benchmark-json=saved.json").assert_outcomes(passed=1)
    (one,) = json.loads((pytester.path / "saved.json").read_text())["benchmarks"]
    assert one["group"] == "steps"
    assert one["stats"]["rounds"] == 6
    assert one["stats"]["max"] < 0.2  # the slow ones were for warming up
    assert 0.02 < one["extra_info"]["step_s"] <= one["stats"]["median"]
    assert (one["extra_info"]["recipe"], one["extra_info"]["method"]) == ("mine", "full")


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip"])
def test_the_options_of_pytest_benchmark_are_obeyed(option: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST.replace("0.02 < ft_benchmark", "0 < ft_benchmark").replace("< 0.1", "< 1"))
    outcomes = {"passed": 1} if option == "--benchmark-disable" else {"skipped": 1}
    pytester.runpytest_inprocess(*QUIET, option, "-k", "step").assert_outcomes(**outcomes)


def test_without_pytest_benchmark_it_is_skipped_with_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess(*QUIET, "-p", "no:benchmark", "-rs", "-W", "ignore")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*ft_benchmark needs pytest-benchmark*pip install 'pytest-ftcheck?benchmark?'*"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rounds": 0}, "ft_benchmark(rounds=0); allowed: a whole number of at least 1"),
        ({"rounds": 2.0}, "ft_benchmark(rounds=2.0); allowed: a whole number of at least 1"),
        ({"warmup_rounds": -1}, "ft_benchmark(warmup_rounds=-1); allowed: a whole number of at least 0"),
        ({"method": "dora"}, "no method 'dora' in the recipe; allowed: full, lora"),
        ({"recipe": 1}, "ft_benchmark(recipe=...) was given int; allowed: a Recipe"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_anything_is_started(changes: dict[str, Any], text: str) -> None:
    arguments = {"recipe": tiny_recipe(), "method": "lora", "device": "cpu", **changes}
    with pytest.raises(RecipeError) as raised:
        time_steps(None, **arguments)
    assert str(raised.value) == text
