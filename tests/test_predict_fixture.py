"""``ft_predict``, and accepting a declared cost, as a user's own session has them."""

from __future__ import annotations

import json

import pytest

RECIPE = """
    import pytest
    from pytest_ftcheck import LoRA, Recipe
    from pytest_ftcheck.tasks import NARROW, planted_recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        recipe = planted_recipe(NARROW, "narrow")
        return recipe.replace(full=None, lora=LoRA(r={r}, target_modules=["c_attn"]), cost="tests/costs.json")
"""
QUIET = ("-p", "no:cacheprovider", "--ftcheck-device=cpu")
CHECK = (*QUIET, "--ftcheck-audit", "--ftcheck-checks=cost-as-declared")


def test_a_prediction_is_made_once_without_a_gpu_and_leaves_no_file(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECIPE.format(r=2))
    pytester.makepyfile(
        test_one="""
        def test_cost(ft_predict, pytestconfig):
            prediction = pytestconfig.predicted = ft_predict("lora")
            assert prediction.gpu.name == "h100"
            assert prediction.peak_bytes > prediction.memory.weights_bytes > 0
            assert prediction.flops.backward > 0
            assert ft_predict("lora") is prediction
            assert ft_predict("lora", gpu="t4").gpu.name == "t4"
        """,
        test_two="""
        def test_again(ft_predict, pytestconfig):
            assert ft_predict("lora") is pytestconfig.predicted
        """,
    )
    before = {path.name for path in pytester.path.iterdir()}
    result = pytester.runpytest_inprocess(*QUIET, "-p", "no:xdist", "-p", "no:benchmark")
    result.assert_outcomes(passed=2)
    assert {path.name for path in pytester.path.iterdir()} - before <= {"__pycache__"}


def test_an_error_shows_the_tests_line_alone(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECIPE.format(r=2))
    pytester.makepyfile(
        """
        import pytest
        from pytest_ftcheck.errors import RecipeError

        def test_method(ft_predict): ft_predict("full")
        def test_gpu(ft_predict):
            with pytest.raises(RecipeError, match="gpu is 'x'; allowed: h200, h100"):
                ft_predict("lora", gpu="x")
        """
    )
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E   *RecipeError: no method 'full' in the recipe; allowed: lora"])
    for module in ("session.py", "predictor.py", "fixtures.py"):
        assert module not in result.stdout.str()


def test_a_cost_is_accepted_with_a_reason_and_then_held_to(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECIPE.format(r=2))
    inner = pytester.mkdir("tests")
    result = pytester.runpytest_inprocess(*CHECK)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*0 costs of narrow (lora) are declared in *"])

    result = pytester.runpytest_inprocess(*CHECK, "--ftcheck-update", "--ftcheck-reason=the first")
    result.stdout.fnmatch_lines(["ftcheck: accepted: narrow (lora) in *tests/costs.json: * at the peak, *"])
    assert result.ret == pytest.ExitCode.OK
    assert [path.name for path in inner.iterdir()] == ["costs.json"]
    assert json.loads((inner / "costs.json").read_text())["narrow"]["lora"]["reason"] == "the first"

    assert pytester.runpytest_inprocess(*CHECK).ret == pytest.ExitCode.OK
    pytester.makeconftest(RECIPE.format(r=4))
    result = pytester.runpytest_inprocess(*CHECK)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*peak +*", "  likely cause: the rank of the adapters is 2 times what it was"])


def test_a_session_that_predicts_nothing_imports_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert not [name for name in sys.modules if name.split(".")[0] == "torch" or "ftcheck.predict" in name]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
