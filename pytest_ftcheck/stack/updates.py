"""Updates of a trainer, watched: what it was fed, which gradients it stepped with, at which rate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..methods import Full
from ..observers.events import Events
from ..observers.trace import Trace
from ..recipe import Job
from .data import ROWS
from .loops import hf_trainer
from .losses import reference_loss
from .models import ARCHITECTURES, build, moved

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..observers.update import Update


# The name of a Llama with a trained LoRA adapter, among the names of architectures.
ADAPTED = "llama-lora"


def job(model: nn.Module, rows: Sequence[Any], folder: str, **changes: Any) -> Job:
    """A job for the audit's trainers: a batch of 4, one update, learning rate 0 (so that updates can be compared)."""
    settings: dict[str, Any] = dict(
        model=model, method=Full(), train_data=rows, eval_data=None, steps=1, seed=0, batch_size=4, accumulation=1,
        lr=0.0, device="cpu", dtype="float32", output_dir=Path(folder), recipe=None,
    )  # fmt: skip
    return Job(**{**settings, **changes})


def traced(trainer: Any, **how: Any) -> Trace:
    """Let ``trainer`` train, and return what was seen."""
    trace = Trace()
    with Events([trace]).listening() as events:
        events.attach(trainer.model)
        trainer.train(**how)
    return trace


def run(make: Callable[[Job], Any], model: nn.Module, rows: Sequence[Any], **changes: Any) -> Trace:
    """Train ``model`` on ``rows`` with the trainer that ``make(job)`` returns."""
    with tempfile.TemporaryDirectory() as folder:
        return traced(make(job(model, rows, folder, **changes)))


def flat(gradients: Mapping[str, Tensor]) -> Tensor:
    """All gradients as one vector, in the order of their names."""
    import torch

    return torch.cat([gradients[name].float().flatten() for name in sorted(gradients)])


def relative(found: Tensor, wanted: Tensor) -> float:
    """The distance of two vectors by the norm of the second."""
    return float((found - wanted).norm() / wanted.norm()) if found.shape == wanted.shape else float("inf")


def model_of(name: str) -> Any:
    """The model without dropout; the adapted Llama for its name."""
    from ..evidence.dropout import without_dropout

    if name == ADAPTED:
        from .adapters import trained

        model = trained("lora")
    else:
        model = moved(build(name))
    without_dropout(model)
    return model.train()


def rows_of_model(name: str, count: int) -> list[Any]:
    return ROWS[ARCHITECTURES["llama" if name == ADAPTED else name].task](count, 4)


def window_gradient(model: Any, name: str, update: Update) -> tuple[Tensor, float]:
    """Gradient and loss of the mean over all that an update's micro-batches supervise, computed in one piece."""
    architecture = "llama" if name == ADAPTED else name
    model.zero_grad()
    total, count = None, 0
    for forward in update.forwards:
        inputs = {
            key: value for key, value in forward.inputs.items() if key in ("input_ids", "attention_mask", "labels")
        }
        labels = inputs["labels"]
        part = reference_loss(architecture, model(**inputs).logits, labels, total=True)
        taught = labels[:, 1:] if ARCHITECTURES[architecture].task == "causal" else labels
        total, count = (part if total is None else total + part), count + int((taught != -100).sum())
    assert total is not None
    (total / count).backward()  # type: ignore[no-untyped-call]
    return flat({key: p.grad for key, p in model.named_parameters() if p.grad is not None}), float(total) / count


def logged(name: str, rows: int, **changes: Any) -> tuple[Trace, list[float]]:
    """A short training of the Trainer, and the losses that it logged."""
    arguments = {key: changes.pop(key) for key in ("max_grad_norm", "label_smoothing_factor", "bf16") if key in changes}
    with tempfile.TemporaryDirectory() as folder:
        trainer = hf_trainer(job(model_of(name), rows_of_model(name, rows), folder, **changes), **arguments)
        trace = traced(trainer)
        logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return trace, logged
