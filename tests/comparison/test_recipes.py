"""``ft_compare``: two recipes of a test, each trained in a process of its own."""

from __future__ import annotations

import pytest
from recipes import tiny_recipe

from pytest_ftcheck.comparison.recipes import compare_recipes
from pytest_ftcheck.errors import ComparisonError, RecipeError

QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark", "--ftcheck-device=cpu")
TEST = """
    import time
    import pytest
    import torch
    from pytest_ftcheck import Full, Recipe
    from pytest_ftcheck.errors import RecipeError

    def recipe(name, pause_s):
        def train(job):
            optimizer = torch.optim.SGD(job.model.parameters(), lr=1e-3)
            for _ in range(job.steps):
                time.sleep(pause_s)
                job.model(torch.ones(4, 8)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

        return Recipe(name=name, model=lambda: torch.nn.Linear(8, 8), train=train, train_data=[{}], full=Full(lr=1e-3))

    def test_slower(ft_compare):
        compared = ft_compare(recipe("before", 0.004), recipe("after", 0.012), method="full")
        assert compared.verdict == "failed", compared
        assert compared.interval[0] > 1.02
        assert compared.ratio == 1, compared
"""


def test_a_slower_recipe_is_found_and_an_assert_says_how_much(pytester: pytest.Pytester) -> None:
    """Functions that are closed over travel, too."""
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   *AssertionError: full: step time slower: after takes *x that of before (* against *, cpu)",
            "*= ftcheck: cost and step time compared =*",
            "after: failed",
            "  full: step time slower: after takes *x that of before*",
        ]
    )


def test_what_is_no_recipe_or_no_method_is_refused_before_anything_is_started() -> None:
    with pytest.raises(RecipeError, match=r"ft_compare\(\.\.\.\) was given int; allowed: a Recipe"):
        compare_recipes(tiny_recipe(), 3, "lora", "cpu")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="no method 'dora' in the recipe; allowed: full, lora"):
        compare_recipes(tiny_recipe(), tiny_recipe(), "dora", "cpu")


def test_a_recipe_that_cannot_be_sent_is_named(tmp_path: object) -> None:
    import threading

    lock = threading.Lock()
    broken = tiny_recipe(name="candidate", model=lambda: lock)
    with pytest.raises(ComparisonError, match=r"^candidate: Recipe\.model \(function\) cannot be sent"):
        compare_recipes(broken, tiny_recipe(), "lora", "cpu")


def test_one_that_does_not_train_is_named() -> None:
    def broken(job: object) -> None:
        raise OSError("no data")

    with pytest.raises(ComparisonError, match=r"^candidate: lora: train\(job\) raised OSError: no data after 0 of"):
        compare_recipes(tiny_recipe(), tiny_recipe(name="candidate", train=broken), "lora", "cpu")
