"""A worker that is killed in the middle of a training: another one goes on with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signal here kills without warning")

CONFTEST = f"""
import os, signal, sys
sys.path.append({str(Path(__file__).parent.parent)!r})
import pytest
from recipes import tiny_recipe
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.training import model_loss

def loss(model, batch):
    if model.training:
        with open("updates.log", "a") as log:
            log.write("x")
        if os.path.getsize("updates.log") == 10 and not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return model_loss(model, batch)

@pytest.fixture(scope="session")
def ft_recipe():
    return tiny_recipe(train=loop.train, loss=loss, steps=12, save_steps=4)
"""
TESTS = """
def test_one(ft_full): assert ft_full.resumed == (8,)
def test_other(ft_full): assert ft_full.resumed == (8,)
"""


def test_another_worker_goes_on_with_the_training(
    pytester: pytest.Pytester, bare_workers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    options = ("--ftcheck-device=cpu", "--ftcheck-no-cache", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess("-n", "1", *options)
    # xdist blames the test that ran when the worker died.
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*full, seed 0: interrupted, and resumed after update 8"])
    # Nine and one that was not finished; then those after the eighth, and the two in which memory is measured.
    assert os.path.getsize("updates.log") == 10 + 4 + 2
