"""Processes that live and end apart from this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any


def apart() -> dict[str, Any]:
    """The arguments of Popen that keep Ctrl-C and signals for this process's group away from the new one."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill_group(leader: int) -> None:
    """Kill a process that was started apart, and those that it started (data loader workers)."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
