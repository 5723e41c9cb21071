"""One training of several processes: a ``Run`` of each rank."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..errors import RecipeError
from ..observers.events import Watcher
from ..predict.journal import Journal
from ..run import Flops, Memory, Run
from .launch import Order, Phase, launched
from .strategy import Strategy, name_of

if TYPE_CHECKING:
    import torch

    from ..recipe import Recipe

TIME_LIMIT_S = 300.0


@dataclass(frozen=True)
class DistributedRun(Record):
    """``ranks[i]`` is what rank i of the training saw; ``strategy`` is "ddp", "fsdp2", "a function" or "own"."""

    strategy: str
    ranks: tuple[Run, ...]

    @property
    def processes(self) -> int:
        return len(self.ranks)

    @property
    def train_loss(self) -> tuple[float, ...]:
        """For each update the mean over the ranks of what ``backward`` was called on. Strategies take the mean of the
        ranks' gradients, so this is the objective.
        """
        return tuple(statistics.fmean(losses) for losses in zip(*(r.loss.train for r in self.ranks), strict=True))

    def __repr__(self) -> str:
        return f"<DistributedRun of {self.processes} ranks ({self.strategy}): {self.ranks[0]!r}>"


class Progress(Watcher):
    """Notes which update a rank is in, for whoever asks after it has died."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._done = journal, 0
        journal.note("building the model")

    def attached(self, model: torch.nn.Module) -> None:
        self._journal.note("update 1")

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._done += 1
        self._journal.note(f"update {self._done + 1}")


def train_distributed(
    recipe: Recipe,
    method: str,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    processes: int | None = None,
    strategy: Strategy | None = None,
    limit_s: float = TIME_LIMIT_S,
) -> DistributedRun:
    """Train ``recipe`` in several processes: as many, and by the strategy, that it declares, or that are given here.

    Each rank trains twice: briefly, for memory and FLOPs, and then under observation; between the two all processes are
    new. Raises TrainingError with the log of the rank that failed.
    """
    recipe = _chosen(recipe, processes, strategy)
    recipe.method(method)
    steps = steps or recipe.steps
    phases = [
        Phase("measuring memory", recipe, recipe.processes, steps, measure),
        Phase("training", recipe, recipe.processes, steps, observe),
    ]
    with launched(method, seed, device, phases, limit_s) as folders:
        runs = [Run.from_json((rank / "run.json").read_text(encoding="utf-8")) for rank in folders["training"]]
    return DistributedRun(name_of(recipe.strategy), tuple(runs))


def _chosen(recipe: Recipe, processes: int | None, strategy: Strategy | None) -> Recipe:
    recipe = recipe.replace(
        processes=recipe.processes if processes is None else processes,
        strategy=recipe.strategy if strategy is None else strategy,
    )
    # One that is asked for tries a strategy where there is one GPU: NCCL gives no two ranks the same.
    if processes is None and recipe.processes == 1:
        raise RecipeError("ft_distributed needs processes=2 or more, in its call or in the recipe; the recipe has 1")
    return recipe


def measure(order: Order) -> None:
    """A rank's memory and FLOPs, in a short training."""
    from ..execution import memory_pass
    from ..isolation import preserved_settings

    recipe, watch = order.recipe, Progress(order.journal)
    with preserved_settings(recipe.threads):
        memory, flops = memory_pass(recipe, order.method, order.seed, order.device, [watch], order.world)
    (order.folder / "memory.json").write_text(memory.to_json(), encoding="utf-8")
    (order.folder / "flops.json").write_text(flops.to_json(), encoding="utf-8")


def observe(order: Order) -> None:
    """A rank's Run. Its memory and FLOPs are those that ``measure`` found."""
    from ..execution import observed
    from ..isolation import preserved_settings

    recipe = order.recipe
    measured = order.shared.parent / "measuring memory" / order.folder.name
    memory = Memory.from_json((measured / "memory.json").read_text(encoding="utf-8"))
    flops = Flops.from_json((measured / "flops.json").read_text(encoding="utf-8"))
    with preserved_settings(recipe.threads):
        record = observed(
            recipe, order.method, order.seed, order.steps, order.device, order.world, [Progress(order.journal)]
        )
    (order.folder / "run.json").write_text(record(memory=memory, flops=flops).to_json(), encoding="utf-8")
