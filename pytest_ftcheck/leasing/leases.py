"""Dividing the free GPUs among workers, and keeping other sessions away from them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .gpu import VisibleGpu
from .inventory import Inventory

if TYPE_CHECKING:
    from filelock import FileLock


@dataclass
class Leases:
    """The GPUs of this session, for as long as it lasts: the locks are let go by the system when the process ends."""

    variable: str
    free: list[VisibleGpu]
    refused: list[str]
    locks: list[FileLock] = field(default_factory=list)

    @classmethod
    def of(cls, found: Inventory) -> Leases:
        """Leases of all that is free in ``found`` and that no other session holds."""
        leases = cls(found.variable, [], list(found.refused))
        for gpu in found.free:
            leases._take(gpu)
        return leases

    def _take(self, gpu: VisibleGpu) -> None:
        from filelock import FileLock, Timeout

        place = lock_place(gpu.identity or gpu.name)
        lock = FileLock(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            self.refused.append(f"GPU {gpu.name}: leased by {_holder(place)}")
            return
        except OSError:
            # Without a folder for locks the GPU is ours as far as anybody can tell.
            self.free.append(gpu)
            return
        with contextlib.suppress(OSError):
            _note(place).write_text(f"another session (pid {os.getpid()})", encoding="utf-8")
        self.locks.append(lock)
        self.free.append(gpu)

    def share(self, workers: int) -> list[tuple[VisibleGpu, ...]]:
        """The GPUs of each worker: all of them, once, as evenly as can be. Workers beyond their number get none, and of
        MIG instances each gets one, because CUDA shows a process no more.
        """
        shares: list[list[VisibleGpu]] = [[] for _ in range(workers)]
        whole = [gpu for gpu in self.free if not gpu.is_instance]
        for index, gpu in enumerate(whole):
            shares[index * workers // len(whole) if len(whole) > workers else index].append(gpu)
        instances = iter(gpu for gpu in self.free if gpu.is_instance)
        for share in shares:
            if not share:
                share.extend([gpu for gpu in [next(instances, None)] if gpu])
        return [tuple(share) for share in shares]

    def release(self) -> None:
        """Let other sessions have the GPUs."""
        while self.locks:
            self.locks.pop().release()


def lock_place(identity: str) -> Path:
    """The lock file of a GPU, for all sessions of this user on this machine."""
    user = hashlib.blake2b(str(Path.home()).encode(), digest_size=4).hexdigest()
    return Path(tempfile.gettempdir()) / f"pytest-ftcheck-gpus-{user}" / f"{identity.replace('/', '_')}.lock"


def _note(place: Path) -> Path:
    return place.with_suffix(".txt")


def _holder(place: Path) -> str:
    try:
        return _note(place).read_text(encoding="utf-8")
    except OSError:
        return "another session"


def names_of(share: Sequence[VisibleGpu]) -> str:
    """What the variable says to a worker that owns ``share``; "" hides every GPU."""
    return ",".join(gpu.name for gpu in share)
