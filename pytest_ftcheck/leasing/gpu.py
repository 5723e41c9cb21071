"""One GPU as its driver's own tool reports it, and whether somebody else is using it."""

from __future__ import annotations

from dataclasses import dataclass

from ..report.units import size

# A desktop shows its windows from the same GPU, with up to about a sixth of a small one's memory. Beyond a quarter, a
# training has not the memory that the GPU's size promises.
BUSY_SHARE = 0.25
# A process that computes with so little has opened the GPU and no more (MPS's server, a monitor).
IDLE_PROCESS_BYTES = 500 * 2**20


@dataclass(frozen=True)
class Process:
    """A process that computes on a GPU. ``bytes``: 0 where the driver does not tell."""

    pid: int
    name: str
    bytes: int

    def __str__(self) -> str:
        held = f" with {size(self.bytes)}" if self.bytes else ""
        return f"{self.name} (pid {self.pid}){held}"


@dataclass(frozen=True)
class VisibleGpu:
    """``name`` is what CUDA_VISIBLE_DEVICES takes: an index, a UUID, or that of a MIG instance; ``identity`` the UUID
    where it is known. Memory is 0 where it is not known; ``used_bytes`` is that of all processes on the machine.
    """

    name: str
    memory_bytes: int = 0
    used_bytes: int = 0
    processes: tuple[Process, ...] = ()
    identity: str = ""

    @property
    def is_instance(self) -> bool:
        """Whether it is a part of a GPU (MIG); CUDA shows a process only one of these."""
        return self.name.startswith("MIG-")

    def in_use(self) -> str | None:
        """By whom it is used, with the numbers; None where it is free. For a process that does not use it itself."""
        busy = [process for process in self.processes if process.bytes > IDLE_PROCESS_BYTES]
        limit = BUSY_SHARE * self.memory_bytes
        if not busy and not self.used_bytes > limit:
            return None
        held = f"{size(self.used_bytes)} of {size(self.memory_bytes)} in use"
        by = f" by {', '.join(map(str, busy))}" if busy else ""
        return f"GPU {self.name}: {held}{by}; allowed: {size(limit)}, and no process that computes there"
