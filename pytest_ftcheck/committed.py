"""A file of JSON that a repository commits beside its code: reviewed by people, merged by git, and damaged by both.

It is sorted, so that a diff says what has changed, and it appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import RecordError

CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")
# What Python writes, and reads, for numbers that JSON does not have.
NO_NUMBER = re.compile(r"^[^\n]*[:\[,]\s*(-?(?:NaN|Infinity))\b", re.MULTILINE)
LEFT_BEHIND = ".ftcheck-partial-"


class CommittedFile:
    """The file at ``path``. Every error is a RecordError that begins with the file and the number of the line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[str, Any]:
        """The text, and the plain data in it; ``("", None)`` where there is no file."""
        text = self.text()
        return ("", None) if text is None else (text, self.decoded(text))

    def text(self) -> str | None:
        """The text, without a merge conflict in it; None where there is no file."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self.damaged(1, f"cannot be read: {error}") from None
        # Plain searches: the file may have megabytes, and a regular expression takes ten times as long.
        found = [0 if text.startswith(mark) else text.find(f"\n{mark}") + 1 or len(text) for mark in CONFLICT]
        if min(found) < len(text):
            line = text[min(found) :].partition("\n")[0]
            raise self.damaged(line_at(text, min(found)), f"an unresolved merge conflict ({line[:20]})")
        return text

    def decoded(self, text: str, start: int = 0) -> Any:
        """The plain data in ``text``; with ``start``, in the value that begins there."""
        try:
            if start:
                return DECODER.raw_decode(text, start)[0]
            return DECODER.decode(text)
        except json.JSONDecodeError as error:
            raise self.damaged(error.lineno, f"not JSON: {error.msg}") from None
        except _TwinError as error:
            line = line_of(text, [error.key, error.key], start)
            raise self.damaged(line, f"two entries are called {error.key!r}") from None
        except _NoNumberError as error:
            found = NO_NUMBER.search(text, start)
            line = line_at(text, found.start(1)) if found else 1
            raise self.damaged(line, f"{error} is not a number that can be compared") from None

    def write(self, text: str) -> None:
        """Put ``text`` in place of the file. Raises RecordError where it cannot be written; the old file then stays."""
        partial = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=self.path.parent, prefix=LEFT_BEHIND)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # Before the name changes hands: after a crash the name must not stand for an empty file.
                os.fsync(file.fileno())
            os.chmod(partial, self._mode())
            os.replace(partial, self.path)
        except OSError as error:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)
            raise RecordError(f"{self.path} cannot be written: {error.strerror or error}; it is as it was") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep out other processes that write to the same file: read it again within. The lock is not beside the file,
        where it would be committed.
        """
        from filelock import FileLock

        name = hashlib.blake2b(f"{Path.home()}:{self.path.absolute()}".encode(), digest_size=8).hexdigest()
        with FileLock(Path(tempfile.gettempdir()) / f"ftcheck-{name}.lock"):
            yield

    def damaged(self, line: int, what: str) -> RecordError:
        return RecordError(f"{self.path}:{line}: {what}\n  what to do: restore the file, or remove it and accept anew")

    def _mode(self) -> int:
        """That of the file which is replaced, or of any new one: a temporary file is for its owner alone."""
        with contextlib.suppress(OSError):
            return self.path.stat().st_mode & 0o777
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def line_of(text: str, path: Sequence[str], position: int = 0) -> int:
    """The line on which the last key of ``path`` stands, as far as the keys are found one after the other."""
    for key in path:
        forms = [f"{json.dumps(key, ensure_ascii=ascii)}:" for ascii in (True, False)]
        found = max(text.find(form, position) for form in dict.fromkeys(forms))
        position = position if found < 0 else found + 1
    return line_at(text, position)


def line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _TwinError(ValueError):
    """A key stands twice in one object: two changes were merged into one file."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _NoNumberError(ValueError):
    """NaN or infinity; the text says which."""


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwinError(next(key for key in keys if keys.count(key) > 1))
    return found


def _no_constant(name: str) -> None:
    raise _NoNumberError(name)


DECODER = json.JSONDecoder(object_pairs_hook=_without_twins, parse_constant=_no_constant)
