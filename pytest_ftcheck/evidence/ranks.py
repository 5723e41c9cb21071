"""The trainings of several processes that the checks look at, each beside one of a single process on the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..distributed.launch import Phase, launched
from ..distributed.record import Ranks, read
from ..errors import NotApplicable
from ..execution import rows_of
from .checkpoint import Folder
from .few import first

if TYPE_CHECKING:
    from torch import Tensor

    from .evidence import Evidence

# Where an epoch is one update: a second, by when unused parameters and drifting buffers show.
WHOLE_STEPS = 2
# Where an epoch is several updates: so many at most, and so many epochs.
UPDATES, EPOCHS = 3, 2
IGNORED = -100


@dataclass(frozen=True)
class Processes:
    """``whole``: every epoch is one update, whose rows are all there are, so that no order of theirs matters; ``one``
    is the same in a single process, in one batch. ``several``: epochs of ``epoch`` updates; ``ordered`` is the same in a
    single process. Both None where there are too few rows.
    """

    whole: Ranks
    one: Ranks
    several: Ranks | None
    ordered: Ranks | None
    epoch: int


def processes(evidence: Evidence) -> Processes:
    """Made once for all checks of a recipe of several processes."""
    return evidence.once("processes", lambda: _processes(evidence))


def _processes(evidence: Evidence) -> Processes:
    from ..distributed.traced import trace

    recipe = evidence.recipe
    count = recipe.batch_size * recipe.accumulation * recipe.processes
    rows = rows_of(recipe, "train_data")
    epoch = min(UPDATES, _available(rows, count) // count)
    alone: dict[str, Any] = {"processes": 1, "batch_size": count, "accumulation": 1}
    whole = recipe.replace(train_data=uneven(first(rows, count)))
    phases = [
        Phase("one process", whole.replace(**alone), 1, WHOLE_STEPS, trace),
        Phase("several processes", whole, recipe.processes, WHOLE_STEPS, trace),
    ]
    if epoch > 1:
        longer = recipe.replace(train_data=first(rows, epoch * count))
        steps = EPOCHS * epoch
        phases += [
            Phase("epochs in one process", longer.replace(**alone), 1, steps, trace),
            Phase("epochs in several processes", longer, recipe.processes, steps, trace),
        ]
    with launched(evidence.method_name, evidence.seed, evidence.device, phases, evidence.time_limit_s) as folders:
        one, whole_ranks, *others = [read(ranks) for ranks in folders.values()]
    ordered, several = others or (None, None)
    return Processes(whole_ranks, one, several, ordered, epoch)


def _available(rows: Any, count: int) -> int:
    """How many rows there are. NotApplicable where that cannot be told, or they are fewer than one update takes."""
    if isinstance(rows, Mapping) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        raise NotApplicable("the training data have no length")
    if len(rows) < count:
        raise NotApplicable(f"train_data has {len(rows)} rows; an update of all processes takes {count}")
    return len(rows)


def uneven(rows: Any) -> Any:
    """``rows`` with other numbers of labels, where each has a list or vector of equally many that count: means of
    ranks are right for those, whatever a loop divides by. What has no labels by name comes back as it is.
    """
    if not isinstance(rows, Sequence):
        return rows
    rows = list(rows)
    counts = {_supervised(row) for row in rows}
    if len(counts) > 1 or None in counts or min(counts, default=0) < 3:
        return rows
    return [_first_ignored(row, 1 + index % 3 * (len(row["labels"]) // 4)) for index, row in enumerate(rows)]


def _supervised(row: Any) -> int | None:
    labels = row.get("labels") if isinstance(row, Mapping) else None
    if not hasattr(labels, "__len__") or isinstance(labels, str) or getattr(labels, "ndim", 1) != 1:
        return None
    return sum(int(label) != IGNORED for label in labels)


def _first_ignored(row: Any, count: int) -> Any:
    import torch

    labels = row["labels"]
    if isinstance(labels, torch.Tensor):
        return {**row, "labels": torch.cat([torch.full_like(labels[:count], IGNORED), labels[count:]])}
    return {**row, "labels": type(labels)([IGNORED] * count + list(labels[count:]))}


@dataclass(frozen=True)
class Checkpoint:
    """What several processes saved, and inputs ("inputs/NAME") and logits of rank 0 before."""

    folder: Folder
    tensors: Mapping[str, Tensor]


def checkpoint(evidence: Evidence) -> Checkpoint:
    """Made once."""
    return evidence.once("checkpoint of several processes", lambda: _checkpoint(evidence))


def _checkpoint(evidence: Evidence) -> Checkpoint:
    from safetensors.torch import load_file

    from ..distributed.traced import CHECKPOINT, LOGITS, save

    recipe = evidence.recipe
    phase = Phase("a checkpoint", recipe, recipe.processes, 1, save)
    kept = Folder()
    with launched(evidence.method_name, evidence.seed, evidence.device, [phase], evidence.time_limit_s) as folders:
        shared = folders[phase.name][0].parent
        shutil.copytree(shared / CHECKPOINT, kept.path, dirs_exist_ok=True)
        return Checkpoint(kept, load_file(str(shared / LOGITS)))
