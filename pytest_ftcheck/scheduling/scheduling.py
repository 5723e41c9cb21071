"""The scheduler of a session: by units where a test is a matter of ours, and pytest-xdist's own where none is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .plan import read_plan
from .unit import units_of
from .units import Owned, UnitScheduling


class Scheduling:
    """Collects as ``--dist load`` does; when all workers have collected, the plan in ``folder`` decides who goes on.

    ``seconds`` is what earlier sessions took for tests, by node id.
    """

    def __init__(self, loading: Any, folder: Path, seconds: Mapping[str, float], owned: Owned) -> None:
        self._now = loading
        self._folder, self._known, self._owned = folder, seconds, owned
        self._decided = False

    @property
    def seconds(self) -> dict[str, float]:
        """What the tests of this session took, by node id; empty where there was no plan."""
        return self._now.seconds if isinstance(self._now, UnitScheduling) else {}

    @property
    def nodes(self) -> list[Any]:
        return self._now.nodes  # type: ignore[no-any-return]

    @property
    def collection_is_completed(self) -> bool:
        return self._now.collection_is_completed  # type: ignore[no-any-return]

    @property
    def tests_finished(self) -> bool:
        return self._now.tests_finished  # type: ignore[no-any-return]

    @property
    def has_pending(self) -> bool:
        return self._now.has_pending  # type: ignore[no-any-return]

    def add_node(self, node: Any) -> None:
        self._now.add_node(node)

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        self._now.add_node_collection(node, collection)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        self._now.mark_test_complete(node, item_index, duration)

    def mark_test_pending(self, item: str) -> None:
        self._now.mark_test_pending(item)

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        self._now.remove_pending_tests_from_node(node, indices)

    def remove_node(self, node: Any) -> str | None:
        return self._now.remove_node(node)  # type: ignore[no-any-return]

    def schedule(self) -> None:
        """Give every worker work; the first time, decide how."""
        if not self._decided:
            self._decided = True
            self._decide(self._now.node2collection)
        self._now.schedule()

    def _decide(self, collections: Mapping[Any, Sequence[str]]) -> None:
        ids, *others = collections.values()
        # Workers that collected different tests end the session, with an explanation, in pytest-xdist.
        plan = read_plan(self._folder, len(ids)) if all(other == ids for other in others) else None
        if plan is not None:
            nodes = list(collections)
            units = units_of(ids, plan, self._known, len(nodes))
            self._now = UnitScheduling(ids, units, nodes, self._owned)
