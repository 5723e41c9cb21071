"""The side of a contestant: a training that goes on only while it is its turn.

The training is the user's own, in a process of its own; a watcher sits at the end of every update. When a turn is over
it reports how long each update took and waits there, within the optimizer's hook, for its next turn. So two trainings
are alive at the same time and never run at the same time, whatever their loops look like. (Not threads: thread counts,
deterministic algorithms, a patched ``backward`` or an allocator belong to a process, and a setting that one training
makes would slow down the other as well.)
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ..building import build_job
from ..errors import FtcheckError, TrainingEndedError
from ..execution import train_job
from ..isolation import preserved_settings
from ..observers.clock import StepClock
from ..observers.events import Events, Watcher
from ..recipe import Recipe
from ..scratch import prefix
from .cost import measure_cost
from .interleaving import FEWEST_UPDATES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Line:
    """The line to the coordinator: a JSON object a line, either way."""

    requests: IO[str]
    answers: IO[str]

    @classmethod
    def of_this_process(cls) -> Line:
        """Standard input and output, kept apart from what the training and its libraries read and print."""
        line = cls(os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8"))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        # What is printed goes where errors go: a file that the coordinator reads when this process has died.
        os.dup2(2, 1)
        return line

    def request(self) -> dict[str, Any]:
        """What is asked next. Where the coordinator is gone, or asks for nothing more, the process ends here."""
        text = self.requests.readline()
        if not text:
            self.leave()
        request = json.loads(text)
        assert isinstance(request, dict)
        return request

    def answer(self, **parts: Any) -> None:
        self.answers.write(json.dumps(parts) + "\n")
        self.answers.flush()

    def leave(self) -> NoReturn:
        """End without unwinding: a training stands in the middle of its loop, and would report that it failed."""
        self.answers.close()
        os._exit(0)


class Baton(Watcher):
    """Holds the training at the end of an update until it is asked for more."""

    def __init__(self, line: Line, clock: StepClock) -> None:
        self._line, self._clock, self._left = line, clock, 1
        self.updates = 0

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self.updates += 1
        self._left -= 1
        if self._left == 0:
            # On a GPU this waits for all that was queued: nothing of it may run in the other's turn.
            self._line.answer(seconds=self._clock.take())
            self._left = int(self._line.request()["updates"])
        self._clock.restart()


def serve(recipe: Recipe, device: str, line: Line, checked: Callable[[], None] = lambda: None) -> NoReturn:
    """Answer requests for ``recipe``: what a method costs, or a training of it in turns. ``checked`` is called after
    either has shown what it imports, and may raise an error of this package.
    """
    while True:
        request = line.request()
        try:
            if request["what"] == "cost":
                answer = measure_cost(recipe, request["method"], request["seed"], device).to_json()
                checked()
                line.answer(cost=answer)
            else:
                train_in_turns(recipe, device, line, request)
        except FtcheckError as error:
            line.answer(error=str(error), ended=isinstance(error, TrainingEndedError))


def train_in_turns(recipe: Recipe, device: str, line: Line, request: dict[str, Any]) -> NoReturn:
    """Train, in turns, until nothing more is asked. Raises TrainingEndedError where the training ends before that."""
    method, steps = request["method"], int(request["steps"])
    with preserved_settings(recipe.threads), tempfile.TemporaryDirectory(prefix=prefix()) as folder:
        job, _ = build_job(recipe, method, int(request["seed"]), steps, device, Path(folder))
        clock = StepClock()
        baton = Baton(line, clock)
        # The clock stops first at the end of an update, and the baton is handed over last.
        with Events([clock, baton]).listening() as events:
            train_job(job, method, events, lambda: baton.updates)
    raise TrainingEndedError(
        f"{method}: train(job) ended after {baton.updates} updates; job.steps was {steps}, and a comparison takes"
        f" at least {FEWEST_UPDATES}"
    )


def main() -> NoReturn:
    """The entry of a process whose recipe is in the file that is named on its command line."""
    from ..predict.parcel import unpacked

    line = Line.of_this_process()
    try:
        contest = unpacked(Path(sys.argv[1]).read_bytes())
    except FtcheckError as error:
        line.answer(error=str(error))
        line.leave()
    serve(contest.recipe, contest.device, line)
