"""The trainings of several processes that the checks look at, each beside one of a single process on the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..building import rows_of
from ..distributed.launch import Phase, launched
from ..distributed.record import Ranks, read
from ..errors import NotApplicable
from .checkpoint import Folder
from .few import first
from .lessons import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

    from .evidence import Evidence

# Where an epoch is one update: a second, by when unused parameters and drifting buffers show.
WHOLE_STEPS = 2
# Where an epoch is several updates: so many at most, and so many epochs.
UPDATES, EPOCHS = 3, 2


@dataclass(frozen=True)
class Processes:
    """The ranks of a training of ``several`` processes, and of the same in ``one``, which takes the rows of all in one
    batch. ``epoch`` is how many updates an epoch has.
    """

    several: Ranks
    one: Ranks
    epoch: int


def one_update_an_epoch(evidence: Evidence) -> Processes:
    """A training in which every epoch is one update, whose rows are all there are, so that no order of theirs matters.
    Made once. NotApplicable where there are too few rows, as below.
    """
    return evidence.once("one update an epoch", lambda: _trained(evidence, 1, WHOLE_STEPS, uneven))


def several_updates_an_epoch(evidence: Evidence) -> Processes:
    """A training of several short epochs. Made once."""

    def make() -> Processes:
        epoch = min(UPDATES, len(_rows(evidence)) // _of_an_update(evidence))
        if epoch == 1:
            raise NotApplicable("train_data has too few rows for epochs of several updates")
        return _trained(evidence, epoch, EPOCHS * epoch, lambda rows: rows)

    return evidence.once("several updates an epoch", make)


def _trained(evidence: Evidence, epoch: int, steps: int, prepared: Callable[[Any], Any]) -> Processes:
    from ..distributed.traced import trace

    count = _of_an_update(evidence)
    several = evidence.recipe.replace(train_data=prepared(first(_rows(evidence), epoch * count)))
    one = several.replace(processes=1, batch_size=count, accumulation=1)
    phases = [
        Phase("one process", one, 1, steps, trace),
        Phase("several processes", several, several.processes, steps, trace),
    ]
    with launched(evidence.method_name, evidence.seed, evidence.device, phases, evidence.time_limit_s) as folders:
        alone, together = (read(ranks) for ranks in folders.values())
    return Processes(together, alone, epoch)


def _of_an_update(evidence: Evidence) -> int:
    """How many rows all processes together take for an update."""
    recipe = evidence.recipe
    return recipe.batch_size * recipe.accumulation * recipe.processes


def _rows(evidence: Evidence) -> Any:
    """The training data. NotApplicable where they have no length, or are fewer than one update takes."""
    rows, count = rows_of(evidence.recipe, "train_data"), _of_an_update(evidence)
    if isinstance(rows, Mapping) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        raise NotApplicable("the training data have no length")
    if len(rows) < count:
        raise NotApplicable(f"train_data has {len(rows)} rows; an update of all processes takes {count}")
    return rows


def uneven(rows: Any) -> Any:
    """``rows`` with other numbers of labels, where each has a list or vector of equally many that count: means of
    ranks are right for those, whatever a loop divides by. What has no labels by name comes back as it is.
    """
    if not isinstance(rows, Sequence):
        return rows
    rows = list(rows)
    counts = {_supervised(row) for row in rows}
    few = any(count is None or count < 3 for count in counts)
    if len(counts) != 1 or few:
        return rows
    return [_first_ignored(row, 1 + index % 3 * (len(row["labels"]) // 4)) for index, row in enumerate(rows)]


def _supervised(row: Any) -> int | None:
    labels: Any = row.get("labels") if isinstance(row, Mapping) else None
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
