"""The git worktree under guard, as far as it matters whether what is seen now could be seen again."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from .git import git

COMMIT_DIGITS = 12
# Python files here are installed, and are known by their versions.
INSTALLED = ("site-packages", "dist-packages", "node_modules")


def commit(root: Path) -> str:
    """The commit that is checked out in ``root``, shortened; "" where there is none, or no git."""
    return (git(root, "rev-parse", "HEAD") or "").strip()[:COMMIT_DIGITS]


def uncommitted(root: Path) -> tuple[Path, ...]:
    """Files in the repository around ``root`` that differ from its commit, and Python files that are in none; empty
    outside of a repository. Other files that nobody added (reports, notes, checkpoints) are not what trains.
    """
    top = (git(root, "rev-parse", "--show-toplevel") or "").rstrip("\n")
    if not top:
        return ()
    if not commit(root):
        return (Path(top),)
    changed = _names(git(Path(top), "diff", "--name-only", "-z", "HEAD"))
    others = _names(git(Path(top), "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py"))
    others = [name for name in others if not set(INSTALLED) & set(PurePosixPath(name).parts)]
    return tuple(Path(top) / name for name in [*changed, *others])


def _names(output: str | None) -> list[str]:
    return [name for name in (output or "").split("\0") if name]
