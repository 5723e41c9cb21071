"""Trying settings of a recipe's LoRA, stage by stage, at the same budget: the same updates of the same batches."""

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
# The stage of the one that all others are held against.
DECLARED = "as declared"


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

    def stages(self, declared: LoRA, full: Full) -> Iterator[tuple[str, list[tuple[str, dict[str, object]]]]]:
        """Each thing that is changed, and its values: what to say of each, and the fields of LoRA."""
        yield "learning rate", [(f"{one:g}x full's learning rate", {"lr": one * full.lr}) for one in self.multiples]
        ranks = [rank * declared.r for rank in RANKS] if self.ranks is None else self.ranks
        yield "rank", [(f"rank {rank}", {"r": rank}) for rank in ranks]
        yield "targets", [(f"targets {_named(one)}", {"target_modules": one}) for one in self.targets]
        yield "variant", [(name, VARIANTS[name]) for name in self.variants]


def sweep(recipe: Recipe, search: Search, runner: Runner, device: str, steps: int, seeds: int) -> Sweep:
    """Try the settings from seed 0, and compare the best with the declared one, and both with full, from all seeds.

    Raises ComparisonError for a recipe without full or LoRA, or whose ``adapt`` does not follow its method, and
    TrainingError where full or the declared setting fails.
    """
    full, declared = recipe.full, recipe.lora
    if full is None or not isinstance(declared, LoRA):
        raise ComparisonError("ft_sweep is about LoRA against full; allowed: a recipe with Full(...) and LoRA(...)")
    trials = Trials(recipe, runner, device, steps)
    before = trials.pair(declared, seeds)
    best, least = declared, trials.losses(DECLARED, [(declared, "as declared")])[0]
    for stage, values in search.stages(declared, full):
        new: list[tuple[LoRA, str]] = []
        for what, change in values:
            method = dataclasses.replace(best, **change)  # type: ignore[arg-type]
            if not trials.knows(method) and all(method != other for other, _ in new):
                new.append((method, what))
        for (method, _), loss in zip(new, trials.losses(stage, new), strict=True):
            if loss < least:
                best, least = method, loss
    after = trials.pair(best, seeds)
    return Sweep(
        recipe.name,
        steps,
        tuple(trials.settings),
        label(best),
        before.gap_at(steps),
        after.gap_at(steps),
        int(before.full.parameters.trainable),
        before.full.loss.at(steps),
    )


class Trials:
    """Trainings of one recipe with other methods, which remembers what was tried."""

    def __init__(self, recipe: Recipe, runner: Runner, device: str, steps: int) -> None:
        self._recipe, self._runner, self._device, self._steps = recipe, runner, device, steps
        # With each method that was tried the one recipe that has it: a runner knows what it has trained by that.
        self._known: list[tuple[LoRA, Recipe]] = []
        self.settings: list[Setting] = []

    def knows(self, method: LoRA) -> bool:
        return any(method == known for known, _ in self._known)

    def losses(self, stage: str, tried: Sequence[tuple[LoRA, str]]) -> list[float]:
        """The losses at the horizon from seed 0, asked for at once. One that fails is told of, and infinite."""
        found = self._runner.outcomes([self._request(method, 0) for method, _ in tried])
        return [self._loss(stage, *one, outcome) for one, outcome in zip(tried, found, strict=True)]

    def _loss(self, stage: str, method: LoRA, what: str, found: Run | TrainingError) -> float:
        if isinstance(found, TrainingError):
            failed = str(found).splitlines()[0]
            self.settings.append(Setting(label(method), what, stage, math.inf, 0, failed))
            return math.inf
        parameters = found.parameters
        if parameters.declared is not None and parameters.trainable != parameters.declared.trainable:
            counts = f"{int(parameters.trainable):,} train, it means {parameters.declared.trainable:,}"
            raise ComparisonError(f"adapt(model, method) does not follow {label(method)}: {counts}")
        loss = found.loss.at(self._steps)
        self.settings.append(Setting(label(method), what, stage, loss, int(parameters.trainable)))
        return loss

    def pair(self, method: LoRA, seeds: int) -> Pair:
        """Full and ``method`` from all seeds, asked for at once."""
        fulls = [Request(self._recipe, "full", seed, self._steps, self._device) for seed in range(seeds)]
        runs = self._runner.runs([*fulls, *(self._request(method, seed) for seed in range(seeds))])
        return Pair(tuple(runs[:seeds]), tuple(runs[seeds:]))

    def _request(self, method: LoRA, seed: int) -> Request:
        if not self.knows(method):
            self._known.append((method, self._recipe.replace(methods={**self._recipe.methods, METHOD: method})))
        recipe = next(recipe for known, recipe in self._known if known == method)
        return Request(recipe, METHOD, seed, self._steps, self._device)


def label(method: LoRA) -> str:
    """What it is called among others: its own label does not say how it is initialised."""
    return method.label + (f" init={method.init}" if isinstance(method.init, str) else "")


def _named(targets: Sequence[str] | str) -> str:
    return targets if isinstance(targets, str) else "+".join(targets)
