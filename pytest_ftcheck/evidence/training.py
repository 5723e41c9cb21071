"""One short training of an audit, and how it may differ from what the recipe declares."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..building import build_job
from ..deadline import deadline
from ..distributed.world import ALONE, World
from ..errors import TrainingError
from ..execution import import_what_optimizers_import, train_job
from ..isolation import preserved_settings
from ..observers.events import Events, Watcher
from ..observers.trace import Trace
from ..observers.update import Tensors
from ..progress.audience import training
from ..scratch import prefix
from .dropout import WithoutDropout
from .standstill import Standstill
from .states import States

if TYPE_CHECKING:
    from torch import nn

    from ..recipe import Job, Recipe
    from ..theory.parameters import ParameterForm

# Updates of an audit's trainings: with the rows below, two epochs and two thirds.
AUDIT_STEPS = 8
# Nobody waits longer for eight updates.
TIME_LIMIT_S = 300.0


@dataclass(frozen=True)
class Variation:
    """What differs from the recipe in a training of the audit; None leaves it as declared.

    ``whole_data``: all rows, and not the few that make several short epochs. ``save_steps`` and ``eval_steps`` ask the
    loop to write a checkpoint and to evaluate after every so many updates, ``resume_from`` is a checkpoint to go on
    from. ``without_dropout`` sets every dropout of the model to 0. ``prepare`` is applied to the built model before
    training begins. ``disturbed``: the random number generators are moved on between building the model and training
    it. ``still``: every update is undone, so that all of them are made from the same parameters.
    """

    steps: int = AUDIT_STEPS
    batch_size: int | None = None
    accumulation: int | None = None
    seed: int | None = None
    whole_data: bool = False
    save_steps: int | None = None
    eval_steps: int | None = None
    resume_from: Path | None = None
    without_dropout: bool = False
    prepare: Callable[[nn.Module], None] | None = None
    disturbed: bool = False
    still: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether it writes checkpoints or goes on from one: then the states before every update are kept."""
        return self.save_steps is not None or self.resume_from is not None


AS_DECLARED = Variation()


@dataclass
class Training:
    """A training that was made: its job (with the model as it was left), what was traced, and what it changed.

    ``settings_before`` and ``settings_after`` are torch's global settings around it. ``folder`` is the job's output
    folder, which lives as long as this object. ``states`` are kept where checkpoints are written or gone on from.
    ``left_trainable`` names the parameters that require gradients when it has ended.
    ``given`` is the model that ``train(job)`` received, which need not be what trained, and ``base_state`` its weights.
    """

    job: Job
    trace: Trace
    declared: ParameterForm | None
    settings_before: dict[str, Any]
    settings_after: dict[str, Any]
    base_state: Tensors
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)
    states: States | None = None
    left_trainable: frozenset[str] = frozenset()
    given: nn.Module | None = None

    @property
    def output_dir(self) -> Path:
        return Path(self.folder.name)

    @property
    def final(self) -> Tensors:
        """The parameters as training left them, by name."""
        return {name: parameter.detach() for name, parameter in self.trace.model.named_parameters()}


def carry_out(
    recipe: Recipe,
    method: str,
    device: str,
    seed: int,
    change: Variation,
    limit_s: float = TIME_LIMIT_S,
    world: World = ALONE,
    further: Sequence[Watcher] = (),
) -> Training:
    """Train ``recipe`` shortly, as changed by ``change``, and trace it. Raises TrainingError where it fails."""
    recipe = recipe.replace(
        batch_size=change.batch_size or recipe.batch_size,
        accumulation=change.accumulation or recipe.accumulation,
    )
    seed = seed if change.seed is None else change.seed
    folder = tempfile.TemporaryDirectory(prefix=prefix())
    what = f"{method}: train(job) of {change.steps} updates"
    import_what_optimizers_import()
    with preserved_settings(recipe.threads), deadline(limit_s, what):
        job, declared = build_job(recipe, method, seed, change.steps, device, Path(folder.name), world=world)
        base_state = {name: p.detach().clone() for name, p in job.model.named_parameters()}
        job.save_steps, job.eval_steps, job.resume_from = change.save_steps, change.eval_steps, change.resume_from
        given = job.model
        _prepare(job, change)
        states = States(Path(folder.name)) if change.interrupted else None
        trace, before = Trace(change.steps) if states else Trace(), global_settings()
        watchers = [trace, *_interventions(change), *([states] if states else []), *further]
        told = training(f"{recipe.name}, {method}", change.steps)
        with told as progress, Events([*watchers, *progress]).listening() as events:
            train_job(job, method, events, lambda: len(trace.updates))
        after = global_settings()
        left = frozenset(name for name, p in trace.model.named_parameters() if p.requires_grad)
    if not trace.updates:
        from ..failures import no_update

        raise TrainingError(no_update(method, change.steps, trace, events.foreign_steps))
    if states is not None:
        states.training_ended()
    return Training(job, trace, declared, before, after, base_state, folder, states, left, given)


def _interventions(change: Variation) -> list[Watcher]:
    """What acts on the training while it runs."""
    return [*([WithoutDropout()] if change.without_dropout else []), *([Standstill()] if change.still else [])]


def _prepare(job: Job, change: Variation) -> None:
    import torch

    if change.prepare is not None:
        change.prepare(job.model)
    if change.disturbed:
        torch.manual_seed(job.seed + 7919)


def global_settings() -> dict[str, Any]:
    """torch's settings that hold for the whole process, by what people call them."""
    import torch

    return {
        "default dtype": torch.get_default_dtype(),
        "gradient recording": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "autocast on the CPU": torch.is_autocast_enabled("cpu"),
        "default device": str(torch.get_default_device()),
        "working directory": os.getcwd(),
    }
