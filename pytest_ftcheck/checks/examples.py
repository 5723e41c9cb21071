"""An example failure of each check: what it finds in its first negative control. ``docs/checks.md`` shows them.

``python -m pytest_ftcheck.checks.examples`` tries those controls, which takes minutes, and writes ``examples.json`` in
this folder; with ids of checks behind it, it tries theirs alone. Examples of checks that are gone are left out.
``tests/checks/test_controls.py`` compares them with what the checks find today.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..codec import Record, decode, encode
from ..committed import CommittedFile
from ..errors import FtcheckError
from .catalogue import chosen

if TYPE_CHECKING:
    from .verdict import Verdict

FILE = CommittedFile(Path(__file__).with_name("examples.json"))
# What is measured has a point or an exponent, and on another processor other digits; what is counted has not.
MEASURED = re.compile(r"\d[\d,]*\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")


@dataclass(frozen=True)
class Example(Record):
    """``lines`` are the first finding of ``control`` under ``method``, as the terminal prints it."""

    control: str
    method: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, control: str, verdict: Verdict) -> Example:
        """The example that ``verdict``, which has findings, gives. The same wherever temporary files are."""
        lines = verdict.findings[0].lines()
        return cls(control, verdict.method, tuple(line.replace(tempfile.gettempdir(), "/tmp") for line in lines))

    def masked(self) -> Example:
        """It without measured numbers: what is to be the same on every machine."""
        return Example(self.control, self.method, tuple(MEASURED.sub("#", line) for line in self.lines))


def examples() -> dict[str, Example]:
    """The committed ones, by the id of their check. Raises RecordError where the file is damaged."""
    _, entries = FILE.read()
    return {id: decode(Example, entry, id) for id, entry in (entries or {}).items()}


def write(found: Mapping[str, Example]) -> None:
    """Commit ``found`` in place of what there was."""
    FILE.write(json.dumps({id: encode(found[id]) for id in sorted(found)}, indent=1, ensure_ascii=False) + "\n")


def main(select: Sequence[str]) -> None:
    """Try the first control of each chosen check; the examples of the others stay as they are."""
    from .controls import verdict_on

    try:
        checks, held = chosen(select), examples()
    except FtcheckError as error:
        raise SystemExit(str(error)) from None
    found = {check.id: held[check.id] for check in chosen() if check.id in held}
    for check in checks:
        control = check.controls[0]
        verdict = verdict_on(check, control)
        if not verdict.findings:
            raise SystemExit(f"{check.id} finds nothing in its control {control.id}: {verdict.headline}")
        print(verdict, file=sys.stderr)
        found[check.id] = Example.of(control.id, verdict)
    write(found)


if __name__ == "__main__":
    main(sys.argv[1:])
