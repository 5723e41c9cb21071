"""The forward passes of evaluations in the middle of a training, told from those of the training itself.

A forward pass without gradients need not be an evaluation: preference losses call a reference model, which with
adapters is the same module. An evaluation is told by its rows, where they are the evaluation data's and none of the
training's, or by what is added after every second update when the loop is asked to evaluate then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .rows import row_keys

if TYPE_CHECKING:
    from ..observers.trace import Trace
    from ..observers.update import ForwardPass
    from .evidence import Evidence

EVERY = 2


def evaluated_training(evidence: Evidence) -> Trace:
    """The short training with an evaluation after every second update, as far as its loop can be asked for one."""
    if evidence.standard.job.eval_data is None:
        return evidence.trace
    try:
        return evidence.varied(eval_steps=EVERY).trace
    except NotApplicable:
        return evidence.trace


def evaluation_passes(evidence: Evidence) -> list[ForwardPass]:
    """The forward passes of evaluations. NotApplicable where the training evaluates nothing."""
    standard, asked = evidence.trace, evaluated_training(evidence)
    by_rows = _by_rows(evidence, asked)
    found = {id(forward): forward for forward in [*by_rows, *_added(standard, asked)]}
    if not found:
        raise NotApplicable("no evaluation was seen in the training")
    return list(found.values())


def _by_rows(evidence: Evidence, trace: Trace) -> list[ForwardPass]:
    """Forward passes on rows of the evaluation data that no backward pass has seen."""
    rows = _keys_of_rows(evidence.standard.job.eval_data)
    trained = {key for f in trace.forwards if f.logits_gradient is not None for key in row_keys(f)}
    candidates = [forward for _, _, forward in trace.evaluations]
    candidates += [forward for forward in trace.forwards if forward.logits_gradient is None]
    return [f for f in candidates if (keys := set(row_keys(f))) and keys <= rows - trained]


def _keys_of_rows(data: Any) -> set[str]:
    """Keys, as ``row_keys`` makes them, of rows that hold token ids."""
    import torch

    from ..observers.update import ForwardPass

    keys: set[str] = set()
    for index in range(len(data) if hasattr(data, "__len__") and hasattr(data, "__getitem__") else 0):
        row = data[index]
        ids = row.get("input_ids") if isinstance(row, Mapping) else None
        if ids is None:
            return set()
        inputs = {name: torch.as_tensor(row[name])[None] for name in ("input_ids", "attention_mask") if name in row}
        if inputs["input_ids"].dim() == 2:
            keys.update(row_keys(ForwardPass(inputs, False, ())))
    return keys


def _added(standard: Trace, asked: Trace) -> list[ForwardPass]:
    """What precedes the first backward pass after every second update, and is not there without the evaluations."""
    added = []
    for update in range(EVERY, len(asked.updates) + 1, EVERY):
        usual, now = _between(standard, update), _between(asked, update)
        # Where the number of forward passes is not the same from update to update, something else comes and goes.
        if len({len(_between(standard, other)) for other in range(1, len(standard.updates))}) <= 1:
            added += now[: len(now) - len(usual)]
    return added


def _between(trace: Trace, update: int) -> list[ForwardPass]:
    """The forward passes after ``update`` and before the next backward pass that no gradient came back to."""
    idle = [forward for after, backwards, forward in trace.evaluations if (after, backwards) == (update, 0)]
    following = trace.updates[update].backwards[:1] if update < len(trace.updates) else []
    return idle + [f for backward in following for f in backward.forwards if is_unused(f)]


def is_unused(forward: ForwardPass) -> bool:
    """Whether gradients were recorded in it, and none came back to its logits."""
    return forward.logits is not None and forward.logits_gradient is None
