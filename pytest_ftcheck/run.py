"""What one training was: the records that everything else reads.

A ``Run`` is one recipe trained with one method from one seed; it carries measurements and decides nothing. Times are
seconds, memory is bytes, losses are natural-log units (nats) as the user's own loss function gave them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from functools import cached_property

from .codec import Record
from .explained import Count, Findings
from .theory.parameters import ParameterForm

# Steps at the start of a run whose time is not counted: allocator, caches and lazy initialisation settle there.
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class ParameterTensor(Record):
    """One parameter as it was at the first update, and what happened to it afterwards.

    ``optimized``: an optimizer group holds it. ``gradient``: it had a non-zero gradient in an update that was looked
    at (the first three and the last). ``moved``: its bits at the end differ from those before the first update.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    optimized: bool
    gradient: bool
    moved: bool

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Parameters(Record):
    """Every parameter of the trained model, tied ones once, and the closed form that the method declares."""

    tensors: tuple[ParameterTensor, ...]
    declared: ParameterForm | None = None

    @property
    def total(self) -> Count:
        """How many parameters the model has, an adapter's among them; tied ones count once."""
        return Count(sum(t.size for t in self.tensors), "parameters", self)

    @property
    def trainable(self) -> Count:
        """How many of them require gradients at the first update."""
        return Count(sum(t.size for t in self.tensors if t.trainable), "trainable parameters", self)

    @property
    def frozen(self) -> Count:
        """How many do not."""
        return Count(self.total - self.trainable, "frozen parameters", self)

    @property
    def moved(self) -> Count:
        """How many parameters are in tensors that changed during training."""
        return Count(sum(t.size for t in self.tensors if t.moved), "parameters that moved", self)

    @cached_property
    def by_module(self) -> dict[str, tuple[int, int]]:
        """Module name, as in the model before adaptation -> (parameters, trainable parameters)."""
        modules: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            total, trainable = modules.get(tensor.module, (0, 0))
            modules[tensor.module] = (total + tensor.size, trainable + tensor.size * tensor.trainable)
        return modules


