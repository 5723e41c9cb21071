"""Stored runs, one JSON file each, named by the content of what was trained."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import RecordError
from .reads import unchanged
from .run import Run

# Counted up with every change of what a stored run holds. 2: its floating-point operations. 3: whether it was retried.
SCHEMA = 3


class RunStore:
    """A folder of runs that the workers of a session, and later sessions, share.

    Files appear whole or not at all. A lock is held by its process, so one that a killed worker held is free again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> Run | None:
        """The run stored under ``key``; None where there is none, or none that may be believed."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        try:
            data = json.loads(stored)
            if data.pop("digest") != _digest(data):
                raise RecordError("its digest does not fit its content")
            if data["schema"] != SCHEMA:
                return None  # sound, and of another release
            return Run.from_json(data["run"]) if unchanged(data["reads"]) else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            warnings.warn(f"ftcheck: stored run {path} is damaged ({error}); training again", stacklevel=2)
            return None

    def write(self, key: str, run: Run, reads: Mapping[str, str]) -> None:
        """Store ``run``, which depends on the files in ``reads``. Where the folder cannot be written: a warning."""
        data = {"schema": SCHEMA, "reads": dict(reads), "run": run.to_json()}
        data["digest"] = _digest(data)
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".partial-", suffix=".json")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file)
            os.replace(temporary, self._path(key))
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            warnings.warn(f"ftcheck: {self.folder} cannot be written ({error}); the run is not stored", stacklevel=2)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may train ``key`` now; False while another one is at it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._path(key).with_suffix(".lock"))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        except OSError:
            # A folder that cannot be written has no locks, and keeps no runs: everybody trains for themselves.
            yield True
            return
        try:
            yield True
        finally:
            lock.release()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def default_folder() -> Path:
    """The user's cache folder for this plugin."""
    from platformdirs import user_cache_path

    return user_cache_path("pytest-ftcheck", appauthor=False) / "runs"


def _digest(data: Mapping[str, object]) -> str:
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).hexdigest()
