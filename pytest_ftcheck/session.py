"""What the plugin keeps during a pytest session.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .options import Settings

if TYPE_CHECKING:
    from .acceptance import Acceptance
    from .baseline.store import BaselineFile
    from .comparison.comparison import Comparison
    from .evidence.evidence import Evidence
    from .executor.dispatcher import Dispatcher
    from .executor.elsewhere import Elsewhere
    from .predict import Gpu, Prediction
    from .recipe import Recipe
    from .rehearsal import Rehearsal
    from .runner import Runner

# What reports carry to the controller, as lists of JSON: ``report.ftcheck_runs`` and so on.
KINDS = ("runs", "verdicts", "trials", "accepted", "comparisons", "judgements", "proposals")


class Session:
    """The settings, the one runner, the evidence of the recipe under audit, and the records that no report has carried
    to the terminal yet.
    """

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings, self.root = settings, root
        self.fresh: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.told: set[str] = set()
        self.rehearsals: dict[Path, Rehearsal] = {}
        # Of ``--ftcheck-against``: by folder, and then by method.
        self.comparisons: dict[Path, dict[str, Comparison]] = {}
        # Of ``--ftcheck-executor``: where runs come from, and, on the controller, what submits them.
        self.elsewhere: Elsewhere | None = None
        self.dispatcher: Dispatcher | None = None
        self._runner: Runner | None = None
        self._baselines: dict[Path, BaselineFile] = {}
        self._audited: Recipe | None = None
        self._evidence: dict[tuple[str, str], Evidence] = {}
        # A list: a recipe holds data, which have no hash.
        self._predictions: list[tuple[Recipe, str, str | Gpu, Prediction]] = []

    def runner(self, shared_folder: Callable[[], Path]) -> Runner:
        """The session's runner. ``shared_folder`` gives a folder that the session's workers share and nobody else."""
        if self._runner is None:
            from .runner import Runner
            from .store import RunStore, Store, open_store

            chosen = self.settings
            store: Store | None = None
            if self.elsewhere is None and chosen.no_cache:
                store = RunStore(shared_folder())
            elif self.elsewhere is None:
                store = open_store(chosen.cache_dir, chosen.cache_size)
            self._runner = Runner(store, lambda run: self.fresh["runs"].append(run.to_json()), self.elsewhere)
        return self._runner

    def evidence(self, recipe: Recipe, method: str, device: str) -> Evidence:
        """What checks look at, one for each method. That of another recipe is let go: it holds models and trainings."""
        from .evidence.evidence import Evidence

        if recipe is not self._audited:
            self.release()
            self._audited = recipe
        if (method, device) not in self._evidence:
            limit, acceptance = self.settings.time_limit, self.acceptance()
            self._evidence[method, device] = Evidence(
                recipe, method, device, time_limit_s=limit, root=self.root, acceptance=acceptance
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
        return prediction

    def release(self) -> None:
        """Let go of all models and trainings."""
        self._evidence.clear()
        self._audited = None

    def close(self) -> None:
        """Let go of everything, and end the processes that were started."""
        self.release()
        self._predictions.clear()
        for rehearsal in self.rehearsals.values():
            rehearsal.close()
        if self.dispatcher is not None:
            self.dispatcher.close()

    def take_fresh(self) -> dict[str, list[str]]:
        """The records made since the last call, by kind; only kinds that have any."""
        made = {kind: records for kind, records in self.fresh.items() if records}
        self.fresh = {kind: [] for kind in KINDS}
        return made


SESSION = pytest.StashKey[Session]()
