"""What a prediction may take of the machine it runs on."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from ..errors import RecipeError

try:
    import resource
except ImportError:  # Windows, where the parent's clock is the only limit
    resource = None  # type: ignore[assignment]

DAY_S, EXBIBYTE = 86_400, 2**60
# How much longer than the parent the process itself waits: it is the one to end it only where the parent is gone.
GRACE_S = 10.0


@dataclass(frozen=True)
class Limits:
    """Seconds, the start of the process included, and bytes of address space beyond those that it begins with.

    ``gpus``: whether it may see the machine's GPUs; a prediction is the same without, and must not train there.
    """

    time_s: float = 300.0
    memory_bytes: int = 16 * 2**30
    gpus: bool = False

    def __post_init__(self) -> None:
        allowed = (("time_limit_s", self.time_s, DAY_S), ("memory_limit_bytes", self.memory_bytes, EXBIBYTE))
        for name, value, highest in allowed:
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number and 0 < value <= highest):
                raise RecipeError(f"{name} is {value!r}; allowed: a number above 0, up to {highest}")

    def impose(self) -> None:
        """Hold this process to them. The system does so, whatever the process is stuck in."""
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, self.time_s + GRACE_S)
        if resource is not None:
            # A process that aborts as expected need not leave gigabytes of its memory in the user's folder.
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            now = _address_space()
            if now is not None:
                _limit_address_space(now + int(self.memory_bytes))


def lift_memory_limit() -> None:
    """Let this process have the memory again that it takes to say that it had too little."""
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _limit_address_space(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def _address_space() -> int | None:
    """Bytes of address space that this process has now; None where the system (macOS) neither tells nor limits them."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None
