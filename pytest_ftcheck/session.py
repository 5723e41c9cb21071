"""What the plugin keeps during a pytest session.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .options import Settings

if TYPE_CHECKING:
    from .acceptance import Acceptance
    from .baseline.store import BaselineFile
    from .comparison.comparison import Comparison
    from .evidence.evidence import Evidence
    from .executor.remote import Remote
    from .predict import Gpu, Prediction
    from .predict.forecast import Forecast, Forecasts
    from .progress.audience import Audience
    from .recipe import Recipe
    from .rehearsal import Rehearsal
    from .run import Run
    from .runner import Runner
    from .watchdog import Watchdog

# What reports carry to the controller, as lists of JSON: ``report.ftcheck_runs`` and so on.
KINDS = (
    "runs",
    "unshared",
    "verdicts",
    "trials",
    "accepted",
    "comparisons",
    "judgements",
    "proposals",
    "sweeps",
    "forecasts",
)


class Session:
    """The settings, the one runner, the evidence of the recipe under audit, and the records that no report has carried
    to the terminal yet.
    """

    def __init__(self, settings: Settings, root: Path, guard: Callable[[], Watchdog] | None = None) -> None:
        self.settings, self.root = settings, root
        # Ends this process where a training hangs: made when the first one is asked for.
        self._guard = guard
        self._watchdog: Watchdog | None = None
        # Why nothing more can run on the GPU in this process.
        self.dead_context = ""
        self.fresh: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.told: set[str] = set()
        self.rehearsals: dict[Path, Rehearsal] = {}
        # Of ``--ftcheck-against``: by folder, and then by method.
        self.comparisons: dict[Path, dict[str, Comparison]] = {}
        # Gives who is told of the progress of trainings.
        self.make_audience: Callable[[], Audience | None] = lambda: None
        self._audience: Audience | None = None
        # Of ``--ftcheck-executor``: what carries out runs in place of this process; and the GPUs of the test at hand.
        self.remote: Remote | None = None
        self.gpus = 1
        self._runner: Runner | None = None
        self._baselines: dict[Path, BaselineFile] = {}
        self._audited: Recipe | None = None
        self._evidence: dict[tuple[str, str], Evidence] = {}
        # A list: a recipe holds data, which have no hash.
        self._predictions: list[tuple[Recipe, str, str | Gpu, Prediction]] = []
        self._forecasts: Forecasts | None = None

    def runner(self, shared_folder: Callable[[], Path]) -> Runner:
        """The session's runner. ``shared_folder`` gives a folder that the session's workers share and nobody else."""
        if self._runner is None:
            self._expect_trainings()
            from .allowance import Allowance
            from .runner import Runner
            from .store import RunStore, open_store

            chosen = self.settings
            store = RunStore(shared_folder()) if chosen.no_cache else open_store(chosen.cache_dir, chosen.cache_size)
            allowance = Allowance(chosen.time_limit, retries=chosen.oom == "retry")
            self._runner = Runner(
                store,
                lambda run: self.fresh["runs"].append(run.to_json()),
                allowance,
                lambda title, why: self.fresh["unshared"].append(json.dumps([title, why])),
                self.remote,
            )
        return self._runner

    def evidence(self, recipe: Recipe, method: str, device: str) -> Evidence:
        """What checks look at, one for each method. That of another recipe is let go: it holds models and trainings."""
        from .evidence.evidence import Evidence

        if recipe is not self._audited:
            self._expect_trainings()
            self.release()
            self._audited = recipe
        if (method, device) not in self._evidence:
            limit, acceptance = self.settings.time_limit, self.acceptance()
            self._evidence[method, device] = Evidence(
                recipe, method, device, time_limit_s=limit, root=self.root, acceptance=acceptance, tell=self._keep
            )
        return self._evidence[method, device]

    def acceptance(self) -> Acceptance | None:
        """The leave to replace what is declared; None where nobody gave it."""
        chosen = self.settings
        if not (chosen.accepting and chosen.reason):
            return None
        from .acceptance import TWICE, Acceptance

        return Acceptance(
            chosen.reason,
            lambda line: self.fresh["accepted"].append(line),
            new_only=not (chosen.update or chosen.calibrate),
            repeats=chosen.calibrate or TWICE,
        )

    def baselines(self, folder: Path, environment: str) -> BaselineFile:
        """The baselines of an environment in ``folder``, read once in the session."""
        from .baseline.store import BaselineFile

        file = BaselineFile(folder, environment)
        return self._baselines.setdefault(file.path, file)

    def prediction(self, recipe: Recipe, method: str, gpu: str | Gpu) -> Prediction:
        """The prediction of ``recipe``, made once in the session."""
        from .predict import predict_recipe

        for *case, prediction in self._predictions:
            if case[0] is recipe and case[1:] == [method, gpu]:
                return prediction
        prediction = predict_recipe(recipe, method, gpu=gpu)
        self._predictions.append((recipe, method, gpu, prediction))
        self.keep_prediction(prediction)
        return prediction

    def keep_prediction(self, prediction: Prediction) -> None:
        """Have the report show what is predicted."""
        from .predict.forecast import Forecast

        self._keep(Forecast.of(prediction))

    def forecast(self, recipe: Recipe, runs: Sequence[Run]) -> None:
        """Where a report is written, predict what ``runs`` of ``recipe`` take, to be set beside it."""
        from .predict.forecast import Forecasts

        if self.settings.report and runs:
            self._forecasts = self._forecasts or Forecasts(self._keep)
            self._forecasts.add(recipe, runs)

    def _keep(self, forecast: Forecast) -> None:
        self.fresh["forecasts"].append(forecast.to_json())

    def _expect_trainings(self) -> None:
        """From now on somebody is told how trainings go on, and what hangs in one is ended."""
        if self._audience is None and (audience := self.make_audience()) is not None:
            from .progress.audience import admit

            self._audience = audience
            admit(audience)
        if self._watchdog is None and self._guard is not None:
            from .watchdog import install

            self._watchdog = self._guard()
            install(self._watchdog)

    def rest(self) -> None:
        """Let what runs now take as long as it wants."""
        if self._watchdog is not None:
            self._watchdog.rest()

    def release(self) -> None:
        """Let go of all models and trainings."""
        self._evidence.clear()
        self._audited = None

    def close(self) -> None:
        """Let go of everything, and end the processes that were started."""
        self.release()
        if self._runner is not None:
            self._runner.close()
        self._predictions.clear()
        if self._audience is not None:
            from .progress.audience import dismiss

            dismiss(self._audience)
        for rehearsal in self.rehearsals.values():
            rehearsal.close()
        if self._watchdog is not None:
            from .watchdog import remove

            remove(self._watchdog)
            self._watchdog = None

    def take_fresh(self) -> dict[str, list[str]]:
        """The records made since the last call, by kind; only kinds that have any."""
        made = {kind: records for kind, records in self.fresh.items() if records}
        self.fresh = {kind: [] for kind in KINDS}
        return made


SESSION = pytest.StashKey[Session]()
