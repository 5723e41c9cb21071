"""Asking git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# A large repository over a network; a git that hangs must not hold a session.
TIME_LIMIT_S = 60.0
# What git sets where it calls a hook: the index, for one, would be another repository's.
OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}


def git(
    folder: Path, *arguments: str, time_limit_s: float | None = TIME_LIMIT_S, given: str | None = None
) -> str | None:
    """What git prints in ``folder`` when it reads ``given``; None where it fails, is not there, or takes too long."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            timeout=time_limit_s,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def is_installed() -> bool:
    """Whether there is a git at all."""
    return shutil.which("git") is not None
