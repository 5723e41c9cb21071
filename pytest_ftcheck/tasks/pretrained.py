"""The real-text task as a recipe: a byte model that has read general text, fine-tuned on narrow text.

The base is trained first, briefly, because a LoRA on random weights would measure the missing pretraining: the token
embeddings, which LoRA freezes, would still be noise. Even so the base has not converged, and full fine-tuning goes on
learning what pretraining left; so the order of the arms here is no claim about full against LoRA (the planted tasks
are), while parameter counts, memory and the data path are what they are for any language model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..methods import Full, LoRA
from ..recipe import Recipe
from .models import tiny_gpt2
from .text import TextTask

if TYPE_CHECKING:
    from torch import Tensor, nn

PRETRAINING_ROWS = 8


@dataclass(frozen=True)
class PretrainedText:
    """A text to fine-tune on, and a base model that was trained for ``pretraining_steps`` on the general part of the
    standard library's sources. ``eval_blocks`` limits the evaluation, which is taken a dozen times.
    """

    task: TextTask
    pretraining_steps: int = 150
    eval_blocks: int = 32

    def model(self) -> nn.Module:
        model = tiny_gpt2(self.task.vocab_size, self.task.block_size)
        model.load_state_dict(_pretrained(self.task, self.pretraining_steps))
        return model

    def train_data(self) -> Any:
        return self.task.train_data()

    def eval_data(self) -> list[dict[str, Tensor]]:
        blocks = self.task.eval_data()
        return [blocks[i] for i in range(min(self.eval_blocks, len(blocks)))]


def text_recipe(task: TextTask | None = None, name: str = "text", pretraining_steps: int = 150) -> Recipe:
    """A recipe for ``task`` (default: the narrow part of the standard library's sources): 150 updates of 8 blocks."""
    text = PretrainedText(TextTask(part="narrow", block_size=64) if task is None else task, pretraining_steps)
    return Recipe(
        name=name,
        model=text.model,
        train_data=text.train_data,
        eval_data=text.eval_data,
        full=Full(lr=1e-3),
        lora=LoRA(r=8, alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], lr=1e-2),
        steps=150,
        batch_size=8,
        threads=1,  # as in planted.py
    )


@functools.lru_cache(maxsize=4)
def _pretrained(task: TextTask, steps: int) -> dict[str, Tensor]:
    """The base's weights; trained once in a process, and the same in every one."""
    import torch

    from ..training import collate, model_loss, warm_up_and_cosine

    blocks = replace(task, path=None, part="general").train_data()
    model = tiny_gpt2(task.vocab_size, task.block_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine(max(1, steps)))
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0)).tolist()
    rows = (blocks[i] for epoch in iter(lambda: order, None) for i in epoch)
    for _ in range(steps):
        model_loss(model, collate(list(islice(rows, PRETRAINING_ROWS)))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.state_dict()
