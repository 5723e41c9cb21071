"""Stored runs where only fsspec reaches: a bucket, a server. What ``RunStore`` is for a folder.

Such places have no locks that end with their process. A claim is a lease there: a file that is created only where
there is none, and that its owner renews. Whoever has seen it unchanged for ``LEASE_S`` takes it over. So a run is
trained once as long as its trainer lives and the place can refuse to create a file twice (S3, GCS and folders can).
Two that take over the same dead lease at once may both train, which costs time and nothing else: files appear whole,
with a digest.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import CacheError
from .run import Run
from .store import believed, content_of

LEASE_S = 60.0
# A lease is renewed so often that one lost request does not end it.
RENEWALS = 4


class RemoteStore:
    """Runs below ``where``, a URL of fsspec. Raises CacheError where it cannot be opened."""

    # Each look is a request over the network.
    poll_s = 1.0

    def __init__(self, where: str) -> None:
        self.where = where
        try:
            from fsspec.core import url_to_fs

            self._files, root = url_to_fs(where)
        except Exception as error:  # whatever a file system of somebody else's raises
            raise CacheError(f"cache {where!r} cannot be opened: {_told(error)}") from None
        self._root = f"{root.rstrip('/')}/runs"
        # Leases of others: key -> what it held when it was first seen like that, and when that was.
        self._seen: dict[str, tuple[bytes, float]] = {}

    def read(self, key: str) -> Run | None:
        """The run stored under ``key``; None where there is none, or none that may be believed."""
        try:
            stored = self._files.cat_file(self._path(key, "json"))
        except FileNotFoundError:
            return None
        except Exception as error:
            self._warn(f"cannot be read ({_told(error)}); training again")
            return None
        return believed(stored, f"{key} in {self.where}")

    def write(self, key: str, run: Run, reads: Mapping[str, str]) -> None:
        """Store ``run``, which depends on the files in ``reads``. Where that is not possible: a warning."""
        try:
            self._publish(self._path(key, "json"), json.dumps(content_of(run, reads)).encode())
        except Exception as error:
            self._warn(f"cannot be written ({_told(error)}); the run is not stored")

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may train ``key`` now; False while another one is at it."""
        lease = self._path(key, "lease")
        owner = secrets.token_hex(8)
        if not self._take(key, lease, owner):
            yield False
            return
        over = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(lease, owner, over), daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            over.set()
            renewing.join()
            with contextlib.suppress(Exception):
                if _owner(self._files.cat_file(lease)) == owner:
                    self._files.rm_file(lease)

    def unfinished(self, key: str) -> Path | None:
        """No folder: a loop writes its checkpoints with the functions of the operating system."""
        return None

    def _take(self, key: str, lease: str, owner: str) -> bool:
        try:
            self._make_folder()
            self._files.pipe_file(lease, _lease(owner, 0), mode="create")
        except FileExistsError:
            return self._is_abandoned(key, lease) and self._take_over(lease, owner)
        except Exception:
            # A place that cannot refuse, or cannot be written: everybody trains for themselves.
            return True
        return True

    def _is_abandoned(self, key: str, lease: str) -> bool:
        """Whether the lease has not changed for as long as it lasts, by this process's clock."""
        try:
            found = self._files.cat_file(lease)
        except Exception:
            return False  # it has just ended; the next look will see
        before, since = self._seen.get(key, (None, 0.0))
        if found != before:
            self._seen[key] = found, time.monotonic()
            return False
        return time.monotonic() - since > LEASE_S

    def _take_over(self, lease: str, owner: str) -> bool:
        with contextlib.suppress(Exception):
            self._files.pipe_file(lease, _lease(owner, 0))
            # Of several that do this at once, the last stands.
            time.sleep(self.poll_s)
            return bool(_owner(self._files.cat_file(lease)) == owner)
        return False

    def _renew(self, lease: str, owner: str, over: threading.Event) -> None:
        count = 0
        while not over.wait(LEASE_S / RENEWALS):
            count += 1
            with contextlib.suppress(Exception):
                self._files.pipe_file(lease, _lease(owner, count))

    def _publish(self, path: str, data: bytes) -> None:
        """Whole or not at all: an object store does so by itself, elsewhere the name comes last."""
        self._make_folder()
        partial = f"{self._root}/.partial-{secrets.token_hex(8)}.json"
        try:
            self._files.pipe_file(partial, data)
            self._files.mv(partial, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._files.rm_file(partial)
            raise

    def _make_folder(self) -> None:
        # Where there are no folders there may be no leave to make one either.
        with contextlib.suppress(Exception):
            self._files.makedirs(self._root, exist_ok=True)

    def _path(self, key: str, kind: str) -> str:
        return f"{self._root}/{key}.{kind}"

    def _warn(self, what: str) -> None:
        warnings.warn(f"ftcheck: cache {self.where!r} {what}", stacklevel=3)


def _lease(owner: str, renewals: int) -> bytes:
    return json.dumps({"owner": owner, "renewals": renewals}).encode()


def _owner(lease: bytes) -> Any:
    try:
        return json.loads(lease)["owner"]
    except (ValueError, LookupError, TypeError):
        return None


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
