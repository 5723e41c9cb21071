"""Fixtures of this project's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Keep the runs of this suite out of the user's cache, and theirs out of this suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTCHECK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def repos() -> Path:
    """The folder of the small training repositories that the plugin is tried on."""
    return Path(__file__).parent / "fixtures" / "repos"
