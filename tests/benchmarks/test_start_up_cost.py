"""What the plugin costs a session that does not use it: processor time of whole processes, in turn."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ALLOWED = 1.05
PAIRS = 30


def processor_seconds(folder: Path, *arguments: str) -> float:
    """User and system time of one `pytest --collect-only -q` in ``folder``, with no other plugin."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": ""},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_starting_pytest_costs_at_most_five_percent_more(tmp_path: Path) -> None:
    processor_seconds(tmp_path, "-p", "pytest_ftcheck.plugin")  # compiles what is not compiled yet
    pairs = [
        (processor_seconds(tmp_path), processor_seconds(tmp_path, "-p", "pytest_ftcheck.plugin")) for _ in range(PAIRS)
    ]
    # The least of each: other work on the machine only ever adds.
    ratio = min(b for _, b in pairs) / min(a for a, _ in pairs)
    print(f"\nprocessor time with the plugin over without: {ratio:.3f}")
    assert ratio <= ALLOWED
