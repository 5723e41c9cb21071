"""One recipe x method x seed -> one ``Run``, trained at most once for everybody who asks."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from .account import objections
from .allowance import Allowance
from .content import UnknownContentError, digest
from .environment import environment_key
from .errors import FtcheckError, TrainingError
from .executor.executor import Executor, LocalExecutor, Trained, in_background
from .progress.audience import Wait
from .recipe import Recipe
from .run import Run
from .store import Store


@dataclass(frozen=True)
class Request:
    """A run that somebody wants. ``gpus``: how many the test that asks has, where runs are carried out elsewhere."""

    recipe: Recipe
    method: str
    seed: int
    steps: int
    device: str
    gpus: int = 1

    @property
    def title(self) -> str:
        """``narrow, lora, seed 0``: as people call it."""
        return f"{self.recipe.name}, {self.method}, seed {self.seed}"

    def on_threads(self, count: int) -> Request:
        """The same run on ``count`` CPU threads."""
        return dataclasses.replace(self, recipe=self.recipe.replace(threads=count))

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


# How often to look whether another machine has carried a run out.
LOOK_S = 0.05
# How long to wait, at the end, for those who wait for one: they give up when the cluster is let go of.
GIVE_UP_S = 5.0


class Runner:
    """Gets what is asked for trained by ``executor`` (this process, unless another one is given), remembers it for the
    session, and shares it through ``store`` where there is one.

    ``trained`` is told of every run; ``unshared`` of each that the store cannot take: its title, and why.
    """

    def __init__(
        self,
        store: Store | None = None,
        trained: Callable[[Run], None] | None = None,
        allowance: Allowance | None = None,
        unshared: Callable[[str, str], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._store, self._allowance = store, allowance or Allowance()
        self._executor = executor or LocalExecutor(self._allowance, store.unfinished if store else None)
        self._poll_s = store.poll_s if store else LOOK_S
        # What is being carried out elsewhere, or waited for.
        self._awaited: dict[Any, Future[Run | FtcheckError]] = {}
        self._announce = trained or (lambda run: None)
        self._unshared = unshared or (lambda title, why: None)
        self._done: dict[Any, Run | FtcheckError] = {}
        self._keys: dict[Any, str | None] = {}
        # A recipe is kept with what was trained from it: its identity is a key only while it lives.
        self._recipes: list[Recipe] = []

    def quietly(self) -> Runner:
        """One that shares what is stored, and announces nothing."""
        return Runner(self._store, None, self._allowance, executor=self._executor)

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """The runs, in the order of ``requests``. Raises TrainingError for one that shows nothing.

        What another worker is training is left to it, and what nobody is at is trained here first: so workers that
        want the same runs divide them among themselves. All that is carried out elsewhere is submitted at once.
        """
        __tracebackhide__ = True
        self._await_all(requests)
        # No comprehension: before Python 3.12 it has a frame of its own, which pytest would show.
        runs = []
        for request in requests:
            runs.append(self._result(request))
        return runs

    def outcomes(self, requests: Sequence[Request]) -> list[Run | TrainingError]:
        """The same, with the error in place of a run that shows nothing: the others are not lost with it."""
        __tracebackhide__ = True
        self._await_all(requests)
        found: list[Run | TrainingError] = []
        for request in requests:
            try:
                found.append(self._result(request))
            except TrainingError as error:
                found.append(error)
        return found

    def run(self, request: Request) -> Run:
        """One run. Raises TrainingError where it shows nothing."""
        __tracebackhide__ = True
        return self.runs([request])[0]

    def again(self, request: Request) -> Run:
        """The run, trained anew whatever is remembered or stored."""
        __tracebackhide__ = True
        return _sound(request, self._executor.prepared(request, None)().run)

    def close(self) -> None:
        """Wait a moment for what is no longer wanted: it may hold the claim of a run."""
        wait(self._awaited.values(), timeout=GIVE_UP_S)

    def _await_all(self, requests: Sequence[Request]) -> None:
        """Until each has its run, or the error in place of it."""
        __tracebackhide__ = True
        missing = list(range(len(requests)))
        with Wait() as wait:
            while missing:
                left = [i for i in missing if not self._obtain(requests[i])]
                if len(left) == len(missing):
                    wait.goes_on(requests[left[0]].title)
                    time.sleep(LOOK_S if self._executor.remote else self._poll_s)
                missing = left

    def _result(self, request: Request) -> Run:
        __tracebackhide__ = True
        outcome = self._done[self._identity(request)]
        if isinstance(outcome, FtcheckError):
            raise outcome.with_traceback(None)  # without the frames of whoever asked before
        return _sound(request, outcome)

    def _obtain(self, request: Request) -> bool:
        """Whether the run, or the error in place of it, is there now."""
        identity = self._identity(request)
        if identity in self._done:
            return True
        if identity not in self._keys:
            # Once, and not at every look at what another worker is training.
            self._keys[identity] = self._executor.key(request) if self._store else None
            if self._keys[identity] is None and self._store is not None:
                self._unshared(f"{request.title}, {request.steps} steps", request.unknown())
        found = (self._look if self._executor.remote else self._attempt)(request, self._keys[identity])
        if found is None:
            return False
        self._done[identity] = found
        if isinstance(found, Run):
            self._announce(found)
        return True

    def _look(self, request: Request, key: str | None) -> Run | FtcheckError | None:
        """What has come of a run that is carried out elsewhere: prepared in this thread, and awaited in another one."""
        identity = self._identity(request)
        if identity not in self._awaited:
            stored = self._read(key)
            if stored is not None:
                return stored
            try:
                train = self._executor.prepared(request, key)
            except FtcheckError as error:
                return error
            self._awaited[identity] = in_background(lambda: self._await(key, train))
        awaited = self._awaited[identity]
        return awaited.result() if awaited.done() else None

    def _await(self, key: str | None, train: Callable[[], Trained]) -> Run | FtcheckError:
        while (found := self._shared(key, train)) is None:
            time.sleep(self._poll_s)
        return found

    def _attempt(self, request: Request, key: str | None) -> Run | FtcheckError | None:
        return self._read(key) or self._shared(key, self._executor.prepared(request, key))

    def _shared(self, key: str | None, train: Callable[[], Trained]) -> Run | FtcheckError | None:
        """The run, or its error; None while another process is at it."""
        if key is None or self._store is None:
            return self._trained(key, train)
        with self._store.claim(key) as ours:
            # Another one may have finished it between the look and the claim.
            return (self._read(key) or self._trained(key, train)) if ours else None

    def _trained(self, key: str | None, train: Callable[[], Trained]) -> Run | FtcheckError:
        found: Run | FtcheckError
        try:
            found, reads, stored = train()
        except FtcheckError as error:
            found = error
        else:
            # A node's folder of that name may be another one.
            if self._store and key and reads is not None and not (stored and self._read(key)):
                self._store.write(key, found, reads)
        folder = self._store.unfinished(key) if self._store and key else None
        if folder is not None:
            # Only what ends this process in the middle leaves it for the next one.
            shutil.rmtree(folder, ignore_errors=True)
        return found

    def _read(self, key: str | None) -> Run | None:
        run = self._store.read(key) if self._store and key else None
        if run is not None and run.retried and not self._allowance.retries:
            # Of a session that tried again after out of memory; in this one that fails.
            return None
        return run

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
