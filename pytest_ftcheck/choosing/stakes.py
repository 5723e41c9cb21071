"""What full fine-tuning costs more, and what a lower loss is worth: the user's own numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..codec import Record
from ..errors import ComparisonError


@dataclass(frozen=True)
class Stakes(Record):
    """Money of one kind, for the same span of time everywhere (say, dollars a month).

    ``gpu_hour`` is the price of one; ``full_hours`` and ``lora_hours`` are what one training takes, and ``trainings``
    how many there are in the time. ``value_per_point`` is what a point of quality is worth in that time (accepted
    completions, accuracy, whatever is counted), and ``points_per_nat`` how many points a nat of loss is: of your own
    experience, there is no number that holds everywhere. Raises ComparisonError for numbers that make no sense.
    """

    gpu_hour: float
    full_hours: float
    lora_hours: float
    value_per_point: float
    points_per_nat: float
    trainings: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ComparisonError(f"Stakes.{field.name} is {value!r}; allowed: a number of at least 0")
        if not self.value_per_nat:
            raise ComparisonError("Stakes.value_per_point * points_per_nat is 0; allowed: what a lower loss is worth")

    @property
    def value_per_nat(self) -> float:
        """What a nat less of loss is worth."""
        return self.value_per_point * self.points_per_nat

    @property
    def extra_cost(self) -> float:
        """What full fine-tuning costs more than the adapter; negative where it costs less."""
        return (self.full_hours - self.lora_hours) * self.gpu_hour * self.trainings

    @property
    def break_even(self) -> float:
        """The gap (nats, LoRA minus full) from which on full fine-tuning pays."""
        return self.extra_cost / self.value_per_nat
