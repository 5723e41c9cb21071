"""One short training of an audit, and how it may differ from what the recipe declares."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from ..execution import build_job, train_job
from ..isolation import preserved_settings
from ..observers.events import Events
from ..observers.trace import Tensors, Trace
from .deadline import deadline

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
    loop to write a checkpoint and to evaluate after every so many updates, ``resume_from`` is a checkpoint to go on from.
    ``without_dropout`` sets every dropout of the model to 0. ``prepare`` is applied to the built model before training
    begins. ``disturbed``: the random number generators are moved on between building the model and training it.
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


AS_DECLARED = Variation()


@dataclass
class Training:
    """A training that was made: its job (with the model as it was left), what was traced, and what it changed.

    ``settings_before`` and ``settings_after`` are torch's global settings around it. ``folder`` is the job's output
    folder, which lives as long as this object.
    """

    job: Job
    trace: Trace
    declared: ParameterForm | None
    settings_before: dict[str, Any]
    settings_after: dict[str, Any]
    base_state: Tensors
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def output_dir(self) -> Path:
        return Path(self.folder.name)

    @property
    def final(self) -> Tensors:
        """The parameters as training left them, by name."""
        return {name: parameter.detach() for name, parameter in self.trace.model.named_parameters()}


def carry_out(recipe: Recipe, method: str, device: str, seed: int, change: Variation) -> Training:
    """Train ``recipe`` shortly, as changed by ``change``, and trace it. Raises TrainingError where it fails."""
    recipe = recipe.replace(
        batch_size=change.batch_size or recipe.batch_size,
        accumulation=change.accumulation or recipe.accumulation,
    )
    seed = seed if change.seed is None else change.seed
    folder = tempfile.TemporaryDirectory(prefix="ftcheck-")
    what = f"{method}: train(job) of {change.steps} updates"
    with preserved_settings(recipe.threads), deadline(TIME_LIMIT_S, what):
        job, declared = build_job(recipe, method, seed, change.steps, device, Path(folder.name))
        base_state = {name: p.detach().clone() for name, p in job.model.named_parameters()}
        job.save_steps, job.eval_steps, job.resume_from = change.save_steps, change.eval_steps, change.resume_from
        _prepare(job, change)
        trace, before = Trace(), global_settings()
        with Events([trace]).listening() as events:
            train_job(job, method, events, lambda: len(trace.updates))
        after = global_settings()
    if not trace.updates:
        from ..failures import wrong_number_of_updates

        raise TrainingError(wrong_number_of_updates(method, 0, change.steps))
    return Training(job, trace, declared, before, after, base_state, folder)


def _prepare(job: Job, change: Variation) -> None:
    import torch

    if change.without_dropout:
        without_dropout(job.model)
    if change.prepare is not None:
        change.prepare(job.model)
    if change.disturbed:
        torch.manual_seed(job.seed + 7919)


def without_dropout(model: nn.Module) -> None:
    """Set every dropout of ``model`` to 0: of its modules, and what attention functions read off theirs."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "attn_dropout", "dropout_prob", "dropout_p"):
            if isinstance(vars(module).get(name), float):
                setattr(module, name, 0.0)


def global_settings() -> dict[str, Any]:
    """torch's settings that hold for the whole process, by what people call them."""
    import torch

    return {
        "default dtype": torch.get_default_dtype(),
        "gradient recording": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "autocast on the CPU": torch.is_autocast_enabled("cpu"),
    }


def few_rows(rows: Any, batch_size: int, accumulation: int) -> Any:
    """The first rows of a data set: enough for three updates an epoch, of which the last has a single short batch.

    Rows without a length, or fewer, come back as they are.
    """
    if not hasattr(rows, "__len__"):
        return rows
    window = batch_size * accumulation
    wanted = 2 * window + (batch_size // 2 or 1)
    if len(rows) <= wanted:
        return rows
    if hasattr(rows, "select"):
        return rows.select(range(wanted))
    return rows[:wanted] if isinstance(rows, (list, tuple)) else FirstRows(rows, wanted)


class FirstRows(Sequence[Any]):
    """The first rows of a data set, which otherwise behaves as itself."""

    def __init__(self, rows: Any, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._rows[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._rows[index % self._count]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)
