"""docs/lora.md is true: its code runs, and fails as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pytest_ftcheck.lora
from pytest_ftcheck.lora.profiles import CI, NIGHTLY, chosen_profile, register
from pytest_ftcheck.report.properties import markdown

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lora.md").read_text(encoding="utf-8")
# Each begins with a comment that is the name of a file.
FILES = {block.split("\n", 1)[0][2:]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}
(FAILURE,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
QUIET = ("-p", "no:cacheprovider", "-q")


@pytest.fixture(autouse=True)
def _files(pytester: pytest.Pytester) -> None:
    for name, content in FILES.items():
        (pytester.path / name).write_text(content, encoding="utf-8")
    pytester.syspathinsert()


def test_every_block_of_code_is_known() -> None:
    assert set(FILES) == {"my_lora.py", "test_properties.py", "test_merging.py", "test_patched_peft.py"}


def test_the_layer_and_its_adapter_are_about_thirty_lines() -> None:
    layer, adapter = FILES["my_lora.py"].splitlines(), FILES["test_properties.py"].splitlines()
    assert len(layer) <= 30
    assert len(adapter) <= 30


def test_the_home_made_layer_has_every_property_that_applies(pytester: pytest.Pytester) -> None:
    outcomes = pytester.runpytest_inprocess(*QUIET, "test_properties.py").parseoutcomes()
    applied = outcomes.pop("passed")
    assert applied > 30
    assert set(outcomes) <= {"not", "skipped", "warnings"}, outcomes


def test_a_failure_looks_as_the_page_shows_it(pytester: pytest.Pytester) -> None:
    wrong = FILES["my_lora.py"].replace("alpha / r, False", "alpha, False")
    assert wrong != FILES["my_lora.py"]
    (pytester.path / "my_lora.py").write_text(wrong, encoding="utf-8")
    result = pytester.runpytest_inprocess(*QUIET, "test_properties.py", "-k", "output-is-base-plus")
    assert FAILURE in result.stdout.str()


def test_the_test_with_strategies_passes_and_notices_a_wrong_layer(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess(*QUIET, "test_merging.py").assert_outcomes(passed=1)
    wrong = FILES["my_lora.py"].replace("self.scaling * (self.b", "(self.b")
    assert wrong != FILES["my_lora.py"]
    (pytester.path / "my_lora.py").write_text(wrong, encoding="utf-8")
    result = pytester.runpytest_inprocess(*QUIET, "test_merging.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*layer=Linear(in_features=1, out_features=1, bias=False)*")


def test_a_patched_library_is_held_to_the_properties(pytester: pytest.Pytester) -> None:
    chosen = ("-k", "output-is-base-plus or merged-weight")
    pytester.runpytest_inprocess(*QUIET, "test_patched_peft.py", *chosen).assert_outcomes(passed=2)


def test_the_names_on_the_page_are_public() -> None:
    strategies = set(re.findall(r"^\| `(\w+)\(.*?\)` \| [^|`]*", PAGE, re.MULTILINE))
    assert len(strategies) == 14
    assert strategies <= set(pytest_ftcheck.lora.__all__)
    for name in pytest_ftcheck.lora.__all__:
        assert name in PAGE, name


def test_the_profiles_draw_what_the_page_says() -> None:
    import hypothesis

    register()
    for profile in (CI, NIGHTLY):
        examples = f"{hypothesis.settings.get_profile(profile).max_examples:,}"
        assert f"| `{profile}` | {examples}," in PAGE
    assert chosen_profile() == hypothesis.settings.get_profile(CI)


def test_the_list_of_properties_is_up_to_date() -> None:
    message = "python -m pytest_ftcheck.report.properties > docs/lora-properties.md"
    assert (DOCS / "lora-properties.md").read_text(encoding="utf-8") == markdown() + "\n", message
