"""Stored runs, one JSON file each, named by the content of what was trained."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from .cache_folder import UNFINISHED, CacheFolder
from .errors import RecordError
from .lock import exclusively
from .reads import unchanged
from .run import Run

# Counted up with every change of what a stored run holds. 2: its floating-point operations. 3: whether it was retried.
# 4: where it was resumed. 5: losses on source data.
SCHEMA = 5
# Of a folder, where nobody says otherwise. A run of 500 updates of GPT-2 has about 100 kB.
SIZE_LIMIT_BYTES = 10**9


class Store(Protocol):
    """Runs by their keys. ``poll_s``: how long to wait before asking again for a run that somebody else is training."""

    poll_s: float

    def read(self, key: str) -> Run | None: ...

    def write(self, key: str, run: Run, reads: Mapping[str, str]) -> None: ...

    def claim(self, key: str) -> AbstractContextManager[bool]: ...

    def unfinished(self, key: str) -> Path | None: ...


class RunStore:
    """A folder of runs that the workers of a session, and later sessions, share.

    Files appear whole or not at all. A lock is held by its process, so one that a killed worker held is free again.
    Beyond ``limit_bytes`` the runs that were used longest ago go.
    """

    poll_s = 0.05

    def __init__(self, folder: Path, limit_bytes: int = SIZE_LIMIT_BYTES) -> None:
        self.folder, self._limit_bytes = folder, limit_bytes

    def read(self, key: str) -> Run | None:
        """The run stored under ``key``; None where there is none, or none that may be believed."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        run = believed(stored, path)
        if run is not None:
            _mark_as_used(path)
        return run

    def write(self, key: str, run: Run, reads: Mapping[str, str]) -> None:
        """Store ``run``, which depends on the files in ``reads``. Where the folder cannot be written: a warning."""
        data = content_of(run, reads)
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
            return
        CacheFolder(self.folder).keep_within(self._limit_bytes, newest=key)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may train ``key`` now; False while another one is at it."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        with exclusively(self._path(key).with_suffix(".lock")) as ours:
            yield ours

    def unfinished(self, key: str) -> Path | None:
        """The folder in which whoever has the claim of ``key`` keeps checkpoints of its training."""
        return self.folder / f"{key}{UNFINISHED}"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def content_of(run: Run, reads: Mapping[str, str]) -> dict[str, object]:
    """What is stored of ``run``, which depends on the files in ``reads``."""
    data = {"schema": SCHEMA, "reads": dict(reads), "run": run.to_json()}
    return {**data, "digest": _digest(data)}


def believed(stored: bytes, where: object) -> Run | None:
    """The run that ``stored`` holds; None, with a warning, for a damaged one, and for one that no longer holds."""
    try:
        data = json.loads(stored)
        if data.pop("digest") != _digest(data):
            raise RecordError("its digest does not fit its content")
        if data["schema"] != SCHEMA:
            return None  # sound, and of another release
        return Run.from_json(data["run"]) if unchanged(data["reads"]) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        warnings.warn(f"ftcheck: stored run {where} is damaged ({error}); training again", stacklevel=3)
        return None


def _mark_as_used(path: Path) -> None:
    """Set the time of the last access, which file systems keep as they like; that of the last change stays."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def open_store(cache_dir: str | None, limit_bytes: int | None = None) -> Store:
    """The runs in ``cache_dir``: a folder (default: the user's), or a URL of fsspec. Raises CacheError."""
    folder = local_folder(cache_dir)
    if folder is None:
        from .remote_store import RemoteStore

        assert cache_dir is not None
        return RemoteStore(cache_dir)
    return RunStore(folder, SIZE_LIMIT_BYTES if limit_bytes is None else limit_bytes)


def local_folder(cache_dir: str | None) -> Path | None:
    """The folder of the runs in ``cache_dir``; None for a place that only fsspec reaches."""
    if cache_dir is None:
        return default_folder()
    # A chain such as "simplecache::s3://..." is fsspec's, too; a single letter is a drive of Windows.
    if cache_dir.startswith("file://"):
        return Path(cache_dir.removeprefix("file://")) / "runs"
    return None if re.match(r"\w{2,}(://|::)", cache_dir) else Path(cache_dir) / "runs"


def default_folder() -> Path:
    """The user's cache folder for this plugin."""
    from platformdirs import user_cache_path

    return user_cache_path("pytest-ftcheck", appauthor=False) / "runs"


def _digest(data: Mapping[str, object]) -> str:
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).hexdigest()
