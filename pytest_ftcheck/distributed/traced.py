"""What the ranks of a check's trainings run: a short traced training, and one that ends in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from ..evidence.rows import row_keys
from ..evidence.training import Training, Variation, carry_out
from ..evidence.windows import accumulated, tolerance
from ..failures import one_line
from ..observers.loss import logits_of
from ..training import supervised_tokens
from .launch import Order
from .record import RankRecord, RankUpdate, write
from .run import Progress
from .watch import RankWatch, Wrappers
from .world import in_parts, local

if TYPE_CHECKING:
    from torch import nn

    from ..observers.update import Tensors, Update

# The folder, beside those of the ranks, that a model is saved to; and what rank 0 computed with it before.
CHECKPOINT, LOGITS = "checkpoint", "logits.safetensors"
# Every trainable parameter is moved by a random amount of this root mean square before it is saved.
MOVED_BY = 0.05


def trace(order: Order) -> None:
    """A training without dropout, traced."""
    wrappers = Wrappers()
    watch = RankWatch(wrappers)
    made = _trained(order, [watch, Progress(order.journal)])
    updates = made.trace.updates
    record = RankRecord(
        updates=tuple(
            RankUpdate(_rows(u), _tokens(u, made.trace.model), u.loss, *digests)
            for u, *digests in zip(updates, watch.gradients, watch.parameters, watch.buffers, strict=False)
        ),
        start=watch.start,
        sharded=watch.sharded,
        outside=tuple(watch.outside),
        moved=tuple(watch.moved),
        foreign=watch.foreign,
        epochs=tuple(tuple(epochs) for epochs in wrappers.epochs.values()),
        near=tolerance(updates[0]),
    )
    write(order.folder, record, _tensors(made, watch, order.world.rank))


def _trained(order: Order, watchers: list[Any]) -> Training:
    change = Variation(steps=order.steps, without_dropout=True)
    return carry_out(
        order.recipe, order.method, order.device, order.seed, change, order.world.limit_s, order.world, watchers
    )


def _rows(update: Update) -> tuple[str, ...]:
    return tuple(key for forward in update.forwards for key in row_keys(forward))


def _tokens(update: Update, model: nn.Module) -> int:
    return sum(supervised_tokens(f.inputs, model) for f in update.forwards if f.inputs.get("labels") is not None)


def _tensors(made: Training, watch: RankWatch, rank: int) -> Tensors:
    """What is compared as numbers: what every rank has is written by the first alone."""
    first = made.trace.updates[0]
    in_parts(made.trace.model)
    kinds = {
        "gradient": accumulated(first) if first.backwards else {},
        "start": {name: t for name, t in first.before.items() if name in first.trainable},
        "final": {name: local(t) for name, t in made.final.items() if name in first.trainable},
    }
    own = {f"{kind}/{name}": (name, t) for kind, tensors in kinds.items() for name, t in tensors.items()}
    return {key: t for key, (name, t) in own.items() if rank == 0 or name in watch.sharded}


def save(order: Order) -> None:
    """A training of one update whose model is moved, called, and saved as the recipe saves, or else gathered whole."""
    import torch
    from safetensors.torch import save_file

    from ..isolation import evaluation_mode

    made = _trained(order, [Progress(order.journal)])
    model, inputs = made.trace.model, _inputs(made)
    _move(model, order)
    with torch.no_grad(), evaluation_mode(model):
        logits = logits_of(model(**inputs))
    if logits is None:
        raise TrainingError("the model's output shows no logits")
    if order.world.rank == 0:
        held = {**{f"inputs/{name}": t for name, t in inputs.items()}, "logits": logits.float()}
        save_file({name: t.cpu().contiguous() for name, t in held.items()}, str(order.shared / LOGITS))
    order.journal.note("saving")
    (order.shared / CHECKPOINT).mkdir(exist_ok=True)
    try:
        _save(model, order.shared / CHECKPOINT, order)
    except Exception as error:
        raise TrainingError(f"saving raised {one_line(error)}") from error


def _inputs(made: Training) -> dict[str, Any]:
    """The tensors of the first training call, without the labels."""
    import torch

    given = made.trace.forwards[0].inputs
    return {name: t for name, t in given.items() if isinstance(t, torch.Tensor) and name != "labels" and t.dim() > 0}


def _move(model: nn.Module, order: Order) -> None:
    """Move what trains, as after a long training; the same on every rank where each has the whole model."""
    import torch

    for index, (name, parameter) in enumerate(in_parts(model).named_parameters()):
        if parameter.requires_grad and ".original_module." not in name:
            part = local(parameter.detach())
            rank = order.world.rank if part is not parameter and hasattr(parameter, "placements") else 0
            generator = torch.Generator().manual_seed(order.seed + 1009 * index + rank)
            part.add_((MOVED_BY * torch.randn(part.shape, generator=generator)).to(part))


def _save(model: Any, folder: Path, order: Order) -> None:
    """Where the model is spread over the ranks all of them call the recipe's ``save``; else the first one alone."""
    spread = any(hasattr(p, "placements") for p in model.parameters())
    if order.recipe.save is not None:
        if spread or order.world.rank == 0:
            order.recipe.save(model, folder)
    elif spread:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if order.world.rank == 0:
            model.save_pretrained(str(folder), state_dict=state)
    elif order.world.rank == 0:
        model.save_pretrained(str(folder))
