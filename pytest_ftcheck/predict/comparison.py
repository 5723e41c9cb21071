"""Will it fit? One workload, in full and with an adapter, with and without checkpointing, on one GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..codec import Record
from ..errors import FtcheckError
from ..methods import Full, Method
from .fit import LargestBatch, largest_batch, weights_exceed
from .prediction import Prediction
from .predictions import Predictions
from .switches import Switch, switches
from .workload import Workload

T = TypeVar("T")


@dataclass(frozen=True)
class Arm(Record):
    """One way to train. ``asked``: it was asked for. ``largest_batch`` is None where it was not looked for."""

    title: str
    asked: bool
    prediction: Prediction
    largest_batch: LargestBatch | None


@dataclass(frozen=True)
class Settings(Record):
    """What all arms share and predictions do not say of themselves; the names are those of ``Workload``."""

    sequence_length: int
    optimizer: str
    attention: str
    autocast: str | None
    autocast_adapter_dtype: bool
    padded: bool


@dataclass(frozen=True)
class Comparison(Record):
    """The ways to train a model, and what could be switched in the one that was asked for.

    ``problems`` has a line for each thing that could not be predicted, or was not worth it. ``predictions`` were made,
    in ``took_s`` seconds.
    """

    settings: Settings
    arms: tuple[Arm, ...]
    switches: tuple[Switch, ...]
    problems: tuple[str, ...]
    predictions: int
    took_s: float = field(compare=False, default=0.0)

    @property
    def asked(self) -> Arm:
        """The arm that was asked for."""
        return next(arm for arm in self.arms if arm.asked)


def compare(
    workload: Workload,
    predictions: Predictions,
    methods: Sequence[Method] = (),
    *,
    batch_search: bool = True,
    switch_search: bool = True,
) -> Comparison:
    """Compare ``workload`` with the same under each of ``methods``, with and without checkpointing.

    What was asked for is predicted first; where its weights alone exceed the memory nothing else is. Raises what that
    prediction raises; what another one raises becomes one of the problems.
    """
    asked = predictions.of(workload)
    problems: list[str] = []
    searched: tuple[Switch, ...] = ()
    ways = list(_ways(workload, methods))
    if weights_exceed(asked):
        problems.append("nothing else was predicted: the weights alone exceed the GPU's memory")
        ways = [workload]
    arms = [arm for way in ways if (arm := _arm(way, way == workload, predictions, batch_search, problems))]
    if switch_search and not weights_exceed(asked):
        searched, unpredictable = switches(workload, predictions)
        problems += unpredictable
    return Comparison(
        settings=_settings(workload),
        arms=tuple(arms),
        switches=searched,
        problems=tuple(problems),
        predictions=predictions.count,
        took_s=predictions.took_s,
    )


def title(workload: Workload) -> str:
    """``LoRA r=16 ckpt``: the method, and whether it checkpoints."""
    return f"{workload.method.title}{' ckpt' if workload.gradient_checkpointing else ''}"


def _ways(workload: Workload, methods: Sequence[Method]) -> Iterator[Workload]:
    """Full fine-tuning first, each method without checkpointing and then with."""
    among = [*methods] if workload.method in methods else [workload.method, *methods]
    for method in sorted(among, key=lambda method: not isinstance(method, Full)):
        for checkpointing in (False, True):
            yield dataclasses.replace(workload, method=method, gradient_checkpointing=checkpointing)


def _arm(way: Workload, asked: bool, predictions: Predictions, search: bool, problems: list[str]) -> Arm | None:
    name = title(way)
    prediction = _attempted(name, lambda: predictions.of(way), problems)
    if prediction is None:
        return None
    largest = None
    if search:
        largest = _attempted(f"{name}, other batches", lambda: largest_batch(way, predictions), problems)
    return Arm(name, asked, prediction, largest)


def _attempted(what: str, attempt: Callable[[], T], problems: list[str]) -> T | None:
    """What ``attempt`` returns; None, and a line among the problems, where it raises an error of this package."""
    try:
        return attempt()
    except FtcheckError as error:
        problems.append(f"{what}: {str(error).splitlines()[0]}")
        return None


def _settings(workload: Workload) -> Settings:
    return Settings(**{one.name: getattr(workload, one.name) for one in dataclasses.fields(Settings)})
