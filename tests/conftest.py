"""Fixtures of this project's own tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Keep the runs of this suite out of the user's cache, and theirs out of this suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTCHECK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _as_at_a_desk() -> object:
    """Hide that this suite runs in CI: pytest then prints whole messages in its summary, and what is asserted of an
    inner session's output would depend on where it runs; and none may add to the summary of the job that runs them.
    """
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("CI", "BUILD_NUMBER", "GITHUB_STEP_SUMMARY"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _heavy_modules_are_loaded() -> None:
    """Import once what pytester's in-process sessions import: each of them forgets what it imported itself, and torch
    does not survive being imported twice.
    """
    import peft
    import scipy.special
    import transformers.trainer
    from transformers import GPT2LMHeadModel, LlamaForCausalLM

    import pytest_ftcheck.tasks

    assert all((peft, scipy.special, transformers.trainer, GPT2LMHeadModel, LlamaForCausalLM, pytest_ftcheck.tasks))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started is a process as at a terminal: a suite in the background of a shell ignores Ctrl-C, as workers of
    xdist do, and hands that down.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def with_workers() -> None:
    """For tests whose sessions have workers: skipped where pytest-xdist is not installed."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")


@pytest.fixture
def bare_workers(monkeypatch: pytest.MonkeyPatch, with_workers: None) -> None:
    """Inner sessions load pytest-xdist and this plugin, and no other: each of their workers would load those, too."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,pytest_ftcheck.plugin")


@pytest.fixture(scope="session")
def repos() -> Path:
    """The folder of the small training repositories that the plugin is tried on."""
    return Path(__file__).parents[1] / "fixtures" / "repos"
