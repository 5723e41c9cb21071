"""One recipe x method x seed -> one ``Run``, trained at most once for everybody who asks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .account import objections
from .allowance import Allowance
from .content import UnknownContentError, digest
from .environment import environment_key
from .errors import FtcheckError, TrainingError
from .progress.audience import Wait
from .reads import recorded_reads
from .recipe import Recipe
from .run import Run
from .store import Store


@dataclass(frozen=True)
class Request:
    """A run that somebody wants."""

    recipe: Recipe
    method: str
    seed: int
    steps: int
    device: str

    @property
    def title(self) -> str:
        """``narrow, lora, seed 0``: as people call it."""
        return f"{self.recipe.name}, {self.method}, seed {self.seed}"

    def key(self) -> str | None:
        """A digest of everything that the run depends on; None where that cannot be told from the outside.

        Methods other than the one asked for do not count, so recipes that differ in them share runs.
        """
        environment = environment_key(self.device, self.recipe.threads)
        try:
            return digest([*self._content, environment])
        except UnknownContentError:
            return None

    def code(self) -> str:
        """A digest of what is trained, wherever that is: the recipe's values and sources; "" if it cannot be told."""
        try:
            return digest(self._content)
        except UnknownContentError:
            return ""

    def unknown(self) -> str:
        """Which part has a content that cannot be told, where ``key`` is None: "train_data, the content of a ..."."""
        parts = {name: getattr(self.recipe, name) for name in _PARTS}
        for name, part in {**parts, self.method: self.recipe.method(self.method)}.items():
            try:
                digest(part)
            except UnknownContentError as error:
                return f"{name}, {error}"
        return ""

    @property
    def _content(self) -> list[Any]:
        parts = {name: getattr(self.recipe, name) for name in _PARTS}
        return [parts, self.method, self.recipe.method(self.method), self.seed, self.steps]


# The fields of a recipe that a single run depends on.
_PARTS = (
    *("model", "train_data", "eval_data", "source_data", "train", "adapt", "loss", "collate", "evaluate"),
    *("batch_size", "accumulation", "eval_steps", "dtype", "name", "threads"),
)


class Runner:
    """Trains what is asked for, remembers it for the session, and shares it through ``store`` where there is one.

    ``trained`` is told of every run; ``unshared`` of each that the store cannot take: its title, and why.
    """

    def __init__(
        self,
        store: Store | None = None,
        trained: Callable[[Run], None] | None = None,
        allowance: Allowance | None = None,
        unshared: Callable[[str, str], None] | None = None,
    ) -> None:
        self._store, self._allowance = store, allowance or Allowance()
        self._poll_s = store.poll_s if store else 0.0
        self._announce = trained or (lambda run: None)
        self._unshared = unshared or (lambda title, why: None)
        self._done: dict[Any, Run | FtcheckError] = {}
        self._keys: dict[Any, str | None] = {}
        # A recipe is kept with what was trained from it: its identity is a key only while it lives.
        self._recipes: list[Recipe] = []

    def quietly(self) -> Runner:
        """One that shares what is stored, and announces nothing."""
        return Runner(self._store, None, self._allowance)

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """The runs, in the order of ``requests``. Raises TrainingError for one that shows nothing.

        What another worker is training is left to it, and what nobody is at is trained here first: so workers that
        want the same runs divide them among themselves.
        """
        __tracebackhide__ = True
        missing = list(range(len(requests)))
        with Wait() as wait:
            while missing:
                left = [i for i in missing if not self._obtain(requests[i])]
                if len(left) == len(missing):
                    wait.goes_on(requests[left[0]].title)
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
        __tracebackhide__ = True
        return _sound(request, self._allowance.run(request))

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
        if identity not in self._keys:
            # Once, and not at every look at what another worker is training.
            self._keys[identity] = request.key() if self._store else None
        key = self._keys[identity]
        if key is None or self._store is None:
            if self._store is not None:
                self._unshared(f"{request.title}, {request.steps} steps", request.unknown())
            return self._train(identity, request)
        if self._read(identity, key):
            return True
        with self._store.claim(key) as ours:
            if not ours:
                return False
            # Another worker may have finished it between the look and the claim.
            return self._read(identity, key) or self._train(identity, request, key)

    def _read(self, identity: Any, key: str) -> bool:
        run = self._store.read(key) if self._store else None
        if run is not None and run.retried and not self._allowance.retries:
            # Of a session that tried again after out of memory; in this one that fails.
            return False
        if run is not None:
            self._remember(identity, run)
        return run is not None

    def _train(self, identity: Any, request: Request, key: str | None = None) -> bool:
        folder = self._store.unfinished(key) if self._store and key and request.recipe.save_steps else None
        try:
            with recorded_reads(apart_from=folder) as reads:
                run = self._allowance.run(request, folder)
        except FtcheckError as error:
            self._done[identity] = error
        else:
            if self._store and key:
                self._store.write(key, run, reads)
            self._remember(identity, run)
        if folder is not None:
            # Only what ends this process in the middle leaves it for the next one.
            shutil.rmtree(folder, ignore_errors=True)
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
