"""The two ways to ask for a prediction."""

from __future__ import annotations

from typing import Any

from ..methods import Method
from ..recipe import Recipe
from .gpu import Gpu, gpu_called
from .journal import Journal
from .prediction import Prediction
from .process import Limits, in_own_process
from .workload import Workload


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
    gpu: str | Gpu = "h100",
    time_limit_s: float = Limits.time_s,
    memory_limit_bytes: int = Limits.memory_bytes,
) -> Prediction:
    """The memory and the floating-point operations of one update of a training in plain PyTorch.

    The arguments are those of ``Workload``. ``gpu`` is the name of a profile or a ``Gpu``. Raises RecipeError for an
    argument that cannot work, PredictionError for what cannot be predicted or exceeds a limit.
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
    predicts the peak of live bytes on a CPU. Raises as ``predict_training`` does.
    """
    recipe.method(method)
    profile = gpu_called(gpu)

    def task(journal: Journal) -> str:
        from .dry_run import dry_run

        return dry_run(recipe, method, profile, journal, device).to_json()

    return Prediction.from_json(in_own_process(task, Limits(time_limit_s, memory_limit_bytes)))
