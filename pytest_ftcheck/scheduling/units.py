"""A scheduler of units: each goes whole to a worker that owns the GPUs it needs, the longest first; and what shares the
machine with nobody comes last, on one worker, when all others have ended.

What it must do is declared by pytest-xdist (``xdist.scheduler.protocol.Scheduling``). A worker begins a test only when
it knows the next one, or that there is none, so each is kept two tests ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .unit import Unit

AHEAD = 2
# The memory of each GPU that a node owns (0: not known); None where nobody divides GPUs.
Owned = Callable[[Any], Sequence[int] | None]


class UnitScheduling:
    """Distributes ``units`` of the tests ``ids`` among ``nodes``, which have collected just these."""

    collection_is_completed = True

    def __init__(self, ids: Sequence[str], units: Sequence[Unit], nodes: Sequence[Any], owned: Owned) -> None:
        self.seconds: dict[str, float] = {}
        self._ids, self._owned = list(ids), owned
        # A GPU of its own is what such a unit needs to be alone.
        on_gpus = any(owned(node) for node in nodes)
        self._waiting: list[Unit] = []
        self._alone: list[Unit] = []
        for unit in units:
            (self._alone if unit.alone and not (on_gpus and unit.gpus) else self._waiting).append(unit)
        self._pending: dict[Any, list[int]] = {node: [] for node in nodes}
        self._ready = set(nodes)

    @property
    def nodes(self) -> list[Any]:
        return list(self._pending)

    @property
    def tests_finished(self) -> bool:
        unsent = self._waiting or self._alone
        return not unsent and all(len(pending) < AHEAD for pending in self._pending.values())

    @property
    def has_pending(self) -> bool:
        return bool(self._waiting or self._alone or any(self._pending.values()))

    def add_node(self, node: Any) -> None:
        """A worker that takes the place of one that died; it gets work when it has collected."""
        self._pending[node] = []

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """What the new worker has collected. One that sees other tests gets none."""
        if list(collection) == self._ids:
            self._ready.add(node)

    def schedule(self) -> None:
        """Give every worker work."""
        # In turns: a worker must not take its second unit before the last one has its first.
        for ahead in range(1, AHEAD + 1):
            for node in self.nodes:
                self._feed(node, ahead)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        self._pending[node].remove(item_index)
        self.seconds[self._ids[item_index]] = duration
        self._feed(node)

    def mark_test_pending(self, item: str) -> None:
        """Run ``item`` once more; asked for by plugins that handle a crash."""
        self._waiting.insert(0, Unit([self._ids.index(item)]))
        self.schedule()

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        raise NotImplementedError("no test is taken from a worker")

    def remove_node(self, node: Any) -> str | None:
        """Let go of a worker that has ended. Where it died: the test that it died of; others are given out anew."""
        pending = self._pending.pop(node)
        self._ready.discard(node)
        if pending[1:]:
            self._waiting.insert(0, self._rest(node, pending[1:]))
        self.schedule()
        return self._ids[pending[0]] if pending else None

    def _rest(self, node: Any, tests: list[int]) -> Unit:
        """What a worker had been given and not begun; it was chosen for what the worker owned."""
        owned = self._owned(node) or ()
        return Unit(tests, gpus=len(owned), memory_bytes=min(owned, default=0))

    def _feed(self, node: Any, ahead: int = AHEAD) -> None:
        """Keep ``node`` ``ahead`` tests ahead, or end it where nothing is left for it."""
        if node.shutting_down:
            return
        while len(self._pending[node]) < ahead:
            unit = self._next(node)
            if unit is None:
                break
            self._pending[node] += unit.tests
            node.send_runtest_some(unit.tests)
        else:
            return
        if not self._keeps(node):
            node.shutdown()

    def _next(self, node: Any) -> Unit | None:
        if node not in self._ready:
            return None
        for unit in self._waiting:
            if self._fits(node, unit):
                self._waiting.remove(unit)
                return unit
        others = [other for other in self._pending if other is not node]
        if self._alone and not self._waiting and not others:
            return self._alone.pop(0)
        return None

    def _fits(self, node: Any, unit: Unit) -> bool:
        """Whether ``node`` owns what the unit needs; or nobody does, and the test will say so wherever it runs."""
        return _large_enough(self._owned(node), unit) or not any(
            _large_enough(self._owned(other), unit) for other in self._pending
        )

    def _keeps(self, node: Any) -> bool:
        """Whether a worker that has no work now may yet get some: what is alone waits for the others to end."""
        keeper = next((other for other in self._pending if not other.shutting_down), None)
        return node not in self._ready or (node is keeper and bool(self._alone))


def _large_enough(owned: Sequence[int] | None, unit: Unit) -> bool:
    if owned is None or not unit.gpus:
        return True
    return sum(not size or size >= unit.memory_bytes for size in owned) >= unit.gpus
