"""The example of docs/decision.md runs as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "decision.md"


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    pytester.makepyfile(code)
    # A planted task is gone through by its three seeds, as it is by default.
    result = pytester.runpytest_inprocess("--ftcheck-device=cpu", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)
