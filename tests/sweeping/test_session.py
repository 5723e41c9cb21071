"""``ft_sweep`` in a session, with real trainings of a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

TEST = f"""
    import sys
    sys.path.append({str(Path(__file__).parents[1])!r})
    import pytest
    from recipes import tiny_recipe
    from pytest_ftcheck import LoRA

    @pytest.fixture(scope="module")
    def ft_recipe():
        return tiny_recipe(lora=LoRA(r=2, alpha=4, target_modules=["c_attn"], lr=1e-5), steps=24, seeds=3)

    def test_the_learning_rate_was_too_low(ft_sweep):
        found = ft_sweep(multiples=(1, 10), ranks=(4,), variants=("PiSSA",))
        assert found.closes > 0.3, found
        assert not found.declared_is_best

    def test_it_is_well_set(ft_sweep):
        found = ft_sweep(multiples=(1, 10), ranks=(4,), variants=("PiSSA",))
        assert found.declared_is_best, found
"""


def test_a_setting_that_is_wrong_is_found_and_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--ftcheck-device=cpu", "-p", "no:cacheprovider", "--ftcheck-report=md")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: closes * of the gap: LoRA(*",
            "*= ftcheck: other settings of LoRA =*",
            "tiny: 24 steps",
            "*LoRA(r=2, alpha=4, c_attn, lr=1e-05) *as declared",
            "*10x full's learning rate",
        ]
    )
    # The trainings of the sweep are in its table, and not in that of both ways.
    assert not any("full fine-tuning and LoRA" in line for line in result.outlines)
    assert "## tiny: other settings of LoRA" in (pytester.path / "ftcheck-report.md").read_text()
