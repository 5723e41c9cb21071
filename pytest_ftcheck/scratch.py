"""Where trainings write what nobody keeps.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import os


def prefix() -> str:
    """What the names of this process's temporary files begin with: who finds it dead knows which were its."""
    return f"ftcheck-{os.getpid()}-"
