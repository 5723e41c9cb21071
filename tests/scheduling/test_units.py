"""The scheduler with pretended workers: they run what they are sent, one event at a time, and some of them die."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pytest_ftcheck.scheduling.unit import Unit
from pytest_ftcheck.scheduling.units import UnitScheduling


class Node:
    """Begins a test when it knows the next one or that there is none, as a worker of pytest-xdist does."""

    def __init__(self, owned: Sequence[int] | None = None) -> None:
        self.owned = owned
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, tests: Sequence[int]) -> None:
        assert not self.shutting_down
        self.sent += tests

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> int | None:
        return self.sent[0] if self.sent and (len(self.sent) > 1 or self.shutting_down) else None


class Session:
    """What pytest-xdist does with a scheduler; ``deadly`` tests kill their worker, and another takes its place."""

    def __init__(self, units: Sequence[Unit], nodes: Sequence[Node], deadly: Sequence[int] = ()) -> None:
        self.ids = [f"test_{number}" for number in range(sum(len(unit.tests) for unit in units))]
        self.scheduler = UnitScheduling(self.ids, units, nodes, lambda node: node.owned)
        self.deadly, self.ran, self.killed = set(deadly), dict[int, Node](), list[str]()
        # For each test, what ran beside it; and the order in which tests began.
        self.beside: dict[int, set[int]] = {}
        self.begun: list[int] = []

    def run(self, chance: random.Random) -> None:
        self.scheduler.schedule()
        for _ in range(20 * len(self.ids) + 20):
            self._look()
            nodes = self.scheduler.nodes
            ready = [node for node in nodes if node.running is not None or (node.shutting_down and not node.sent)]
            if not ready:
                break
            self._step(chance.choice(ready))
            if self.scheduler.tests_finished:
                for node in self.scheduler.nodes:
                    node.shutdown()
        assert not self.scheduler.nodes, "a worker waits for ever"
        assert not self.scheduler.has_pending

    def _look(self) -> None:
        running = {node.running for node in self.scheduler.nodes} - {None}
        for test in running:
            self.beside.setdefault(test, set()).update(running - {test})
            if test not in self.begun:
                self.begun.append(test)

    def _step(self, node: Node) -> None:
        test = node.running
        if test is None:
            assert self.scheduler.remove_node(node) is None
        elif test in self.deadly:
            self.killed.append(str(self.scheduler.remove_node(node)))
            successor = Node(node.owned)
            self.scheduler.add_node(successor)
            self.scheduler.add_node_collection(successor, self.ids)
            self.scheduler.schedule()
        else:
            assert test not in self.ran, "a test ran twice"
            self.ran[test] = node
            node.sent.pop(0)
            self.scheduler.mark_test_complete(node, test, 0.5)


def units(*tests: Sequence[int], alone: Sequence[int] = (), gpus: int = 0) -> list[Unit]:
    return [Unit(list(unit), alone=any(test in alone for test in unit), gpus=gpus) for unit in tests]


@pytest.mark.parametrize("seed", range(60))
def test_every_test_runs_once_whole_units_together_and_what_is_alone_beside_nothing(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randrange(0, 14)
    order, parts = list(range(count)), list[list[int]]()
    while order:
        size = chance.randint(1, 4)
        parts.append(order[:size])
        order = order[size:]
    lonely = [test for part in parts if chance.random() < 0.2 for test in part]
    session = Session(units(*parts, alone=lonely), [Node() for _ in range(chance.randint(1, 5))])
    session.run(chance)
    assert sorted(session.ran) == list(range(count))
    for part in parts:
        assert len({session.ran[test] for test in part}) == 1
    assert not any(session.beside[test] for test in lonely)


@pytest.mark.parametrize("seed", range(60))
def test_a_test_that_kills_its_worker_is_blamed_once_and_no_other_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    parts = [[0, 1, 2], [3], [4, 5], [6], [7, 8, 9, 10]]
    deadly = chance.sample(range(11), chance.randint(1, 4))
    owned = chance.choice([None, (0,)])
    session = Session(
        units(*parts, alone=[3], gpus=chance.randint(0, 1)), [Node(owned) for _ in range(chance.randint(1, 3))], deadly
    )
    session.run(chance)
    assert sorted(session.killed) == sorted(f"test_{test}" for test in deadly)
    assert sorted(session.ran) == sorted(set(range(11)) - set(deadly))


def test_the_first_unit_begins_first_and_a_second_worker_has_the_second() -> None:
    session = Session(units([0, 1], [2, 3], [4, 5]), [Node(), Node()])
    session.run(random.Random(0))
    assert set(session.begun[:2]) == {0, 2}
    assert session.ran[0] is not session.ran[2]


def test_a_unit_goes_to_a_worker_that_owns_the_gpus_it_needs() -> None:
    large, small, none = Node((80, 80)), Node((24,)), Node(())
    wanted = [
        Unit([0], gpus=2),
        Unit([1], gpus=1, memory_bytes=40),
        Unit([2], gpus=1, memory_bytes=20),
        Unit([3]),
        Unit([4], gpus=1, alone=True),
    ]
    for seed in range(20):
        nodes = [Node(large.owned), Node(small.owned), Node(none.owned)]
        session = Session(wanted, nodes)
        session.run(random.Random(seed))
        assert session.ran[0] is session.ran[1] is nodes[0]
        assert nodes[2] not in (session.ran[2], session.ran[4])


def test_a_unit_that_nobody_can_take_runs_all_the_same_and_so_is_told() -> None:
    session = Session([Unit([0], gpus=3), Unit([1], gpus=1)], [Node((80, 80)), Node((80,))])
    session.run(random.Random(0))
    assert sorted(session.ran) == [0, 1]


def test_alone_on_gpus_is_a_gpu_of_ones_own() -> None:
    session = Session(units([0, 1], [2, 3], alone=[0, 1], gpus=1), [Node((80,)), Node((80,))])
    session.run(random.Random(0))
    assert session.ran[0] is not session.ran[2]
    assert session.begun[0] == 0


def test_what_tests_took_is_remembered_by_their_ids() -> None:
    session = Session(units([0], [1]), [Node()])
    session.run(random.Random(0))
    assert session.scheduler.seconds == {"test_0": 0.5, "test_1": 0.5}


def test_a_worker_that_sees_other_tests_gets_none() -> None:
    session = Session(units([0, 1]), [Node()])
    stranger = Node()
    session.scheduler.add_node(stranger)
    session.scheduler.add_node_collection(stranger, ["test_0"])
    session.scheduler.schedule()
    assert stranger.sent == []
