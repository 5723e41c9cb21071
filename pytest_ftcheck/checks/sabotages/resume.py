"""Breaking what a training finds again in a checkpoint, and which checkpoints there are: around any loop."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .repetition import Reordered, reorderable
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from ...recipe import Job, Recipe

# How many checkpoints the sabotaged retention leaves.
LEFT = 2

Around = Callable[["Job"], contextlib.AbstractContextManager[Any]]


def _when_resuming(context: Around) -> Callable[[Recipe], Recipe]:
    """Breaks trainings that go on from a checkpoint, and no others."""

    def around(job: Job) -> contextlib.AbstractContextManager[Any]:
        return context(job) if job.resume_from is not None else contextlib.nullcontext()

    return lambda recipe: around_training(recipe, around)


@contextlib.contextmanager
def _parameters(job: Job) -> Iterator[None]:
    """The first trainable tensor is put back to what it was before the checkpoint was loaded."""
    import torch

    kept = next((p, p.detach().clone()) for p in reversed(list(job.model.parameters())) if p.requires_grad)
    done: list[bool] = []

    def restore(model: Any, args: Any) -> None:
        if not done and model.training:
            done.append(True)
            with torch.no_grad():
                kept[0].copy_(kept[1])

    hook = job.model.register_forward_pre_hook(restore)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _optimizer_state(job: Job) -> Iterator[None]:
    import torch

    def load(optimizer: Any, state: dict[str, Any]) -> None:
        original(optimizer, {**state, "state": {}})

    with patched(torch.optim.Optimizer, "load_state_dict", load) as original:
        yield


@contextlib.contextmanager
def _group_settings(job: Job) -> Iterator[None]:
    import torch

    def load(optimizer: Any, state: dict[str, Any]) -> None:
        groups = [{**group, "weight_decay": group.get("weight_decay", 0.0) + 0.1} for group in state["param_groups"]]
        original(optimizer, {**state, "param_groups": groups})

    with patched(torch.optim.Optimizer, "load_state_dict", load) as original:
        yield


@contextlib.contextmanager
def _schedule(job: Job) -> Iterator[None]:
    import torch

    def ignored(schedule: Any, state: dict[str, Any]) -> None:
        """As if no schedule had been saved."""

    kinds = (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.LambdaLR)
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(patched(kind, "load_state_dict", ignored))
        yield


@contextlib.contextmanager
def _generator(job: Job) -> Iterator[None]:
    import torch

    with contextlib.ExitStack() as stack:
        for owner in (torch, torch.random):
            stack.enter_context(patched(owner, "set_rng_state", lambda state: None))
        # Many loops seed at their start as they did the first time; it is the drawing since then that is lost.
        yield


@contextlib.contextmanager
def _mode(job: Job) -> Iterator[None]:
    """The model stays in the mode in which it was loaded."""
    hook = job.model.register_forward_pre_hook(lambda model, args: model.eval() and None)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _data_position(job: Job) -> Iterator[None]:
    job.train_data = Reordered(job.train_data, lambda index: index + 1)
    yield


def _data_position_lost(recipe: Recipe) -> Recipe:
    return _when_resuming(_data_position)(reorderable(recipe))


def _newest_deleted(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        hook = job.model.register_forward_pre_hook(lambda *_: _prune(job))
        try:
            yield
        finally:
            hook.remove()
            _prune(job)

    return around_training(recipe, context)


def _prune(job: Job) -> None:
    """Deletes all but the last checkpoints in the order of their names."""
    if not job.save_steps or job.resume_from is not None:
        return
    found = sorted(path for path in job.output_dir.iterdir() if any(letter.isdigit() for letter in path.name))
    for path in found[:-LEFT]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _other_weights(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        yield
        for path in job.output_dir.rglob("*model*.safetensors"):
            _double(path)

    return around_training(recipe, context)


def _double(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, path, metadata)


def _sabotage(id: str, breaks: str, context: Around) -> Sabotage:
    return Sabotage(id, breaks, _when_resuming(context))


PARAMETERS_LOST = _sabotage("resume-loses-a-parameter", "a trained tensor is new after resuming", _parameters)
OPTIMIZER_STATE_LOST = _sabotage("resume-loses-moments", "the optimizer begins anew when resuming", _optimizer_state)
GROUP_SETTINGS_LOST = _sabotage("resume-changes-decay", "another weight decay after resuming", _group_settings)
SCHEDULE_LOST = _sabotage("resume-loses-schedule", "the schedule begins anew when resuming", _schedule)
MODE_LOST = _sabotage("resume-loses-mode", "the model stays in evaluation mode after resuming", _mode)
GENERATOR_LOST = _sabotage("resume-loses-generator", "the generator's state is not loaded", _generator)
DATA_POSITION_LOST = Sabotage("resume-loses-position", "resuming goes on with other rows", _data_position_lost)
NEWEST_DELETED = Sabotage(
    "newest-checkpoints-deleted", "checkpoints are deleted in the order of names", _newest_deleted
)
CHECKPOINT_HOLDS_OTHER_WEIGHTS = Sabotage(
    "checkpoint-holds-other-weights", "weights in the checkpoint are not the trained ones", _other_weights
)
