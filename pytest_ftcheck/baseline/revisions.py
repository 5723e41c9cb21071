"""A file of baselines as the commits before have it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..git import git
from ..worktree import COMMIT_DIGITS
from .store import BaselineFile

# How many of a file's changes are looked at, and what each question to git may take: a report is waiting.
MOST, TIME_LIMIT_S = 20, 5.0
# In what git is asked to print: before each commit, and before each content.
MARK = "ftcheck-revision"
COMMIT = re.compile(rf"^{MARK} (\w+) (\S+) ?(.*)$")
# ``:100644 100644 <old> <new> M<tab>path``; nothing of a file that was removed.
CHANGE = re.compile(r"^:\d+ \d+ [0-9a-f]+ ([0-9a-f]*[1-9a-f][0-9a-f]*) [A-Z]")
CONTENT = re.compile(rf"^{MARK} (\d+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Revision:
    """The file in ``commit`` (shortened), of ``day`` (ISO 8601). ``by``: what is in it may have been there earlier."""

    file: BaselineFile
    commit: str
    day: str
    by: bool


def revisions(file: BaselineFile, most: int = MOST) -> list[Revision]:
    """The last ``most`` changes of ``file`` on this branch, oldest first; none outside of a repository, without git, or
    where it takes too long. Nothing is written, and a file that was renamed is followed no further.
    """
    folder = file.path.parent
    # The first parents: what this branch itself had at the time, and quicker to find.
    told = _ask(folder, "log", "--first-parent", "-m", "--raw", "--no-abbrev", f"--max-count={most}",
                f"--format={MARK} %H %cI %P", "--", file.path.name)  # fmt: skip
    found: list[tuple[str, str, str, str]] = []
    for line in told.splitlines():
        if commit := COMMIT.match(line):
            id, time, parents = commit.groups()
        elif change := CHANGE.match(line):
            found.append((id, time[:10], parents, change[1]))
    if not found:
        return []
    texts = _contents(folder, [blob for *_, blob in found])
    is_cut = len(found) >= most
    is_shallow = _ask(folder, "rev-parse", "--is-shallow-repository").strip() == "true"
    several = []
    for (id, day, parents, _), text in zip(found, texts, strict=True):
        # At the border of a shallow clone one commit seems to have brought everything.
        by = (is_cut and id == found[-1][0]) or (is_shallow and not parents)
        if text:
            several.append(Revision(BaselineFile(folder, file.environment, text), id[:COMMIT_DIGITS], day, by))
    return several[::-1]


def _contents(folder: Path, blobs: list[str]) -> list[str]:
    """What each of ``blobs`` holds; "" for one that is not there."""
    asked = "".join(f"{blob} {MARK} {number}\n" for number, blob in enumerate(blobs))
    parts = CONTENT.split(_ask(folder, "cat-file", "--batch=%(rest)", given=asked))
    found = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    return [found.get(number, "") for number in range(len(blobs))]


def _ask(folder: Path, *arguments: str, given: str | None = None) -> str:
    return git(folder, *arguments, time_limit_s=TIME_LIMIT_S, given=given) or ""
