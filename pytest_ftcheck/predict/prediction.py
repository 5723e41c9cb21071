"""What a prediction says."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..codec import Record
from ..run import Breakdown, Flops, Memory
from .gpu import Gpu

# The moment between the forward and the backward pass.
SAVED = "saved"


@dataclass(frozen=True)
class Held(Record):
    """Live storages of one kind: ``count`` of them, ``bytes`` in all.

    ``module`` is the module that they were made for, or that owns them (weights, gradients, optimizer state), with
    ``*`` for layer numbers; ``op`` the operation that made them, ``"outside"`` for what was there before.
    """

    category: str
    module: str
    op: str
    dtype: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Moment(Record):
    """The highest point of one phase (forward, backward, optimizer), or the moment between the passes (``"saved"``):
    how many bytes, of what, held by whom.
    """

    phase: str
    bytes: int
    breakdown: Breakdown
    held: tuple[Held, ...]


@dataclass(frozen=True)
class Prediction(Record):
    """One update after the first, on one GPU.

    ``peak_bytes`` is the peak of live tensors and of what kernels take, each in multiples of 512 bytes, in
    ``peak_phase``. A model of the caching allocator adds the workspaces that cuBLAS keeps and what is lost in blocks:
    ``allocated_bytes`` is ``torch.cuda.max_memory_allocated()``, ``active_bytes`` ``active_bytes.all.peak`` of
    ``torch.cuda.memory_stats()`` (the same, on one stream), ``reserved_bytes`` ``max_memory_reserved()``, and
    ``device_bytes`` adds the CUDA context.

    ``memory`` has each category's own maximum and the division at the peak, ``moments`` the same for each phase, with
    what is held. ``activations_per_token`` is in bytes. ``step_s`` is the least that an update can take (a roofline).
    ``backend`` is what it ran on: ``"fakegpu"``, or ``"cpu"`` (the CPU's kernels) where this torch has no other.
    """

    recipe: str
    method: str
    declaration: str
    gpu: Gpu
    backend: str
    dtype: str
    batch_size: int
    accumulation: int
    peak_bytes: int
    active_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    peak_phase: str
    memory: Memory
    moments: tuple[Moment, ...]
    flops: Flops
    tokens: int
    step_s: float
    operations: int
    notes: tuple[str, ...]
    versions: dict[str, str]
    # How long the prediction itself took; two equal predictions differ in it.
    took_s: float = field(compare=False, default=0.0)

    @property
    def device_bytes(self) -> int:
        """What a monitor of the GPU shows: reserved, and CUDA's own."""
        return self.reserved_bytes + self.gpu.context_bytes

    @property
    def fits(self) -> bool:
        """Whether the GPU's memory is enough."""
        return self.device_bytes <= self.gpu.memory_bytes

    @property
    def activations_per_token(self) -> float:
        """Bytes that the forward pass leaves for the backward pass, for each token of a micro-batch; NaN for a model
        without tokens.
        """
        return self.moment(SAVED).breakdown.activations / self.tokens if self.tokens else float("nan")

    def moment(self, phase: str) -> Moment:
        """The highest point of ``phase``, or the moment called so. Raises KeyError where nothing happened in it."""
        for moment in self.moments:
            if moment.phase == phase:
                return moment
        raise KeyError(phase)
