"""Planted-rank tasks: a tiny GPT-2 and a teacher that differs from it by a change of known rank.

The teacher is the base model with a rank-k change added to every projection, and the loss is the exact KL divergence to
the teacher's next-token distribution. So the floor is known (0), and the rank that an adapter needs is a dial: with
k = 2 ("general") a LoRA of rank 8 reaches the floor, with k = 32 ("narrow") it cannot, and rank 32 can. No download, no
tokenizer, no pretraining, a few milliseconds a step.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..methods import Full, LoRA
from ..recipe import Recipe
from .models import tiny_gpt2

if TYPE_CHECKING:
    from torch import Tensor, nn

VOCABULARY, CONTEXT, WIDTH = 64, 8, 64
TRAIN_ROWS, EVAL_ROWS = 4096, 256
TARGETS = ("c_attn", "c_proj", "c_fc")


@dataclass(frozen=True)
class PlantedTask:
    """Learn a teacher at a rank-``rank`` distance; ``size`` is the change's Frobenius norm relative to the weight's."""

    rank: int
    size: float

    def model(self) -> nn.Module:
        """The base model; the same weights whatever the seed of the run."""
        return base_model()

    def train_data(self) -> Rows:
        return teacher_rows(self, TRAIN_ROWS, seed=7)

    def eval_data(self) -> Rows:
        return teacher_rows(self, EVAL_ROWS, seed=9)


def base_model() -> nn.Module:
    """A GPT-2 of 71,680 parameters. Its weights are large (standard deviation 0.15), so that the attention patterns,
    and with them the task, depend on every projection.
    """
    return tiny_gpt2(VOCABULARY, CONTEXT, WIDTH, inner=2 * WIDTH, spread=0.15)


def plant(model: nn.Module, rank: int, size: float) -> nn.Module:
    """Add a random change of rank ``rank`` to every projection, with ``rank`` equal singular values."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not (name.endswith(".weight") and any(f".{target}." in name for target in TARGETS)):
                continue
            left, _ = torch.linalg.qr(torch.randn(weight.shape[0], rank, generator=generator))
            right, _ = torch.linalg.qr(torch.randn(weight.shape[1], rank, generator=generator))
            weight.add_(size * weight.norm() / math.sqrt(rank) * left @ right.T)
    return model


class Rows:
    """Token rows with the teacher's log-probabilities: ``input_ids`` [8], ``teacher`` [8, 64]."""

    def __init__(self, tokens: Tensor, teacher: Tensor) -> None:
        self.tokens, self.teacher = tokens, teacher

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "teacher": self.teacher[index]}


@functools.lru_cache(maxsize=8)
def teacher_rows(task: PlantedTask, count: int, seed: int) -> Rows:
    """``count`` rows of uniformly random tokens, labelled by the teacher once for all runs."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCABULARY, (count, CONTEXT), generator=generator)
    teacher = plant(base_model(), task.rank, task.size)
    with torch.no_grad():
        return Rows(tokens, teacher(input_ids=tokens).logits.log_softmax(-1))


def divergence(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """KL(teacher ‖ model) in nats, averaged over positions; 0 where the model equals the teacher."""
    import torch.nn.functional as F

    predicted = F.log_softmax(model(input_ids=batch["input_ids"]).logits, dim=-1)
    return F.kl_div(predicted, batch["teacher"], log_target=True, reduction="none").sum(-1).mean()


GENERAL = PlantedTask(rank=2, size=0.3)
NARROW = PlantedTask(rank=32, size=0.6)


def planted_recipe(task: PlantedTask, name: str, rank: int = 8) -> Recipe:
    """The embedded recipe for a planted task: 250 updates of 32 rows, LoRA of rank ``rank`` on every projection.

    At these learning rates and on the narrow task, LoRA r=8 is ahead of full at step 30 and behind it at step 250:
    the reason why this project compares at a declared horizon.
    """
    return Recipe(
        name=name,
        model=task.model,
        train_data=task.train_data,
        eval_data=task.eval_data,
        loss=divergence,
        full=Full(lr=1e-3),
        lora=LoRA(r=rank, alpha=32, target_modules=TARGETS, lr=1e-2),
        steps=250,
        batch_size=32,
        threads=1,  # the matrices are too small for a second thread to help
    )
