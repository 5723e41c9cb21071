"""What a session found, as it is collected from its tests: all that a report is written from."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...baseline.judgement import Judgement
from ...checks.verdict import Verdict
from ...codec import Record
from ...comparison.comparison import Comparison
from ...run import Run

# Of the JSON. A change that a reader must know of counts it up.
SCHEMA = 1


@dataclass(frozen=True)
class Findings:
    """``records``: kind -> records in JSON, as tests have made them. ``summary`` counts the tests, ``failures`` says
    why the session failed where no test does. ``made`` is when, and ``version`` that of the plugin.
    """

    records: Mapping[str, Sequence[str]]
    summary: str
    failures: Sequence[str]
    made: str
    version: str

    @classmethod
    def now(cls, records: Mapping[str, Sequence[str]], summary: str, failures: Sequence[str]) -> Findings:
        """Those of a session that ends now."""
        from ... import __version__

        made = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        return cls(records, summary, tuple(failures), made, __version__)

    @cached_property
    def runs(self) -> list[Run]:
        return [Run.from_json(text) for text in dict.fromkeys(self.records.get("runs", ()))]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return [Verdict.from_json(text) for text in self.records.get("verdicts", ())]

    @cached_property
    def judgements(self) -> list[Judgement]:
        return [Judgement.from_json(text) for text in self.records.get("judgements", ())]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        return [Comparison.from_json(text) for text in dict.fromkeys(self.records.get("comparisons", ()))]

    def to_json(self) -> str:
        """All of it, in the schema that docs/report.md has."""
        kinds: dict[str, Sequence[Record]] = {
            "runs": self.runs,
            "checks": self.verdicts,
            "baselines": self.judgements,
            "against": self.comparisons,
        }
        data = {
            "schema": SCHEMA,
            "made": self.made,
            "pytest_ftcheck": self.version,
            "summary": self.summary,
            "failures": list(self.failures),
            **{name: [json.loads(record.to_json()) for record in records] for name, records in kinds.items()},
        }
        return json.dumps(data, indent=1, allow_nan=False) + "\n"
