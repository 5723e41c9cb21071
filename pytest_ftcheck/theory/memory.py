"""What training holds whatever the batch is: weights, gradients and optimizer state, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from ..errors import RecipeError

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}

# Tensors of the parameter's own size and dtype that the optimizer keeps for each trainable parameter. Adam and AdamW:
# the first and second moment (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2).
STATES = {"adamw": 2, "adam": 2, "sgd": 0, "sgd-momentum": 1}
# torch's Adam counts its updates in one float32 scalar for every parameter tensor.
STEP_BYTES = {"adamw": 4, "adam": 4}


@dataclass(frozen=True)
class StaticBytes(Record):
    """Bytes held between two updates while the gradients are there."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer


def static_bytes(
    *,
    trainable: int,
    frozen: int,
    dtype: str = "float32",
    optimizer: str = "adamw",
    trainable_tensors: int = 0,
    adapter_dtype: str | None = None,
    buffers_bytes: int = 0,
) -> StaticBytes:
    """Static memory of ``trainable`` and ``frozen`` parameters, in bytes.

    With w the bytes of an element: weights = w · (trainable + frozen) + buffers, gradients = w · trainable, optimizer =
    w · trainable · (2 for AdamW, 0 for SGD, 1 with momentum) + 4 per trainable tensor for AdamW's step count. So full
    fine-tuning with AdamW holds 16 bytes a parameter in float32 and 8 in bfloat16, a frozen parameter 4 or 2.

    ``adapter_dtype`` is the trainable parameters' own dtype where it is another (PEFT keeps adapters in float32 on a
    bfloat16 model). Raises RecipeError for a dtype or optimizer that is not known.
    """
    if optimizer not in STATES:
        raise RecipeError(f"optimizer is {optimizer!r}; allowed: {', '.join(STATES)}")
    size, trained_size = _size(dtype), _size(adapter_dtype or dtype)
    return StaticBytes(
        weights=frozen * size + trainable * trained_size + buffers_bytes,
        gradients=trainable * trained_size,
        optimizer=STATES[optimizer] * trainable * trained_size + STEP_BYTES.get(optimizer, 0) * trainable_tensors,
    )


def static_ratio(full: StaticBytes, lora: StaticBytes) -> float:
    """How many times the static memory of LoRA full fine-tuning needs."""
    return full.total / lora.total


def _size(dtype: str) -> int:
    if dtype not in BYTES:
        raise RecipeError(f"dtype is {dtype!r}; allowed: {', '.join(BYTES)}")
    return BYTES[dtype]
