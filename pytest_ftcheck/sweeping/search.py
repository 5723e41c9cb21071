"""Trying settings of a recipe's LoRA one after the other, at the same budget: the same updates of the same batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import ComparisonError, TrainingError
from ..methods import Full, LoRA
from ..pair import Pair
from ..recipe import Recipe
from ..runner import Request
from .sweep import Setting, Sweep

if TYPE_CHECKING:
    from ..run import Run
    from ..runner import Runner

# What full's learning rate is multiplied by: the best for LoRA is about tenfold (Schulman et al. 2025, "LoRA without
# regret"), and a short run wants more.
MULTIPLES = (1.0, 3.0, 10.0, 30.0)
# What the declared rank is multiplied by.
RANKS = (4,)
VARIANTS: dict[str, dict[str, object]] = {
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init": "pissa"},
}
METHOD = "swept"


@dataclasses.dataclass(frozen=True)
class Search:
    """The settings to try. One thing is changed at a time, and what is best is kept: learning rate, rank, targets,
    variant. ``multiples`` are of full's learning rate, ``ranks`` are ranks (None: the declared one and four times it),
    ``targets`` further values of ``target_modules``, and ``variants`` names among rsLoRA, DoRA and PiSSA. alpha stays
    as it is declared. Raises ComparisonError for names and numbers that are none.
    """

    multiples: Sequence[float] = MULTIPLES
    ranks: Sequence[int] | None = None
    targets: Sequence[Sequence[str] | str] = ("all-linear",)
    variants: Sequence[str] = tuple(VARIANTS)

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or isinstance(self.variants, str):
            raise ComparisonError(f"ft_sweep(variants={self.variants!r}); allowed: {', '.join(VARIANTS)}")
        if not all(isinstance(one, (int, float)) and 0 < one < math.inf for one in self.multiples):
            raise ComparisonError(f"ft_sweep(multiples={self.multiples!r}); allowed: numbers greater than 0")

    def stages(self, declared: LoRA, full: Full) -> Iterator[list[tuple[str, dict[str, object]]]]:
        """For each thing that is changed, its values: what to say of each, and the fields of LoRA."""
        yield [(f"{multiple:g}x full's learning rate", {"lr": multiple * full.lr}) for multiple in self.multiples]
        ranks = [rank * declared.r for rank in RANKS] if self.ranks is None else self.ranks
        yield [(f"rank {rank}", {"r": rank}) for rank in ranks]
        yield [(f"targets {_named(one)}", {"target_modules": one}) for one in self.targets]
        yield [(name, VARIANTS[name]) for name in self.variants]


def sweep(recipe: Recipe, search: Search, runner: Runner, device: str, steps: int, seeds: int) -> Sweep:
    """Try the settings from seed 0, and compare the best with the declared one, and both with full, from all seeds.

    Raises ComparisonError for a recipe without full or LoRA, or whose ``adapt`` does not follow its method.
    """
    full, declared = recipe.full, recipe.lora
    if full is None or not isinstance(declared, LoRA):
        raise ComparisonError("ft_sweep is about LoRA against full; allowed: a recipe with Full(...) and LoRA(...)")
    trials = Trials(recipe, runner, device, steps)
    best, least = declared, trials.loss_of(declared, "as declared")
    for stage in search.stages(declared, full):
        found = [(dataclasses.replace(best, **change), what) for what, change in stage]  # type: ignore[arg-type]
        losses = [(trials.loss_of(method, what), method) for method, what in found if not trials.knows(method)]
        for loss, method in losses:
            if loss < least:
                best, least = method, loss
    before, after = trials.pair(declared, seeds), trials.pair(best, seeds)
    return Sweep(
        recipe.name,
        steps,
        tuple(trials.settings),
        best.label + _variant(best),
        before.gap_at(steps),
        after.gap_at(steps),
        int(before.full.parameters.trainable),
    )


class Trials:
    """Trainings of one recipe with other methods, which remembers what was tried."""

    def __init__(self, recipe: Recipe, runner: Runner, device: str, steps: int) -> None:
        self._recipe, self._runner, self._device, self._steps = recipe, runner, device, steps
        self._known: list[LoRA] = []
        self.settings: list[Setting] = []

    def knows(self, method: LoRA) -> bool:
        return method in self._known

    def loss_of(self, method: LoRA, what: str) -> float:
        """The loss at the horizon from seed 0; infinite where the training fails, which is told of."""
        self._known.append(method)
        label = method.label + _variant(method)
        try:
            (run,) = self._runs(method, [0])
        except TrainingError as error:
            self.settings.append(Setting(label, what, math.inf, 0, str(error).splitlines()[0]))
            return math.inf
        if run.parameters.declared is not None and run.parameters.trainable != run.parameters.declared.trainable:
            counts = f"{int(run.parameters.trainable):,} train, it means {run.parameters.declared.trainable:,}"
            raise ComparisonError(f"adapt(model, method) does not follow {label}: {counts}")
        loss = run.loss.at(self._steps)
        self.settings.append(Setting(label, what, loss, int(run.parameters.trainable)))
        return loss

    def pair(self, method: LoRA, seeds: int) -> Pair:
        """Full and ``method`` from all seeds."""
        fulls = self._runner.runs([self._request(self._recipe, "full", seed) for seed in range(seeds)])
        return Pair(tuple(fulls), tuple(self._runs(method, range(seeds))))

    def _runs(self, method: LoRA, seeds: Sequence[int]) -> list[Run]:
        recipe = self._recipe.replace(methods={**self._recipe.methods, METHOD: method})
        return self._runner.runs([self._request(recipe, METHOD, seed) for seed in seeds])

    def _request(self, recipe: Recipe, name: str, seed: int) -> Request:
        return Request(recipe, name, seed, self._steps, self._device)


def _named(targets: Sequence[str] | str) -> str:
    return targets if isinstance(targets, str) else "+".join(targets)


def _variant(method: LoRA) -> str:
    """What a label does not say."""
    return f" init={method.init}" if isinstance(method.init, str) else ""