@dataclass(frozen=True)
class Losses(Record):
    """Loss curves. ``train[i]`` is the objective that update i + 1 differentiated: what ``backward`` was called on,
    summed over the micro-batches of the update, whatever a framework logged. ``eval`` holds (step, loss) pairs on the
    evaluation data, in evaluation mode, and ``source`` those on the source data, from step 0 on (before the first
    update). ``supervised_tokens[i]`` counts the positions whose logits received a gradient
    in update i + 1 (None where the model's output shows no logits). ``batches`` is a digest of all training inputs.
    """

    train: tuple[float, ...]
    eval: tuple[tuple[int, float], ...] = ()
    supervised_tokens: tuple[int | None, ...] = ()
    batches: str = ""
    source: tuple[tuple[int, float], ...] = ()

    @property
    def forgetting(self) -> float:
        """By how much the loss on the source data has risen in the training (nats); negative where it fell. ValueError
        where there is no source data.
        """
        if not self.source:
            raise ValueError("no loss on source data; give the recipe source_data")
        return self.source[-1][1] - self.source[0][1]

    @property
    def on_source(self) -> Losses:
        """The same, with the losses on the source data in place of those on the evaluation data."""
        if not self.source:
            raise ValueError("no loss on source data; give the recipe source_data")
        return dataclasses.replace(self, eval=tuple(pair for pair in self.source if pair[0] > 0))

    @property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """(step, loss) pairs to compare by: the evaluation losses, or else the training losses of each step."""
        return self.eval or tuple(enumerate(self.train, start=1))

    def at(self, step: int) -> float:
        """The loss after ``step`` updates: the evaluation loss if one was taken there; with no evaluation data, the
        mean training loss of the last tenth of the steps so far. ValueError where there is no such measurement.
        """
        for measured, loss in self.eval:
            if measured == step:
                return loss
        if self.eval:
            steps = ", ".join(str(measured) for measured, _ in self.eval)
            raise ValueError(f"no evaluation at step {step}; there is one at steps {steps}")
        if not 1 <= step <= len(self.train):
            raise ValueError(f"no loss at step {step}; the run has steps 1 to {len(self.train)}")
        window = max(1, step // 10)
        return statistics.fmean(self.train[step - window : step])

    @property
    def final(self) -> float:
        """The loss at the horizon."""
        return self.at(self.eval[-1][0] if self.eval else len(self.train))

    @property
    def finite(self) -> bool:
        """Whether every loss that was taken is a finite number."""
        return all(map(math.isfinite, (*self.train, *(loss for _, loss in (*self.eval, *self.source)))))


@dataclass(frozen=True)
class Breakdown(Record):
    """Live bytes by what they are for."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    temporaries: int = 0

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.temporaries


@dataclass(frozen=True)
class Memory(Record):
    """Memory of one update after the first, in bytes.

    ``weights_bytes`` (parameters and buffers), ``gradients_bytes``, ``optimizer_bytes`` and ``activations_bytes`` (what
    the forward pass left for the backward pass) are each category's own maximum; ``at_peak`` is how the live bytes
    divide at the moment of the peak, in ``peak_phase`` (data, forward, backward or optimizer). ``peak_bytes`` is the
    allocator's peak on a GPU (``source`` "allocator") and the peak of live bytes elsewhere (``source`` "live").
    """

    peak_bytes: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    peak_phase: str
    at_peak: Breakdown
    source: str = "live"

    @property
    def static_bytes(self) -> int:
        """What training holds whatever the batch is: weights, gradients and optimizer state."""
        return self.weights_bytes + self.gradients_bytes + self.optimizer_bytes


@dataclass(frozen=True)
class Flops(Record):
    """Floating-point operations of one update: matrix products, convolutions and attention; a multiply-add is 2.

    What checkpointing recomputes is done, and counted, in the backward pass. ``forward`` is everything before that,
    ``optimizer`` what the optimizer multiplies (Muon does; AdamW and SGD do not).
    """

    forward: int
    backward: int
    optimizer: int = 0

    @property
    def total(self) -> int:
        """Of all three phases."""
        return self.forward + self.backward + self.optimizer


@dataclass(frozen=True)
class Timing(Record):
    """Seconds of each update, evaluation and observation left out, and the input tokens of an update."""

    samples_s: tuple[float, ...]
    tokens_per_step: float | None = None

    @property
    def step_s(self) -> float:
        """Median over the updates after warm-up: robust against the outliers of a shared machine."""
        settled = self.samples_s[WARM_UP_STEPS:] or self.samples_s
        return statistics.median(settled) if settled else math.nan

    @property
    def tokens_per_s(self) -> float:
        """Input tokens of an update by its median time; NaN where no tokens were seen."""
        return self.tokens_per_step / self.step_s if self.tokens_per_step else math.nan


@dataclass(frozen=True)
class OptimizerGroup(Record):
    """One parameter group: its parameters' names, weight decay, and the learning rate that each update used."""

    parameters: tuple[str, ...]
    weight_decay: float | None
    lr: tuple[float, ...]


@dataclass(frozen=True)
class Optimizer(Record):
    """One optimizer that stepped, by its class name."""

    name: str
    groups: tuple[OptimizerGroup, ...]


@dataclass(frozen=True)
class Environment(Record):
    """Where a run was made; no host, user, path or variable of that machine."""

    device: str
    device_name: str
    python: str
    versions: dict[str, str]
    threads: int
    deterministic: bool


@dataclass(frozen=True)
class Run(Record):
    """One recipe, trained with one method from one seed.

    ``method`` is the name in the recipe, ``title`` and ``declaration`` say in short and in full what it declares.
    ``retried`` says how the batch was divided anew after out of memory; it is empty where it was not. ``resumed`` has
    the updates after which the training was interrupted, and gone on with from a checkpoint.
    """

    recipe: str
    method: str
    title: str
    declaration: str
    seed: int
    steps: int
    batch_size: int
    accumulation: int
    lr: float
    dtype: str
    parameters: Parameters
    loss: Losses
    time: Timing
    optimizers: tuple[Optimizer, ...]
    environment: Environment
    memory: Memory
    flops: Flops
    retried: str = ""
    resumed: tuple[int, ...] = ()

    def __repr__(self) -> str:
        # Short, because pytest prints it beside every failing test that has it as an argument.
        return f"<Run {self.recipe}: {self.title}, seed {self.seed}, {self.steps} steps, loss {self.loss.final:.4g}>"

    @property
    def deviations(self) -> Findings:
        """Where the training differed from its declaration, one line each; empty for a sound run."""
        from .account import deviations

        return deviations(self)
