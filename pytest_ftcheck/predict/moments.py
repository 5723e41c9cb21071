"""From the log of a training to its telling moments, and what was held then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..observers.memory import CATEGORIES
from ..run import Breakdown
from ..theory.parameters import WRAPPERS
from .prediction import SAVED, Held, Moment
from .timeline import Origin, Timeline

PHASES = ("forward", "backward", "optimizer")


def moments(timeline: Timeline, owners: Mapping[int, str]) -> tuple[Moment, ...]:
    """The highest point of each phase of the last update, in the order in which they come; and, between the forward and
    the backward pass, what the one saves for the other.

    ``owners``: number of a storage -> the module that it belongs to, for weights, gradients and optimizer state.
    """
    last = timeline.update - 1
    points: dict[str, tuple[int, int]] = {}
    total = 0
    before = "data"
    for index, event in enumerate(timeline.events):
        if event.update == last:
            if event.phase == "backward" and before == "forward":
                # The last micro-batch's: earlier ones have left their gradients only.
                points[SAVED] = total, index - 1
            before = event.phase
        total += event.bytes
        if event.update == last and event.phase in PHASES and total > points.get(event.phase, (0, 0))[0]:
            points[event.phase] = total, index
    return tuple(_moment(timeline, owners, phase, *points[phase]) for phase in _in_order(points))


def _in_order(points: Iterable[str]) -> list[str]:
    order = ("forward", SAVED, "backward", "optimizer")
    return sorted(points, key=order.index)


def _moment(timeline: Timeline, owners: Mapping[int, str], phase: str, size: int, index: int) -> Moment:
    live: dict[int, int] = {}
    for event in timeline.events[: index + 1]:
        if event.bytes > 0:
            live[event.storage] = event.bytes
        else:
            live.pop(event.storage, None)
    held = _held(timeline, owners, live)
    by_category = dict.fromkeys(CATEGORIES, 0)
    for one in held:
        by_category[one.category] += one.bytes
    return Moment(phase, size, Breakdown(**by_category), held)


def _held(timeline: Timeline, owners: Mapping[int, str], live: Mapping[int, int]) -> tuple[Held, ...]:
    """Storages of one kind together, the largest first."""
    counts: Counter[tuple[str, Origin]] = Counter()
    sizes: Counter[tuple[str, Origin]] = Counter()
    for storage, size in live.items():
        origin = timeline.origin[storage]
        category = timeline.category.get(storage, "temporaries")
        kind = category, Origin(origin.op, pattern(owners.get(storage, origin.module)), origin.dtype)
        counts[kind] += 1
        sizes[kind] += size
    kinds = sorted(counts, key=lambda kind: (-sizes[kind], kind[0], kind[1].module, kind[1].op, kind[1].dtype))
    return tuple(
        Held(category, origin.module, origin.op, origin.dtype, counts[category, origin], sizes[category, origin])
        for category, origin in kinds
    )


def pattern(module: str) -> str:
    """A module's name in the model as it was before adaptation, with ``*`` for numbers of layers.

    ``base_model.model.model.layers.3.self_attn.q_proj.lora_A.default`` is ``model.layers.*.self_attn.q_proj.lora_A``.
    """
    parts = [part for part in module.split(".") if part not in WRAPPERS]
    if parts[:2] == ["base_model", "model"]:
        del parts[:2]
    if len(parts) > 1 and parts[-2].startswith("lora_"):
        del parts[-1]
    return ".".join("*" if part.isdigit() else part for part in parts)
