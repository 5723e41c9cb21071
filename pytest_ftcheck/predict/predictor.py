"""The two ways to ask for a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError
from ..methods import Method
from ..recipe import Recipe
from .gpu import Gpu, gpu_called
from .limits import Limits
from .prediction import Prediction
from .process import in_own_process
from .request import Request
from .workload import Workload

if TYPE_CHECKING:
    from torch import Tensor

DEVICES = (None, "cpu")


def predict_training(
    *,
    model: Any,
    method: Method,
    batch_size: int = 1,
    sequence_length: int = 1024,
    dtype: str = "float32",
    optimizer: str = "adamw-foreach",
    gradient_checkpointing: bool = False,
    accumulation: int = 1,
    attention: str = "sdpa",
    autocast: str | None = None,
    keep_output: bool = False,
    padded: bool = False,
    batch: Callable[[int, int], dict[str, Tensor]] | None = None,
    autocast_adapter_dtype: bool = True,
    gpu: str | Gpu = "h100",
    time_limit_s: float = Limits.time_s,
    memory_limit_bytes: int = Limits.memory_bytes,
) -> Prediction:
    """The memory and the floating-point operations of one update of a training in plain PyTorch.

    The arguments are those of ``Workload``. ``gpu`` is the name of a profile or a ``Gpu``. The prediction is made in a
    process of its own, which may take ``time_limit_s`` seconds, and ``memory_limit_bytes`` of the host's address space
    beyond what it begins with. Raises RecipeError for an argument that cannot work, PredictionError for what cannot be
    predicted, exceeds a limit, or ends that process.
    """
    workload = Workload(
        model=model,
        method=method,
        batch_size=batch_size,
        sequence_length=sequence_length,
        dtype=dtype,
        optimizer=optimizer,
        gradient_checkpointing=gradient_checkpointing,
        accumulation=accumulation,
        attention=attention,
        autocast=autocast,
        keep_output=keep_output,
        padded=padded,
        batch=batch,
        autocast_adapter_dtype=autocast_adapter_dtype,
    )
    return predict_recipe(
        workload.recipe(),
        workload.method_name,
        gpu=gpu,
        time_limit_s=time_limit_s,
        memory_limit_bytes=memory_limit_bytes,
    )


def predict_recipe(
    recipe: Recipe,
    method: str = "full",
    *,
    gpu: str | Gpu = "h100",
    device: str | None = None,
    time_limit_s: float = Limits.time_s,
    memory_limit_bytes: int = Limits.memory_bytes,
) -> Prediction:
    """The memory and the floating-point operations of one update of ``recipe``: its own model, adapter and loop.

    The model is built as the recipe builds it, on the CPU, and then replaced by one without contents. ``device="cpu"``
    predicts the peak of live bytes on a CPU. Limits and errors are those of ``predict_training``; besides,
    TrainingError where the recipe's own code fails.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe is {recipe!r}; allowed: a Recipe")
    recipe.method(method)
    if device not in DEVICES:
        raise RecipeError(f"device is {device!r}; allowed: {', '.join(map(repr, DEVICES))}")
    request = Request(recipe, method, gpu_called(gpu), device)
    return Prediction.from_json(in_own_process(request, Limits(time_limit_s, memory_limit_bytes)))
