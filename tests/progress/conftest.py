from __future__ import annotations

from collections.abc import Iterator

import pytest
from progress.listener import Listener

from pytest_ftcheck.progress import audience


@pytest.fixture
def listener() -> Iterator[Listener]:
    someone = Listener()
    audience.admit(someone)
    yield someone
    audience.dismiss(someone)
