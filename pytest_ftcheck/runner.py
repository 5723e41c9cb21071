"""One recipe x method x seed -> one ``Run``, trained at most once for everybody who asks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .account import objections
from .content import UnknownContentError, digest
from .environment import environment_key
from .errors import FtcheckError, TrainingError
from .reads import recorded_reads
from .recipe import Recipe
from .run import Run
from .store import Store

if TYPE_CHECKING:
    from .executor.elsewhere import Elsewhere


@dataclass(frozen=True)
class Request:
    """A run that somebody wants."""

    recipe: Recipe
    method: str
    seed: int
    steps: int
    device: str

    def key(self, gpu_names: Sequence[str] | None = None) -> str | None:
        """A digest of everything that the run depends on; None where that cannot be told from the outside.

        Methods other than the one asked for do not count, so recipes that differ in them share runs. ``gpu_names``: of
        the machines that may carry it out, where that is not this one.
        """
        environment = environment_key(self.device, self.recipe.threads, gpu_names)
        try:
            return digest([*self._content, environment])
        except UnknownContentError:
            return None

    def on_threads(self, count: int) -> Request:
        """The same run on ``count`` CPU threads."""
        return dataclasses.replace(self, recipe=self.recipe.replace(threads=count))

    def code(self) -> str:
        """A digest of what is trained, wherever that is: the recipe's values and sources; "" if it cannot be told."""
        try:
            return digest(self._content)
        except UnknownContentError:
            return ""

    @property
    def _content(self) -> list[Any]:
        parts = {name: getattr(self.recipe, name) for name in _PARTS}
        return [parts, self.method, self.recipe.method(self.method), self.seed, self.steps]


# The fields of a recipe that a single run depends on.
_PARTS = (
    *("model", "train_data", "eval_data", "train", "adapt", "loss", "collate", "evaluate"),
    *("batch_size", "accumulation", "eval_steps", "dtype", "name", "threads"),
)


class Runner:
    """Trains what is asked for, remembers it for the session, and shares it through ``store`` where there is one. What
    is carried out ``elsewhere`` is stored there, too.
    """

    def __init__(
        self,
        store: Store | None = None,
        trained: Callable[[Run], None] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._store, self._elsewhere = store, elsewhere
        waits_for = elsewhere or store
        self._poll_s = waits_for.poll_s if waits_for else 0.0
        self._tickets: dict[Any, str] = {}
        self._announce = trained or (lambda run: None)
        self._done: dict[Any, Run | FtcheckError] = {}
        self._keys: dict[Any, str | None] = {}
        # A recipe is kept with what was trained from it: its identity is a key only while it lives.
        self._recipes: list[Recipe] = []

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """The runs, in the order of ``requests``. Raises TrainingError for one that shows nothing.

        What another worker is training is left to it, and what nobody is at is trained here first: so workers that
        want the same runs divide them among themselves.
        """
        __tracebackhide__ = True
        missing = list(range(len(requests)))
        while missing:
            left = [i for i in missing if not self._obtain(requests[i])]
            if len(left) == len(missing):
                time.sleep(self._poll_s)
            missing = left
        # No comprehension: before Python 3.12 it has a frame of its own, which pytest would show.
        runs = []
        for request in requests:
            runs.append(self._result(request))
        return runs

    def run(self, request: Request) -> Run:
        """One run. Raises TrainingError where it shows nothing."""
        __tracebackhide__ = True
        return self.runs([request])[0]

    def again(self, request: Request) -> Run:
        """The run, trained anew whatever is remembered or stored."""
        from .execution import execute

        __tracebackhide__ = True
        if self._elsewhere is not None:
            return self._again_elsewhere(request, self._elsewhere)
        run = execute(request.recipe, request.method, request.seed, request.steps, request.device)
        return _sound(request, run)

    def _again_elsewhere(self, request: Request, elsewhere: Elsewhere) -> Run:
        __tracebackhide__ = True
        ticket = elsewhere.order(request, anew=True)
        while (outcome := elsewhere.outcome(ticket)) is None:
            time.sleep(self._poll_s)
        if isinstance(outcome, FtcheckError):
            raise outcome
        return _sound(request, outcome)

    def _result(self, request: Request) -> Run:
        __tracebackhide__ = True
        outcome = self._done[self._identity(request)]
        if isinstance(outcome, FtcheckError):
            raise outcome.with_traceback(None)  # without the frames of whoever asked before
        return _sound(request, outcome)

    def _obtain(self, request: Request) -> bool:
        """Whether the run is there now: remembered, stored, or trained by this process."""
        identity = self._identity(request)
        if identity in self._done:
            return True
        if self._elsewhere is not None:
            return self._fetch(identity, request, self._elsewhere)
        if identity not in self._keys:
            # Once, and not at every look at what another worker is training.
            self._keys[identity] = request.key() if self._store else None
        key = self._keys[identity]
        if key is None or self._store is None:
            return self._train(identity, request)
        if self._read(identity, key):
            return True
        with self._store.claim(key) as ours:
            if not ours:
                return False
            # Another worker may have finished it between the look and the claim.
            return self._read(identity, key) or self._train(identity, request, key)

    def _fetch(self, identity: Any, request: Request, elsewhere: Elsewhere) -> bool:
        """Whether the run, or its error, has come; ordered at the first look."""
        try:
            if identity not in self._tickets:
                self._tickets[identity] = elsewhere.order(request)
            outcome = elsewhere.outcome(self._tickets[identity])
        except FtcheckError as error:
            outcome = error
        if isinstance(outcome, FtcheckError):
            self._done[identity] = outcome
        elif outcome is not None:
            self._remember(identity, outcome)
        return outcome is not None

    def _read(self, identity: Any, key: str) -> bool:
        run = self._store.read(key) if self._store else None
        if run is not None:
            self._remember(identity, run)
        return run is not None

    def _train(self, identity: Any, request: Request, key: str | None = None) -> bool:
        from .execution import execute

        try:
            with recorded_reads() as reads:
                run = execute(request.recipe, request.method, request.seed, request.steps, request.device)
        except FtcheckError as error:
            self._done[identity] = error
            return True
        if self._store and key:
            self._store.write(key, run, reads)
        self._remember(identity, run)
        return True

    def _remember(self, identity: Any, run: Run) -> None:
        self._done[identity] = run
        self._announce(run)

    def _identity(self, request: Request) -> Any:
        if not any(request.recipe is known for known in self._recipes):
            self._recipes.append(request.recipe)
        return id(request.recipe), request.method, request.seed, request.steps, request.device


def _sound(request: Request, run: Run) -> Run:
    """``run``. Raises TrainingError where it shows nothing."""
    __tracebackhide__ = True
    found = objections(run)
    if found:
        raise TrainingError(f"{request.method} (seed {request.seed}): {found[0]}")
    return run
