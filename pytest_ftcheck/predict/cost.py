"""What of a prediction is committed beside the code, and compared with a later one."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from ..run import Flops, Memory
from .prediction import SAVED, Moment, Prediction

# The moments of a prediction, in their order.
MOMENTS = ("forward", SAVED, "backward", "optimizer")


@dataclass(frozen=True)
class Cost(Record):
    """The cost of one update: what a ``Prediction`` says but for what differs from machine to machine.

    ``gpu`` is the name of a profile. ``declaration``, ``dtype``, ``batch_size``, ``accumulation``, ``tokens`` and
    ``versions`` are no costs; they are there to explain why a cost has changed.
    """

    declaration: str
    gpu: str
    backend: str
    dtype: str
    batch_size: int
    accumulation: int
    tokens: int
    allocated_bytes: int
    reserved_bytes: int
    memory: Memory
    moments: tuple[Moment, ...]
    flops: Flops
    versions: dict[str, str]

    @classmethod
    def of(cls, predicted: Prediction | Cost) -> Cost:
        """The cost that ``predicted`` says."""
        if isinstance(predicted, Cost):
            return predicted
        return cls(
            declaration=predicted.declaration,
            gpu=predicted.gpu.name,
            backend=predicted.backend,
            dtype=predicted.dtype,
            batch_size=predicted.batch_size,
            accumulation=predicted.accumulation,
            tokens=predicted.tokens,
            allocated_bytes=predicted.allocated_bytes,
            reserved_bytes=predicted.reserved_bytes,
            memory=predicted.memory,
            moments=predicted.moments,
            flops=predicted.flops,
            versions=predicted.versions,
        )

    def equals(self, other: Cost) -> bool:
        """Whether both cost the same, to the byte and to the floating-point operation."""
        return self._numbers == other._numbers

    @property
    def _numbers(self) -> tuple[object, ...]:
        return self.allocated_bytes, self.reserved_bytes, self.memory, self.moments, self.flops
