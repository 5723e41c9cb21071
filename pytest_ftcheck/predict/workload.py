"""What is to be predicted, where it is declared by arguments and not by a recipe: a model, a batch, an optimizer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError
from ..methods import Full, LoRA, Method, Peft
from ..recipe import DTYPES, Job, Recipe
from ..training import adapt, to_device
from .architecture import batch_for, model_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Name -> (class in torch.optim, arguments): an optimizer, and the way in which it takes many parameters at once.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw-foreach": ("AdamW", {"foreach": True}),
    "adamw-fused": ("AdamW", {"fused": True}),
    "adamw-loop": ("AdamW", {"foreach": False}),
    "sgd-foreach": ("SGD", {"foreach": True}),
    "sgd-fused": ("SGD", {"fused": True}),
    "sgd-momentum-foreach": ("SGD", {"foreach": True, "momentum": 0.9}),
    "sgd-momentum-fused": ("SGD", {"fused": True, "momentum": 0.9}),
}
ATTENTION = ("sdpa", "eager")
FLASH = " (sdpa takes the flash kernel where the GPU has one; those of flash-attn cannot be predicted)"
AUTOCAST = (None, "bfloat16", "float16")
SWITCHES = ("gradient_checkpointing", "keep_output", "padded", "autocast_adapter_dtype")


@dataclass(frozen=True)
class Workload:
    """A training step, in plain PyTorch, that many repositories would recognise as theirs.

    ``model`` is a ``PretrainedConfig``, a function that returns a model (without weights, if it builds it on the
    ``meta`` device), or the path of a folder or file with a ``config.json``. ``dtype`` is that of its weights; a
    function's model is cast to it unless it is float32, and then left as it is.

    A batch is ``batch_size`` rows of ``sequence_length`` tokens with labels, full, or ``padded`` and with an attention
    mask. ``batch(batch_size, sequence_length)`` returns another one, a dictionary of CPU tensors, for a model that is
    no language model. ``autocast_adapter_dtype`` is PEFT's: adapters of a model in half precision are in float32.
    ``keep_output``: the loop still holds the model's output, and so the logits, while it goes backward and updates.
    """

    model: Any
    method: Method = field(default_factory=Full)
    batch_size: int = 1
    sequence_length: int = 1024
    dtype: str = "float32"
    optimizer: str = "adamw-foreach"
    gradient_checkpointing: bool = False
    accumulation: int = 1
    attention: str = "sdpa"
    autocast: str | None = None
    keep_output: bool = False
    padded: bool = False
    batch: Callable[[int, int], dict[str, Tensor]] | None = None
    autocast_adapter_dtype: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "sequence_length", "accumulation"):
            value = getattr(self, name)
            least = 2 if self.padded and name == "sequence_length" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise RecipeError(f"{name} is {value!r}; allowed: a whole number of at least {least}")
        if not isinstance(self.method, (Full, LoRA, Peft)):
            raise RecipeError(f"method is {self.method!r}; allowed: Full(...), LoRA(...), Peft(...)")
        if self.batch is not None and not callable(self.batch):
            raise RecipeError(f"batch is {self.batch!r}; allowed: a function (batch_size, sequence_length), or None")
        self._check_choices()

    def _check_choices(self) -> None:
        allowed: dict[str, tuple[Any, ...]] = {
            "dtype": DTYPES,
            "optimizer": tuple(OPTIMIZERS),
            "attention": ATTENTION,
            "autocast": AUTOCAST,
            **dict.fromkeys(SWITCHES, (False, True)),
        }
        for name, values in allowed.items():
            value = getattr(self, name)
            if not any(value is one or (isinstance(one, str) and value == one) for one in values):
                hint = FLASH if str(value).startswith("flash") else ""
                raise RecipeError(f"{name} is {value!r}; allowed: {', '.join(map(str, values))}{hint}")

    @property
    def method_name(self) -> str:
        """``"full"`` or ``"lora"``: what the method is called in the recipe that is carried out."""
        return "full" if isinstance(self.method, Full) else "lora"

    def recipe(self) -> Recipe:
        """The recipe that a dry run carries out."""
        full, lora = (self.method, None) if isinstance(self.method, Full) else (None, self.method)
        return Recipe(
            model=self._model,
            train=self._train,
            train_data=[{}],
            full=full,
            lora=lora,
            adapt=adapt if self.autocast_adapter_dtype else _adapted_in_the_models_dtype,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            dtype=self.dtype,
            name=self._name(),
        )

    def _name(self) -> str:
        if isinstance(self.model, (str, os.PathLike)):
            path = Path(self.model).absolute()
            return path.parent.name if path.suffix == ".json" else path.name
        return str(getattr(self.model, "model_type", getattr(self.model, "__name__", type(self.model).__name__)))

    def _model(self) -> nn.Module:
        import torch

        with torch.device("meta"):
            if callable(self.model) and not hasattr(self.model, "model_type"):
                model: nn.Module = self.model()
                return model
            return model_of(self.model, self.attention, self.dtype)

    def _train(self, job: Job) -> None:
        """The loop: every micro-batch its own tensors, the output let go of unless it is kept."""
        import torch

        model = job.model
        if self.gradient_checkpointing:
            _checkpoint(model)
        config: Any = getattr(model, "config", None)
        if config is not None:
            config.use_cache = False
        model.train()
        kind, arguments = OPTIMIZERS[self.optimizer]
        make: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, kind)
        optimizer = make([p for p in model.parameters() if p.requires_grad], lr=job.lr, **arguments)
        for _ in range(job.steps):
            for _ in range(job.accumulation):
                # Held until the next one is there, as by any loop over a data loader.
                batch = self._batch(model, job.device)
                with self._autocast(job.device):
                    output = model(**batch)
                    loss = _loss(output) / job.accumulation if job.accumulation > 1 else _loss(output)
                if not self.keep_output:
                    del output
                loss.backward()  # type: ignore[no-untyped-call]
                del loss
            optimizer.step()
            optimizer.zero_grad()

    def _batch(self, model: nn.Module, device: str) -> dict[str, Tensor]:
        if self.batch is None:
            batch = batch_for(model, self.batch_size, self.sequence_length, self.padded)
        else:
            batch = self.batch(self.batch_size, self.sequence_length)
            if not isinstance(batch, dict):
                raise RecipeError(f"batch() returned {type(batch).__name__}; allowed: a dictionary of CPU tensors")
        # Labels that are the inputs themselves stay so.
        moved = {id(tensor): to_device(tensor, device) for tensor in batch.values()}
        return {name: moved[id(tensor)] for name, tensor in batch.items()}

    @contextlib.contextmanager
    def _autocast(self, device: str) -> Iterator[None]:
        import torch

        if self.autocast is None:
            yield
        else:
            with torch.autocast(device.split(":")[0], dtype=getattr(torch, self.autocast)):
                yield


def _loss(output: Any) -> Tensor:
    """The loss in what a model returned: named so, or first, or all there is."""
    loss: Any = output.get("loss") if isinstance(output, dict) else output
    loss = loss[0] if isinstance(loss, (tuple, list)) else loss
    if getattr(loss, "shape", None) != ():
        raise RecipeError("the model returned no scalar loss; allowed: a model that does for its batch (see batch=)")
    return loss  # type: ignore[no-any-return]


def _adapted_in_the_models_dtype(model: nn.Module, method: Any) -> nn.Module:
    if isinstance(method, Full):
        return adapt(model, method)
    from peft import get_peft_model

    return get_peft_model(model, method.to_peft(), autocast_adapter_dtype=False)  # type: ignore[no-any-return]


def _checkpoint(model: nn.Module) -> None:
    """Recompute each block in the backward pass; under an adapter its frozen input must then carry a gradient."""
    enable: Any = getattr(model, "gradient_checkpointing_enable", None)
    if enable is None:
        raise RecipeError(f"gradient_checkpointing is True; allowed for {type(model).__name__}: False")
    enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if not all(parameter.requires_grad for parameter in model.parameters()):
        require: Any = model.enable_input_require_grads
        require()
