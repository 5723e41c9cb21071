"""What came of a run on another machine, as text: the run and the files that it has read, or an error of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .. import errors
from ..errors import FtcheckError
from ..reads import recorded_reads
from ..run import Run


@dataclass(frozen=True)
class Outcome:
    """A run, or the error that there is in place of it."""

    run: Run | None = None
    error: FtcheckError | None = None
    reads: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, train: Callable[[], Run]) -> Outcome:
        """What ``train()`` gives; errors of other kinds pass through."""
        try:
            with recorded_reads() as reads:
                run = train()
        except FtcheckError as error:
            return cls(error=error)
        return cls(run=run, reads=reads)

    @property
    def either(self) -> Run | FtcheckError:
        found = self.run or self.error
        assert found is not None
        return found

    def to_json(self) -> str:
        if self.error is not None:
            return json.dumps({"error": type(self.error).__name__, "text": str(self.error)})
        assert self.run is not None
        return json.dumps({"run": self.run.to_json(), "reads": dict(self.reads)})

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        data = json.loads(text)
        if "error" in data:
            return cls(error=getattr(errors, data["error"])(data["text"]))
        return cls(run=Run.from_json(data["run"]), reads=data["reads"])
