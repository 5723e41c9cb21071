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

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Name -> (class in torch.optim, arguments): an optimizer, and the way in which it takes many parameters at once.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw-foreach": ("AdamW", {"foreach": True}),
    "adamw-fused": ("AdamW", {"fused": True}),
    "adamw-loop": ("AdamW", {"foreach": False}),
    "sgd-foreach": ("SGD", {"foreach": True}),
    "sgd-momentum-foreach": ("SGD", {"foreach": True, "momentum": 0.9}),
}
ATTENTION = ("sdpa", "eager")
AUTOCAST = (None, "bfloat16", "float16")


@dataclass(frozen=True)
class Workload:
    """A training step, in plain PyTorch, that many repositories would recognise as theirs.

    ``model`` is a ``PretrainedConfig``, a function that returns a model (without weights, if it builds it on the
    ``meta`` device), or the path of a folder or file with a ``config.json``. ``keep_output``: the loop still holds the
    model's output, and so the logits, while it goes backward and updates.
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

    def __post_init__(self) -> None:
        for name in ("batch_size", "sequence_length", "accumulation"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RecipeError(f"{name} is {value!r}; allowed: a whole number of at least 1")
        if not isinstance(self.method, (Full, LoRA, Peft)):
            raise RecipeError(f"method is {self.method!r}; allowed: Full(...), LoRA(...), Peft(...)")
        allowed = {"dtype": DTYPES, "optimizer": tuple(OPTIMIZERS), "attention": ATTENTION, "autocast": AUTOCAST}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise RecipeError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(map(str, values))}")

    @property
    def method_name(self) -> str:
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
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            dtype=self.dtype,
            name=self._name(),
        )

    def _name(self) -> str:
        if isinstance(self.model, (str, os.PathLike)):
            path = Path(self.model)
            return path.parent.name if path.suffix == ".json" else path.name
        return str(getattr(self.model, "model_type", getattr(self.model, "__name__", type(self.model).__name__)))

    def _model(self) -> nn.Module:
        import torch

        with torch.device("meta"):
            if callable(self.model) and not hasattr(self.model, "model_type"):
                model: nn.Module = self.model()
                return model
            return model_of(self.model, self.attention)

    def _train(self, job: Job) -> None:
        """Two updates; every micro-batch its own tensors, the output let go of unless it is kept."""
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
                batch = self._batch(job.device)
                with self._autocast(job.device):
                    output = model(**batch)
                    loss = output["loss"] / job.accumulation if job.accumulation > 1 else output["loss"]
                if not self.keep_output:
                    del output
                loss.backward()
                del loss
            optimizer.step()
            optimizer.zero_grad()

    def _batch(self, device: str) -> dict[str, Tensor]:
        import torch

        ids = torch.ones(self.batch_size, self.sequence_length, dtype=torch.long).to(device)
        return {"input_ids": ids, "labels": ids}

    @contextlib.contextmanager
    def _autocast(self, device: str) -> Iterator[None]:
        import torch

        if self.autocast is None:
            yield
        else:
            with torch.autocast(device.split(":")[0], dtype=getattr(torch, self.autocast)):
                yield


def model_of(source: Any, attention: str) -> nn.Module:
    """The model of a configuration, or of the ``config.json`` at a path, on torch's current default device."""
    import transformers

    config = source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not (path.is_file() or (path / "config.json").is_file()):
            raise RecipeError(f"model is {str(source)!r}; allowed: a folder with a config.json, or such a file")
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    if not isinstance(config, transformers.PretrainedConfig):
        raise RecipeError(f"model is {config!r}; allowed: a PretrainedConfig, a function, or a path")
    kind = getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0], None)
    make = kind._from_config if kind is not None and hasattr(kind, "_from_config") else None
    make = make or transformers.AutoModelForCausalLM.from_config
    model: nn.Module = make(config, attn_implementation=attention)
    return model


def _checkpoint(model: nn.Module) -> None:
    """Recompute each block in the backward pass; under an adapter its frozen input must then carry a gradient."""
    enable: Any = model.gradient_checkpointing_enable
    enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if not all(parameter.requires_grad for parameter in model.parameters()):
        require: Any = model.enable_input_require_grads
        require()
