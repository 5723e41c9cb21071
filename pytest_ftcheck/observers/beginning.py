"""What was seen of a training before it was interrupted, so that what is seen of the rest can be added to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..codec import Record
from ..run import Optimizer


@dataclass(frozen=True)
class Beginning(Record):
    """The first ``updates`` updates. Losses, supervised tokens, evaluations, times and optimizers are as in a ``Run``;
    ``checksums`` and ``tokens`` are of all inputs. ``before`` has the digests of the parameters before the first update
    and ``trainable`` their flags; ``optimized`` and ``with_gradient`` name those for which that was seen. ``resumed``
    are the updates after which this training has been gone on with already.
    """

    updates: int = 0
    losses: tuple[float, ...] = ()
    supervised_tokens: tuple[int | None, ...] = ()
    evaluations: tuple[tuple[int, float], ...] = ()
    source: tuple[tuple[int, float], ...] = ()
    samples_s: tuple[float, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    checksums: tuple[int, ...] = ()
    tokens: int = 0
    before: dict[str, str] = field(default_factory=dict)
    trainable: dict[str, bool] = field(default_factory=dict)
    optimized: tuple[str, ...] = ()
    with_gradient: tuple[str, ...] = ()
    resumed: tuple[int, ...] = ()


NOTHING = Beginning()
