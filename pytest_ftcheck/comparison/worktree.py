"""Another commit of the user's repository, checked out for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import ComparisonError

# What git sets where it calls a hook: the index, for one, would be written to.
OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}


def toplevel(folder: Path) -> Path:
    """The top folder of the git repository that ``folder`` is in. Raises ComparisonError where there is none."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    if found is None:
        raise ComparisonError(f"--ftcheck-against: {folder} is not in a git repository with a working tree")
    return Path(found).resolve()


def commit_of(ref: str, top: Path) -> str:
    """The commit that ``ref`` names. Raises ComparisonError where it names none."""
    found = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None:
        raise ComparisonError(
            f"--ftcheck-against is {ref!r}; allowed: a branch, tag or commit that is there (in CI: fetch it first)"
        )
    return found


@contextlib.contextmanager
def checked_out(commit: str, top: Path) -> Iterator[Path]:
    """A working tree of ``commit`` in a temporary folder, removed at the end, after Ctrl-C and SIGTERM too."""
    with (
        _interrupted_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="ftcheck-against-", ignore_cleanup_errors=True) as folder,
    ):
        tree = Path(folder).resolve() / top.name
        try:
            # Hooks of the repository are for people who change branches.
            added = ("-c", "core.hooksPath=", "worktree", "add", "--quiet", "--detach", str(tree), commit)
            if _git(top, *added) is None:
                raise ComparisonError(f"--ftcheck-against: git cannot check out {commit} (git worktree add)")
            yield tree
        finally:
            # By name: "prune" would also forget worktrees of the user's on a disk that is not there just now.
            _git(top, "worktree", "remove", "--force", str(tree))


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, by which CI ends a job, do what Ctrl-C does: Python would end without cleaning up."""
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it says no. Raises ComparisonError where there is no git."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ComparisonError("--ftcheck-against needs git, which is not installed (not on PATH)") from None
    return done.stdout.strip() if done.returncode == 0 else None
