from __future__ import annotations

from pytest_ftcheck.progress.state import State


class Listener:
    """An audience that takes down what it is told."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.endings = 0

    def tell(self, state: State) -> None:
        self.states.append(state)

    def ended(self) -> None:
        self.endings += 1
