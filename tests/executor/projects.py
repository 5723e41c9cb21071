"""A project whose runs can be trained on nodes, and sessions of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1]
# Each node has a GPU that it only claims to have. To the first one, the head, sessions connect.
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
HEAD = {**NODE, "include_dashboard": False}
# For a machine whose cores are shared: a session takes seconds on a quiet one.
PATIENCE_S = 240
CONFTEST = """
import pytest
import quick
from pytest_ftcheck.executor import remote

# Trainings are on the CPU; this one pretends that they need a GPU, or more than there are.
remote.gpus_of = lambda request: 7 if request.recipe.name == "large" else 1

@pytest.fixture(scope="module")
def ft_recipe(request):
    return quick.recipe(getattr(request.module, "RECIPE", "sound"))
"""
Note = dict[str, str]
NAMES = ("what", "run", "process", "node", "gpus", "folder")


class Project:
    """A folder with tests of quick recipes, and what was trained for them."""

    def __init__(self, folder: Path, address: str = "") -> None:
        self.root, self._place, self._address = folder / "project", folder / "place", address
        self._sessions: list[subprocess.Popen[str]] = []
        self.root.mkdir()
        self._place.mkdir()
        (self.root / "conftest.py").write_text(CONFTEST)
        (self.root / "quick.py").write_text((TESTS / "executor" / "quick.py").read_text())
        (self.root / "data.txt").write_text("some data")
        (self.root / "place.json").write_text(json.dumps(str(self._place)))

    def start(self, *arguments: str, cache: str = "cache", executor: str = "ray") -> subprocess.Popen[str]:
        """A session. Other plugins take longer to load than it takes."""
        command = ["-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-p", "pytest_ftcheck.plugin", "-p", "xdist"]
        options = ["--ftcheck-device=cpu", f"--ftcheck-cache-dir={cache}", f"--ftcheck-executor={executor}"]
        hidden = ("PYTEST_XDIST", "PYTEST_CURRENT_TEST", "RAY_ADDRESS", "FTCHECK")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        variables |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": search_path()}
        session = subprocess.Popen(
            [sys.executable, *command, *options, *arguments],
            cwd=self.root,
            env=variables | ({"RAY_ADDRESS": self._address} if self._address else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._sessions.append(session)
        return session

    def close(self) -> None:
        """End the sessions of a test that has failed."""
        for session in self._sessions:
            session.kill()
            session.communicate()

    def session(self, *arguments: str, **given: str) -> str:
        """What a whole session prints."""
        return self.start(*arguments, **given).communicate(timeout=PATIENCE_S)[0]

    def hold(self, run: str) -> Callable[[], None]:
        """Let trainings of ``run``, such as "full-0", wait until what is returned is called."""
        (self._place / f"hold-{run}").touch()
        return (self._place / f"hold-{run}").unlink

    def notes(self, what: str) -> list[Note]:
        log = self._place / "trained.log"
        lines = log.read_text().splitlines() if log.exists() else []
        notes = [dict(zip(NAMES, line.split(), strict=True)) for line in lines]
        return [note for note in notes if note["what"] == what]

    def counts(self, what: str) -> Counter[str]:
        """How often the training of each run was started, or finished."""
        return Counter(note["run"] for note in self.notes(what))


def search_path() -> str:
    return os.pathsep.join([str(TESTS), str(TESTS.parent)])
