"""Git repositories of a test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# Nothing of the machine's own configuration: it may sign, or have hooks.
ISOLATED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
AUTHOR = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "init.defaultBranch=main")


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **ISOLATED}
    command = ["git", *AUTHOR, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environment).stdout


def commit_all(folder: Path) -> str:
    """Commit everything in ``folder``, which becomes a repository if it is none, and return the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "all")
    return git(folder, "rev-parse", "HEAD").strip()
