"""What is recorded of a run, of a pair of runs, and of a prediction."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Union

from ..errors import RecipeError
from ..pair import Pair
from ..run import Memory, Parameters, ParameterTensor, Run
from .metric import Curve, Metric, Names

if TYPE_CHECKING:
    from ..predict.prediction import Prediction

    Subject = Union[Run, Pair, Prediction]

# Hexadecimal digits of a digest that people see in reviews.
DIGITS = 16


def metrics_of(subject: Subject, name: str = "") -> tuple[Metric, ...]:
    """All that is recorded of ``subject``; with ``name`` in front where a test has several of a kind. Raises
    RecipeError for anything else than a Run, a Pair or a Prediction.
    """
    if isinstance(subject, Run):
        found = _of_run(subject, subject.method)
    elif isinstance(subject, Pair):
        found = _of_pair(subject)
    elif type(subject).__name__ == "Prediction":  # without importing what predicts, which takes a second
        found = _of_prediction(subject)
    else:
        raise RecipeError(f"ft_baseline.check({type(subject).__name__}); allowed: a Run, a Pair or a Prediction")
    if "/" in name or "\n" in name:
        raise RecipeError(f"ft_baseline.check(..., name={name!r}); allowed: a name on one line, without '/'")
    before = f"{name}, " if name else ""
    return tuple(Metric(before + m.name, m.value, m.unit, m.direction, unlike=_unlike(m, subject)) for m in found)


def _unlike(metric: Metric, subject: Subject) -> str:
    """Why a metric can be held to no baseline: it is of a run that was made with another batch than declared."""
    of, _, kind = metric.name.rpartition("/")
    if kind == "settings" or kind.startswith("parameters."):
        return ""
    if isinstance(subject, Run):
        return subject.retried
    if not isinstance(subject, Pair):
        return ""
    runs = (*subject.fulls, *subject.loras)
    concerned = [run for run in runs if of in (run.method, f"{run.method}, seed {run.seed}")]
    return next((run.retried for run in concerned or runs if run.retried), "")


def _of_run(run: Run, arm: str) -> Iterator[Metric]:
    yield Metric(f"{arm}/settings", _settings(run))
    if run.loss.batches:
        yield Metric(f"{arm}/batches", run.loss.batches[:DIGITS])
    yield Metric(f"{arm}/parameters.total", int(run.parameters.total), "parameters")
    yield Metric(f"{arm}/parameters.trainable", int(run.parameters.trainable), "parameters")
    yield Metric(f"{arm}/parameters.names", _names(run.parameters))
    for phase in ("forward", "backward", "optimizer"):
        yield Metric(f"{arm}/flops.{phase}", getattr(run.flops, phase), "FLOP")
    yield from _of_memory(f"{arm}/memory", run.memory)
    yield from _curves(run, arm)
    yield Metric(f"{arm}/time.step_s", run.time.step_s, "s", "lower")
    if run.time.tokens_per_step:
        yield Metric(f"{arm}/time.tokens_per_s", run.time.tokens_per_s, "tokens/s", "higher")


def _settings(run: Run) -> str:
    # As it was declared; what a retry changes is told otherwise.
    rows, times = (2 * run.batch_size, run.accumulation // 2) if run.retried else (run.batch_size, run.accumulation)
    return f"{run.declaration}, {run.steps} steps of {rows} rows x {times}, {run.dtype}, seed {run.seed}"


def _of_memory(where: str, memory: Memory) -> Iterator[Metric]:
    for category in ("weights", "gradients", "optimizer"):
        yield Metric(f"{where}.{category}_bytes", getattr(memory, f"{category}_bytes"), "bytes")
    for category in ("activations", "peak"):
        yield Metric(f"{where}.{category}_bytes", getattr(memory, f"{category}_bytes"), "bytes", "lower")


def _curves(run: Run, arm: str) -> Iterator[Metric]:
    """The losses on evaluation data as they are; of the training losses the means between steps 1, 2, 4, 8, ..., so
    that each step counts once and none has a line of its own in a review.
    """
    train = run.loss.train
    ends = sorted({min(2**i, len(train)) for i in range(len(train).bit_length() + 1)})
    means = [sum(train[start:end]) / (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    yield Metric(f"{arm}/loss.train", Curve(tuple(ends), tuple(means), _bits(train)), "nats")
    if run.loss.eval:
        steps, values = zip(*run.loss.eval, strict=True)
        yield Metric(f"{arm}/loss.eval", Curve(steps, values, _bits(values)), "nats")


def _bits(values: Sequence[float]) -> str:
    return hashlib.blake2b(struct.pack(f"<{len(values)}d", *values), digest_size=DIGITS // 2).hexdigest()


def _names(parameters: Parameters) -> Names:
    groups = Counter(map(_group, parameters.tensors))
    lines = sorted(f"{t.name} {_kind(t)}" for t in parameters.tensors)
    digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=DIGITS // 2).hexdigest()
    return Names(dict(sorted(groups.items())), digest)


def _group(tensor: ParameterTensor) -> str:
    pattern = ".".join("*" if part.isdigit() else part for part in tensor.name.split("."))
    return f"{pattern} {_kind(tensor)}"


def _kind(tensor: ParameterTensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    kind = "trainable" if tensor.trainable else "frozen"
    surprise = {("trainable", False): ", did not move", ("frozen", True): ", moved"}.get((kind, tensor.moved), "")
    return f"{tensor.dtype} {shape} {kind}{surprise}"


def _of_pair(pair: Pair) -> Iterator[Metric]:
    """Everything of the first seed; of the others the losses; and what the two arms say of each other."""
    for runs in (pair.fulls, pair.loras):
        yield from _of_run(runs[0], runs[0].method)
        for run in runs[1:]:
            yield from _curves(run, f"{run.method}, seed {run.seed}")
    arms = f"{pair.full.method} to {pair.lora.method}"
    yield Metric(f"{arms}/memory_ratio.static", float(pair.memory_ratio("static")), "", "same")
    yield Metric(f"{arms}/memory_ratio.peak", float(pair.memory_ratio("peak")), "", "same")
    yield Metric(f"{arms}/flops_ratio", float(pair.flops_ratio), "", "same")
    yield Metric(f"{arms}/time_ratio", float(pair.time_ratio), "", "same")
    order = pair.loss_order()
    yield Metric(f"{arms}/loss_gap", float(order.gap), "nats", "same")
    yield Metric(f"{arms}/loss_order", order.verdict)


def _of_prediction(prediction: Prediction) -> Iterator[Metric]:
    where = f"{prediction.method} on {prediction.gpu.name}/predicted"
    parts: list[tuple[str, Callable[[Prediction], int]]] = [
        ("peak_bytes", lambda p: p.peak_bytes),
        ("allocated_bytes", lambda p: p.allocated_bytes),
        ("reserved_bytes", lambda p: p.reserved_bytes),
        ("weights_bytes", lambda p: p.memory.weights_bytes),
        ("gradients_bytes", lambda p: p.memory.gradients_bytes),
        ("optimizer_bytes", lambda p: p.memory.optimizer_bytes),
        ("activations_bytes", lambda p: p.memory.activations_bytes),
    ]
    for name, part in parts:
        yield Metric(f"{where}.{name}", part(prediction), "bytes")
    for phase in ("forward", "backward", "optimizer"):
        yield Metric(f"{where}.flops_{phase}", getattr(prediction.flops, phase), "FLOP")
