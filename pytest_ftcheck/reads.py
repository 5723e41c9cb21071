"""The data files that a training reads, so that a stored run is not believed after one of them has changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_collecting: set[str] | None = None
_installed = False


@contextlib.contextmanager
def recorded_reads(apart_from: Path | None = None) -> Iterator[dict[str, str]]:
    """Fill a dictionary, by the end of the body, with the files that Python code opened in it: path -> digest; without
    those in the folder ``apart_from``.

    Sources are left out (they are part of a run's content anyway), and files of installed packages. Libraries that open
    files in native code (safetensors, pyarrow) are not seen.
    """
    global _collecting, _installed
    if not _installed:
        # An audit hook can never be removed; this one does nothing outside of this function.
        sys.addaudithook(_on_audit_event)
        _installed = True
    digests: dict[str, str] = {}
    outer, _collecting = _collecting, set()
    try:
        yield digests
    finally:
        opened, _collecting = _collecting, outer
        # An outer record is the one that collects now, and sees the files as they are read here.
        own = f"{os.path.abspath(apart_from)}{os.sep}" if apart_from else None
        paths = [path for path in sorted(opened) if own is None or not path.startswith(own)]
        digests.update({path: found for path in paths if (found := _data_digest(path))})


def opened_so_far() -> list[str]:
    """The files that have been opened since ``recorded_reads`` began."""
    return sorted(_collecting or ())


def count_as_opened(paths: Iterable[str]) -> None:
    """Record ``paths``, too: they were opened by a process that went before."""
    if _collecting is not None:
        _collecting.update(paths)


def unchanged(digests: Mapping[str, str]) -> bool:
    """Whether each of these files still has the digest that it had."""
    return all(_data_digest(path) == before for path, before in digests.items())


def _on_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _collecting is None or event != "open":
        return
    path, mode, flags = arguments
    # os.open has no mode, and says by its flags what it is for.
    reads = "r" in str(mode) if mode is not None else not flags & os.O_WRONLY
    if isinstance(path, (str, bytes)) and reads:
        _collecting.add(os.path.abspath(os.fsdecode(path)))


def _data_digest(path: str) -> str | None:
    """The digest of a data file; None for what is no data of the training's own."""
    if path.endswith((".py", ".pyc", ".so")) or path.startswith(_foreign_folders()):
        return None
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        return file_digest(path)
    except OSError:
        return None


def file_digest(path: str | Path) -> str:
    """A digest of a file's content. Raises OSError."""
    total = hashlib.blake2b()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _foreign_folders() -> tuple[str, ...]:
    libraries = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    system = ("/proc/", "/sys/", "/dev/", "/etc/")
    return (*(f"{folder}{os.sep}" for folder in libraries), *system, os.path.join(tempfile.gettempdir(), "ftcheck-"))
