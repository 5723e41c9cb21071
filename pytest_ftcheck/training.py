"""The default parts of a recipe: a training loop, batches, and a loss, in plain PyTorch.

Users replace what differs in their repository. The loop is also the reference that other loops are compared with, so it
is written to be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import RecipeError, TrainingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .recipe import Job

WARM_UP = 20
LABEL_PAD = -100


def train(job: Job) -> None:
    """AdamW with a linear warm-up and a cosine decay to 1 %, ``job.steps`` updates."""
    import torch

    trainable = [p for p in job.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=job.lr, weight_decay=0.0, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine(job.steps))
    windows = update_windows(job)
    job.model.train()
    for update in range(1, job.steps + 1):
        micro_batches = next(windows)
        tokens = [supervised_tokens(batch, job.model) for batch in micro_batches]
        total = sum_over_ranks(sum(tokens), job)
        if not total:
            raise TrainingError(f"no supervised token in update {update}: every label of its rows is {LABEL_PAD}")
        for batch, count in zip(micro_batches, tokens, strict=True):
            # Weighted by tokens, so that any split of the same rows has the gradient of one large batch. Strategies
            # take the mean of the ranks' gradients, and so divide by the number of processes.
            share = count * job.processes / total
            (job.loss(job.model, batch) * share).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    """The factor on the peak learning rate before update ``step`` (from 0)."""

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / WARM_UP) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))

    return factor


def update_windows(job: Job) -> Iterator[list[Any]]:
    """For each update its micro-batches: rows in a new order every epoch, drawn from the job's seed alone. Of several
    processes each takes its part of the batch that they make together.
    """
    import torch

    size, own = job.batch_size * job.processes, job.rank * job.batch_size
    if len(job.train_data) < size:
        raise RecipeError(f"train_data has {len(job.train_data)} rows; a batch needs {size}")
    generator = torch.Generator().manual_seed(job.seed)
    window: list[Any] = []
    while True:
        order = torch.randperm(len(job.train_data), generator=generator).tolist()
        for start in range(0, len(order) - size + 1, size):
            begin = start + own
            window.append(job.collate([job.train_data[i] for i in order[begin : begin + job.batch_size]]))
            if len(window) == job.accumulation:
                yield window
                window = []


def sum_over_ranks(number: int, job: Job) -> int:
    """``number``, added up over the processes of a job that has several."""
    if job.processes == 1:
        return number
    import torch
    import torch.distributed as dist

    total = torch.tensor(number, device=job.device)
    dist.all_reduce(total)
    return int(total)


def supervised_tokens(batch: Any, model: nn.Module) -> int:
    """How many labels of a batch count: after the causal shift for token labels, except those of an encoder-decoder,
    of masked tokens and of token classes, which are not shifted; all for labels of whole rows. 1 where there are none.
    """
    from .distributed.world import unwrapped

    labels = batch.get("labels") if hasattr(batch, "get") else None
    if labels is None:
        return 1
    model = unwrapped(model)
    in_place = getattr(getattr(model, "config", None), "is_encoder_decoder", False) or _labels_in_place(model)
    shifted = labels.dim() > 1 and not in_place
    return int(((labels[..., 1:] if shifted else labels) != LABEL_PAD).sum())


def _labels_in_place(model: nn.Module) -> bool:
    """Whether labels stand at the positions that predict them, judging by the name of the model's class."""
    inner = getattr(model, "get_base_model", lambda: model)()
    return any(kind in type(inner).__name__ for kind in ("MaskedLM", "TokenClassification"))


def model_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that the model itself returns for a batch with labels."""
    output = model(**batch)
    loss = output["loss"] if isinstance(output, dict) else output[0]
    if loss is None or loss.dim() != 0:
        raise RecipeError("the model returned no scalar loss; give the rows labels, or the recipe a loss(model, batch)")
    return loss  # type: ignore[no-any-return]


def evaluate(job: Job) -> float:
    """Mean loss per supervised token on the evaluation data."""
    return mean_per_token(_evaluated_batches(job))


def _evaluated_batches(job: Job) -> Iterator[tuple[float, int]]:
    """(mean loss, supervised tokens) of each batch of the evaluation data."""
    import torch

    # In one go as far as 256 rows: the evaluation sets of small recipes fit, and Python's share of the time is least.
    size = max(job.batch_size, 256)
    for start in range(0, len(job.eval_data), size):
        rows = [job.eval_data[i] for i in range(start, min(start + size, len(job.eval_data)))]
        batch = job.collate(rows)
        count = supervised_tokens(batch, job.model) if "labels" in batch else len(rows)
        with torch.no_grad():
            yield float(job.loss(job.model, batch)), count


def mean_per_token(batches: Iterable[tuple[float, int]]) -> float:
    """The mean of (mean loss, supervised tokens) pairs by tokens. Raises RecipeError where there is no token."""
    total, tokens = 0.0, 0
    for loss, count in batches:
        total += loss * count
        tokens += count
    if tokens == 0:
        raise RecipeError("eval_data gives no evaluation batch with a label; allowed: at least one")
    return total / tokens


def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    """Stack rows (dictionaries of tensors or numbers, all of one shape) into a batch."""
    import torch

    if not isinstance(rows[0], dict):
        kind = type(rows[0]).__name__
        raise RecipeError(f"a row is {kind}; allowed: a dictionary, or give the recipe a collate(rows)")
    return {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}


def to_device(batch: Any, device: str) -> Any:
    """The batch with every tensor in it on ``device``."""
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def adapt(model: nn.Module, method: Any) -> nn.Module:
    """Make ``model`` train by ``method``: freeze what ``Full`` declares frozen, or put the PEFT adapter on it."""
    from .methods import Full

    if isinstance(method, Full):
        from .theory.parameters import frozen_names

        frozen = frozen_names(model, method.frozen)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        return model
    import warnings

    from peft import get_peft_model

    with warnings.catch_warnings():
        # Both are about what PEFT does by itself, and nothing that a user could change.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False|`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, method.to_peft())  # type: ignore[no-any-return]
