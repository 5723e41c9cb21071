"""What hypothesis loads of this package by itself, and who loads hypothesis."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

# In a process that has nothing of it yet: what registering the profiles imports beyond hypothesis itself.
REGISTERED = """
import json, sys, time
import hypothesis
before = {name for name in sys.modules if not name.startswith("pytest_ftcheck")}
for name in [name for name in sys.modules if name.startswith("pytest_ftcheck")]:
    del sys.modules[name]
start = time.process_time()
from pytest_ftcheck.lora.profiles import register
register()
taken = time.process_time() - start
print(json.dumps([taken, sorted(set(sys.modules) - before), hypothesis.settings.get_profile("ftcheck-ci").derandomize]))
"""


def test_hypothesis_is_told_of_the_profiles_by_an_entry_point() -> None:
    (found,) = entry_points(group="hypothesis", name="ftcheck")
    assert found.value == "pytest_ftcheck.lora.profiles:register"


def test_registering_them_imports_nothing_else_and_takes_no_time() -> None:
    """About 2 ms, of the 250 ms of processor time that it takes to import hypothesis."""
    result = subprocess.run([sys.executable, "-c", REGISTERED], capture_output=True, text=True, check=True)
    taken, imported, is_deterministic = json.loads(result.stdout)
    assert imported == ["pytest_ftcheck", "pytest_ftcheck.lora", "pytest_ftcheck.lora.profiles"]
    assert taken < 0.05
    assert is_deterministic


def test_the_profiles_can_be_imported_before_hypothesis() -> None:
    script = "from pytest_ftcheck.lora.profiles import chosen_profile; print(chosen_profile().max_examples)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "25\n"


def test_a_session_without_properties_imports_no_hypothesis(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_none(ft_device):
            import pytest_ftcheck, pytest_ftcheck.lora
            assert "hypothesis" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "--ftcheck-device=cpu").assert_outcomes(passed=1)
