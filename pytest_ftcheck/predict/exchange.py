"""The files through which a prediction's process and its parent speak, and what they say when it has died."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import TracebackType

from .. import errors
from ..content import is_installed
from ..errors import PredictionError
from .journal import Journal

# How much of what the process printed is read, and how many lines of that are shown.
TAIL_BYTES, TAIL_LINES, LINE_LENGTH = 2**16, 5, 200
# A frame in what the standard library's faulthandler writes; the innermost comes first.
FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>\S+)')
# The C++ side of an abort of torch, which says nothing to its user.
NOISE = ("frame #", "<omitting python frames>")
SIGNALS = {one.value: one.name for one in signal.Signals}
HINTS = {
    "SIGKILL": "the machine most likely ran out of memory, or somebody ended the process",
    "bad_alloc": "the process met its memory limit; what to do: a larger memory_limit_bytes",
}


class Exchange:
    """A folder of files: ``result``, ``output`` (all that was printed), ``fault`` (where a signal struck), a journal,
    and ``scratch``, for temporary files of the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result, self.output, self.fault = folder / "result.json", folder / "output", folder / "fault"
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.journal = Journal(folder / "journal")

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.journal.close()

    def doing(self) -> str:
        """What the process has begun last."""
        return self.journal.read() or "its start"

    def answer(self, value: str) -> None:
        """Say, in the process, what the prediction is."""
        self._publish({"value": value})

    def refuse(self, error: str, text: str) -> None:
        """Say, in the process, that it raised the error of this name."""
        self._publish({"error": error, "text": text})

    def outcome(self, status: int) -> str:
        """What was answered. Raises the error that was, or PredictionError that says how the process died."""
        if not self.result.exists():
            raise PredictionError(self._death(status))
        answer = json.loads(self.result.read_text(encoding="utf-8"))
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["text"])
        return str(answer["value"])

    def _publish(self, answer: dict[str, str]) -> None:
        """Whole or not at all: a process may be ended while it writes."""
        unfinished = self.result.with_suffix(".part")
        unfinished.write_text(json.dumps(answer), encoding="utf-8")
        os.replace(unfinished, self.result)

    def _death(self, status: int) -> str:
        how = SIGNALS.get(-status, f"signal {-status}") if status < 0 else f"exit status {status}"
        said = self.said()
        hints = [f"  {hint}" for sign, hint in HINTS.items() if sign in how or sign in " ".join(said)]
        first = f"the prediction's process died ({how}) in or after {self.doing()}"
        return "\n".join([first, *self.place(), *(f"  | {line}" for line in said), *hints])

    def place(self) -> list[str]:
        """Where in the user's own code the signal struck, or what of theirs called what it struck."""
        fault = self.fault.read_text(errors="replace") if self.fault.exists() else ""
        # What follows has called the prediction, in the parent.
        fault = fault.partition(" in serve\n")[0]
        own = [frame for frame in FRAME.finditer(fault) if not is_installed(Path(frame["file"]).resolve())]
        return [f"  at {frame['file']}:{frame['line']} in {frame['function']}" for frame in own[:1]]

    def said(self, most: int = TAIL_LINES) -> list[str]:
        """The last lines that the process printed."""
        if not self.output.exists():
            return []
        with self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        worth = (line.rstrip() for line in lines if line.strip() and not line.startswith(NOISE))
        return [line[:LINE_LENGTH] for line in worth][-most:]
