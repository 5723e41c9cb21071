"""The two arms of a comparison: one recipe trained in full and with an adapter."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .baseline.decision import Decision
from .baseline.statistics import LOSS_MARGIN, losses_equal
from .codec import Record
from .errors import ComparisonError, RecipeError
from .explained import Ratio
from .order import Gap, LossOrder, divided, loss_order, paired
from .run import Run

if TYPE_CHECKING:
    from .choosing.choice import Choice
    from .choosing.stakes import Stakes


@dataclass(frozen=True)
class Pair(Record):
    """The same recipe trained in full and with an adapter, from the same seeds on the same batches.

    ``fulls[i]`` and ``loras[i]`` share a seed; ``full`` and ``lora`` are the first of each.
    """

    fulls: tuple[Run, ...]
    loras: tuple[Run, ...]

    def __post_init__(self) -> None:
        if not self.fulls or [run.seed for run in self.fulls] != [run.seed for run in self.loras]:
            seeds = [[run.seed for run in arm] for arm in (self.fulls, self.loras)]
            raise RecipeError(f"a pair needs runs of the same seeds in both arms; got {seeds[0]} and {seeds[1]}")

    def __repr__(self) -> str:
        arms = f"full and {self.lora.title}, {len(self.fulls)} seeds"
        divided = f"; {self.divided}" if self.divided else ""
        return f"<Pair {self.full.recipe}: {arms}, {self.full.steps} steps{divided}>"

    @property
    def full(self) -> Run:
        """The full fine-tuning from the first seed."""
        return self.fulls[0]

    @property
    def lora(self) -> Run:
        """The adapter's training from the first seed."""
        return self.loras[0]

    @property
    def paired(self) -> bool:
        """Whether both arms were fed the same batches in the same order, for every seed."""
        return paired(self.fulls, self.loras)

    @property
    def divided(self) -> str:
        """How the updates' rows were divided, where that is not the same in all runs; empty where it is."""
        return divided(self.fulls, self.loras)

    def memory_ratio(self, kind: Literal["static", "peak"]) -> Ratio:
        """Bytes of full over bytes of LoRA: ``"static"`` for weights, gradients and optimizer state, ``"peak"`` for the
        peak of a step, which activations pull towards 1.
        """
        if kind not in ("static", "peak"):
            raise RecipeError(f"memory_ratio({kind!r}); allowed: 'static', 'peak'")
        full, lora = self.full.memory, self.lora.memory
        if kind == "static":
            return Ratio(full.static_bytes / lora.static_bytes, "static memory of full over LoRA", self)
        return Ratio(full.peak_bytes / lora.peak_bytes, "peak memory of full over LoRA", self)

    @property
    def time_ratio(self) -> Ratio:
        """Median step time of full over that of LoRA, over all seeds."""
        full, lora = (statistics.median(run.time.step_s for run in arm) for arm in (self.fulls, self.loras))
        return Ratio(full / lora, "step time of full over LoRA", self)

    @property
    def flops_ratio(self) -> Ratio:
        """Floating-point operations of an update in full over those with LoRA, which leaves out the gradients of frozen
        weights: with small adapters in every block about 1.5, and 4/3 under checkpointing. NaN where none were counted.
        """
        full, lora = self.full.flops.total, self.lora.flops.total
        return Ratio(full / lora if lora else math.nan, "floating-point operations of full over LoRA", self)

    def loss_order(self, at: int | None = None, margin: float = 0.0) -> LossOrder:
        """Which arm has the lower loss after ``at`` updates (default: the horizon), by more than ``margin`` nats."""
        return loss_order(self.fulls, self.loras, self.full.steps if at is None else at, margin)

    def gap_at(self, step: int) -> Gap:
        """LoRA's loss minus full's after ``step`` updates. ValueError where no loss was measured there."""
        return next(gap for gap in self.loss_order(at=step).gaps if gap.step == step)

    def losses_equal(self, at: int | None = None, margin: float = LOSS_MARGIN) -> Decision:
        """Whether both arms have the same loss after ``at`` updates (default: the horizon), to within ``margin`` nats:
        an equivalence test over the paired seeds. ``.verdict`` is ``"passed"``, ``"failed"`` or ``"unstable"``. Raises
        ComparisonError where the arms saw different batches, and for a single seed.
        """
        if not self.paired:
            why = f" ({self.divided})" if self.divided else ""
            raise ComparisonError(f"the arms saw different batches, so their losses are not paired{why}")
        step = self.full.steps if at is None else at
        return losses_equal(
            [b.loss.at(step) - a.loss.at(step) for a, b in zip(self.fulls, self.loras, strict=True)], margin=margin
        )

    def decision(
        self,
        at: int | None = None,
        margin: float | None = None,
        floor: float | None = None,
        stakes: Stakes | None = None,
        data: Literal["eval", "source"] = "eval",
    ) -> Choice:
        """Which arm to choose for trainings of ``at`` updates (default: the horizon): ``.verdict`` is ``"full"``,
        ``"lora"``, ``"either"`` or ``"too early to tell"``, with the step to run to.

        ``margin`` (nats; 0.01, or 0 with ``stakes``) is what nobody minds, ``floor`` the loss that is known to be the
        lowest, and ``stakes`` says what full fine-tuning costs and what a lower loss is worth. ``data="source"``
        decides by the losses on the recipe's ``source_data``: what matters where the model must stay general. Raises
        ComparisonError where the curves allow no comparison.
        """
        from .choosing.choice import choose

        return choose(self._by(data), self.full.steps if at is None else at, margin, floor, stakes)

    def _by(self, data: str) -> Pair:
        """The pair with the losses on ``data`` as its evaluation losses."""
        if data == "eval":
            return self
        if data != "source":
            raise ComparisonError(f"decision(data={data!r}); allowed: 'eval', 'source'")
        try:
            arms = [
                [dataclasses.replace(run, loss=run.loss.on_source) for run in arm] for arm in (self.fulls, self.loras)
            ]
        except ValueError as error:
            raise ComparisonError(f"decision(data='source'): {error}") from None
        return Pair(tuple(arms[0]), tuple(arms[1]))
