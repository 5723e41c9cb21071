"""What a session found, as it is collected from its tests: all that a report is written from."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ...baseline.judgement import Judgement
from ...baseline.past import Pasts, look_back
from ...checks.verdict import Verdict
from ...codec import Record
from ...comparison.comparison import Comparison
from ...predict.forecast import Forecast
from ...run import Run
from ...sweeping.sweep import Sweep

if TYPE_CHECKING:
    from ...options import Settings

# Of the JSON. A change that a reader must know of counts it up.
SCHEMA = 1


@dataclass(frozen=True)
class Findings:
    """``records``: kind -> records in JSON, as tests have made them. ``summary`` counts the tests, ``failures`` says
    why the session failed where no test does. ``made`` is when, and ``version`` that of the plugin; ``pasts`` is how it
    went with what is held to baselines.
    """

    records: Mapping[str, Sequence[str]]
    summary: str
    failures: Sequence[str]
    made: str
    version: str
    pasts: Pasts = dataclasses.field(default_factory=Pasts)

    @classmethod
    def now(
        cls, records: Mapping[str, Sequence[str]], summary: str, failures: Sequence[str], settings: Settings, root: Path
    ) -> Findings:
        """Those of a session that ends now, and what came before them."""
        from ... import __version__

        made = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        found = cls(records, summary, tuple(failures), made, __version__)
        pasts = look_back(found.judgements, root, settings.baseline_dir, settings.history)
        return dataclasses.replace(found, pasts=pasts)

    @cached_property
    def runs(self) -> list[Run]:
        return [Run.from_json(text) for text in dict.fromkeys(self.records.get("runs", ()))]

    @cached_property
    def sweeps(self) -> list[Sweep]:
        return [Sweep.from_json(text) for text in dict.fromkeys(self.records.get("sweeps", ()))]

    @cached_property
    def forecasts(self) -> list[Forecast]:
        return [Forecast.from_json(text) for text in dict.fromkeys(self.records.get("forecasts", ()))]

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
            "predictions": self.forecasts,
            "checks": self.verdicts,
            "baselines": self.judgements,
            "history": self.pasts.found,
            "against": self.comparisons,
            "sweeps": self.sweeps,
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
