"""Starting the ranks of a training: a process of its own runs torch elastic (what ``torchrun`` runs), and it ends with
everything that it has started, whatever that is doing.

Where it can that process, and each rank, is a fork, as for predictions: it has the user's recipe as it is, and imports
nothing anew. On a GPU they are fresh interpreters. ``FTCHECK_PREDICT_PROCESS`` decides otherwise for these, too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import PredictionError, RecipeError, TrainingError
from ..predict.exchange import Exchange
from ..predict.journal import Journal
from ..predict.limits import DAY_S, EXBIBYTE, Limits
from ..predict.process import FORK, Child, Fork, FreshInterpreter, way
from ..recipe import Recipe
from ..scratch import prefix
from .endings import hung
from .world import World

# The limit of torch elastic's own work: starting and ending the ranks.
OVERHEAD_S = 5.0


@dataclass(frozen=True)
class Order:
    """What a rank is to do, and where: ``folder`` is its own, ``shared`` that of all ranks of the phase."""

    recipe: Recipe
    method: str
    seed: int
    steps: int
    device: str
    world: World
    folder: Path
    shared: Path
    journal: Journal


@dataclass(frozen=True)
class Phase:
    """One launch of ``processes`` ranks, each of which calls ``task``, a function of a module."""

    name: str
    recipe: Recipe
    processes: int
    steps: int
    task: Callable[[Order], None]


@dataclass(frozen=True)
class Launch:
    """Phases, one after the other, in ``folder``. ``ends_at`` is when they are ended, in seconds of the epoch."""

    recipe: Recipe
    method: str
    seed: int
    device: str
    phases: tuple[Phase, ...]
    folder: Path
    limit_s: float
    forks: bool
    ends_at: float = 0.0

    def answer(self, journal: Journal) -> str:
        """Carry the phases out, in the process that is apart. Raises TrainingError for a rank that did not end well."""
        from .elastic import carry_out

        for phase in self.phases:
            journal.note(phase.name)
            carry_out(self, phase)
        return ""

    def ranks(self, phase: Phase) -> list[Path]:
        """The folder of each rank of a phase."""
        return [self.folder / phase.name / f"rank{rank}" for rank in range(phase.processes)]


@contextmanager
def launched(
    method: str, seed: int, device: str, phases: Sequence[Phase], limit_s: float
) -> Iterator[dict[str, list[Path]]]:
    """Carry ``phases`` out: by name the folders of their ranks, which live as long as the body. Raises TrainingError
    with the log of a rank that died, hung or raised, and RecipeError where there are not as many devices as ranks.
    """
    from .elastic import import_what_ranks_import

    for phase in phases:
        _refuse_too_few_devices(device, phase.processes)
    with tempfile.TemporaryDirectory(prefix=prefix() + "ranks-", ignore_cleanup_errors=True) as folder:
        forks = way() == FORK
        launch = Launch(phases[-1].recipe, method, seed, device, tuple(phases), Path(folder), limit_s, forks)
        if forks:
            import_what_ranks_import(launch)
        launch = replace(launch, ends_at=time.time() + limit_s)
        _carried_out(launch)
        yield {phase.name: launch.ranks(phase) for phase in phases}


def _carried_out(launch: Launch) -> None:
    with Exchange(launch.folder) as exchange:
        limits = Limits(min(launch.limit_s + OVERHEAD_S, DAY_S), EXBIBYTE, gpus=launch.device != "cpu")
        try:
            make: type[Child] = Fork if launch.forks else FreshInterpreter
            child: Child = make(launch, exchange, limits)  # type: ignore[call-arg]
        except (OSError, PredictionError) as error:
            raise TrainingError(f"{launch.method}: its processes cannot be started: {error}") from error
        try:
            status = child.wait(launch.limit_s)
        except TimeoutError:
            raise TrainingError(_at_the_limit(launch, exchange.doing())) from None
        finally:
            child.end()
        try:
            exchange.outcome(status)
        except PredictionError as error:
            text = str(error).replace("the prediction's process", "the process that starts the ranks")
            raise TrainingError(f"{launch.method}: {text}") from error


def _at_the_limit(launch: Launch, doing: str) -> str:
    phase = next((one for one in launch.phases if one.name == doing), launch.phases[0])
    return hung(launch.method, launch.ranks(phase), launch.limit_s)


def _refuse_too_few_devices(device: str, processes: int) -> None:
    if not device.startswith("cuda"):
        return
    from ..devices import usable_gpus

    there = len(usable_gpus().memory_bytes)
    if processes > there:
        raise RecipeError(
            f"{processes} processes need as many GPUs, and there are {there}; allowed: processes={max(1, there)}, or "
            "--ftcheck-device=cpu"
        )
