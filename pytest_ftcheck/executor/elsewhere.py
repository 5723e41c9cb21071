"""The side of a worker: what asks the controller for runs, and waits."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FtcheckError
from ..run import Run
from .mailbox import Mailbox, Order
from .outcome import Outcome

if TYPE_CHECKING:
    from ..runner import Request

# Threads of a run whose recipe leaves their number open; also what it asks the cluster for.
CPUS = 1


def gpus_of(request: Request) -> int:
    """How many GPUs a run needs."""
    return 0 if request.device == "cpu" else 1


@dataclass(frozen=True)
class Surroundings:
    """Where runs are carried out: the most GPUs that one node has, and the kinds of GPUs that there are."""

    gpus: int = 0
    gpu_names: tuple[str, ...] = ()


class Elsewhere:
    """Runs from the controller whose mailbox is ``folder``."""

    # How long to wait before looking for an answer again.
    poll_s = 0.05

    def __init__(self, folder: Path, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self._mailbox = Mailbox(folder)

    def to_json(self) -> str:
        """What a worker needs to know to ask the same controller."""
        return json.dumps({"folder": str(self._mailbox.folder), **asdict(self.surroundings)})

    @classmethod
    def from_json(cls, text: str) -> Elsewhere:
        data = json.loads(text)
        return cls(Path(data["folder"]), Surroundings(data["gpus"], tuple(data["gpu_names"])))

    def device(self, wanted: str) -> str:
        """The device of runs: auto is a GPU where a node has one. Which one it is, the node decides."""
        return "cpu" if wanted == "cpu" or (wanted == "auto" and not self.surroundings.gpus) else "cuda"

    def lacks(self, count: int) -> str | None:
        """Why the cluster's GPUs do not do for a test that needs ``count`` on one node; None if they do. Ray does not
        know how large they are.
        """
        most = self.surroundings.gpus
        return None if most >= count else f"needs {count} GPU(s) on one node, the cluster's nodes have at most {most}"

    def order(self, request: Request, anew: bool = False) -> str:
        """Ask for the run. Returns the ticket by which it will be known; the same for the same run, unless it is to be
        trained ``anew``. Raises FtcheckError where the request cannot be sent.
        """
        from ..predict.parcel import packed

        cpus = request.recipe.threads or CPUS
        request = request.on_threads(cpus)
        key = "" if anew else request.key(self.surroundings.gpu_names) or ""
        title = f"{request.method} (seed {request.seed})"
        order = Order(key or secrets.token_hex(16), key, title, gpus_of(request), cpus)
        self._mailbox.ask(order, packed(request))
        return order.ticket

    def outcome(self, ticket: str) -> Run | FtcheckError | None:
        """What came of it; None while nothing has. Raises ExecutorError where nothing will."""
        text = self._mailbox.answered(ticket)
        return None if text is None else Outcome.from_json(text).either
