"""The coordinator's side of a contestant: a process that trains when it is asked to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ComparisonError, TrainingEndedError
from ..process_group import apart, kill_group

# How long an answer may take: a process imports torch and builds a model before its first one.
LIMIT_S = 300.0
# How much of what a process that died had printed is looked at.
TAIL_BYTES = 2**14


class Contestant:
    """The process that ``command`` starts in ``folder``; ``scratch`` takes its output and temporary files.

    Ended at the end of the ``with`` statement, whatever it is doing then.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        scratch: Path,
        environment: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.name, self._limit_s = name, limit_s
        self._output = scratch / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**(os.environ if environment is None else environment), "TMPDIR": str(scratch)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                encoding="utf-8",
                **apart(),
            )

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        kill_group(self._process.pid)
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> None:
        """Send a request, and do not wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It has died; who waits for the answer is told.
            pass

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest request. Raises ComparisonError for an error, for a process that died, and for one
        that took too long and was ended; TrainingEndedError where a training has come to its end.
        """
        assert self._process.stdout is not None
        expired = threading.Event()

        def end() -> None:
            expired.set()
            kill_group(self._process.pid)

        timer = threading.Timer(self._limit_s, end)
        timer.start()
        try:
            text = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not text:
            raise ComparisonError(f"{self.name}: {self._why_none(expired.is_set())}")
        answer = json.loads(text)
        if "error" in answer:
            kind = TrainingEndedError if answer.get("ended") else ComparisonError
            raise kind(f"{self.name}: {answer['error']}")
        assert isinstance(answer, dict)
        return answer

    def _why_none(self, expired: bool) -> str:
        if expired:
            return f"no answer after {self._limit_s:g} s, and it was ended (--ftcheck-time-limit)"
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - TAIL_BYTES))
            said = file.read().decode(errors="replace").split("\n")
        lines = [line.strip() for line in said if line.strip()] or ["it printed nothing"]
        # pytest marks errors with an E, and has more to say after them.
        last = next((line for line in reversed(lines) if line.startswith("E ")), lines[-1]).removeprefix("E ").strip()
        return f"its process ended ({self._process.wait()}): {last}"

    def turn(self, updates: int) -> tuple[float, ...]:
        """Let it train for so many updates: the seconds of each."""
        self.ask(updates=updates)
        return tuple(self.answer()["seconds"])


def python(code: str, *arguments: str, search: Sequence[str] = ()) -> list[str]:
    """The command of a Python that runs ``code``, and searches modules in ``search`` (default: where this one does)."""
    # Set before anything is imported: the working folder may have a file called like a module. This package first, from
    # where it is: both sides are measured by the same one, also where the tree has one of its own.
    places, here = [*map(str, search or sys.path)], str(Path(__file__).resolve().parents[2])
    start = f"import sys; sys.path[:] = [{here!r}, *sys.path]; import pytest_ftcheck; sys.path[:] = {places!r}"
    return [sys.executable, "-c", f"{start}; {code}", *arguments]
