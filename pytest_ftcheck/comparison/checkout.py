"""Another commit of the user's repository, checked out for as long as it is needed."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import ComparisonError
from ..git import git, is_installed
from ..scratch import prefix


def toplevel(folder: Path) -> Path:
    """The top folder of the git repository that ``folder`` is in. Raises ComparisonError where there is none."""
    if not is_installed():
        raise ComparisonError("--ftcheck-against needs git, which is not installed (not on PATH)")
    found = git(folder, "rev-parse", "--show-toplevel")
    if found is None:
        raise ComparisonError(f"--ftcheck-against: {folder} is not in a git repository with a working tree")
    return Path(found.rstrip("\n")).resolve()


def commit_of(ref: str, top: Path) -> str:
    """The commit that ``ref`` names. Raises ComparisonError where it names none."""
    found = git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None:
        raise ComparisonError(
            f"--ftcheck-against is {ref!r}; allowed: a branch, tag or commit that is there (in CI: fetch it first)"
        )
    return found.strip()


@contextlib.contextmanager
def checked_out(commit: str, top: Path) -> Iterator[Path]:
    """A working tree of ``commit`` in a temporary folder, removed at the end, after Ctrl-C and SIGTERM too."""
    with (
        _interrupted_by_sigterm(),
        tempfile.TemporaryDirectory(prefix=prefix() + "against-", ignore_cleanup_errors=True) as folder,
    ):
        tree = Path(folder).resolve() / top.name
        try:
            # Hooks of the repository are for people who change branches.
            added = ("-c", "core.hooksPath=", "worktree", "add", "--quiet", "--detach", str(tree), commit)
            # However long that takes.
            if git(top, *added, time_limit_s=None) is None:
                raise ComparisonError(f"--ftcheck-against: git cannot check out {commit} (git worktree add)")
            yield tree
        finally:
            # By name: "prune" would also forget worktrees of the user's on a disk that is not there just now.
            git(top, "worktree", "remove", "--force", str(tree))


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
