"""Bugs that releases of transformers, peft, accelerate and trl had, against the catalogue: not in the default run.

pytest tests/bugs        (installs the releases first: 4 GB; an hour on two cores)
"""

from __future__ import annotations

import pytest

from .corpus import CASES, CORPUS, installer, outcome


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus is not at {CORPUS} (set FTCHECK_BUGS_CORPUS)")
@pytest.mark.parametrize("name", CASES)
def test_a_bug_is_found_by_its_cause_and_its_fix_is_not(name: str) -> None:
    corpus = installer()
    bad, good = outcome(corpus, name, "BAD"), outcome(corpus, name, "GOOD")
    assert bad.red, (bad.error, bad.blocked)
    assert not good.red, good.verdicts
    assert any(verdict["status"] in ("passed", "not applicable") for verdict in good.verdicts), good.error
