"""The summary of a job on GitHub Actions: Markdown that is shown beside its log."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GITHUB_STEP_SUMMARY"
# One that is larger is refused as a whole.
MOST_BYTES = 1_000_000


def add(text: str) -> None:
    """Append ``text``, where there is such a summary. It is an extra: the verdicts are in the log."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    if len(text.encode()) > MOST_BYTES:
        text = "ftcheck: too much for this page; see the file that the session has written.\n"
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return
