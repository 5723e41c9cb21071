"""A contestant in a tree of its own: pytest finds the ``ft_recipe`` that is defined there, and it is trained in turns.

Run in a process, with a JSON object on the command line: the ``arguments`` of pytest, the ``folder`` whose recipe is
meant, and the folder ``elsewhere`` that nothing may be imported from (empty: anything may).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..audit import AuditItem, AuditModule
from ..collection import Collection, own_recipe
from ..content import is_installed
from ..errors import ComparisonError
from .turns import Line, serve

NAME = "ftcheck-contestant"


@dataclass(frozen=True)
class Visit:
    """What the process was asked for."""

    arguments: list[str]
    folder: str
    elsewhere: str

    def items(self, module: AuditModule) -> Iterator[AuditItem]:
        """The one item that trains the recipe of the folder."""
        if module.path.parent == Path(self.folder) and own_recipe(_directory(module)) is not None:
            yield AuditItem.from_parent(module, name="contestant", callobj=_train)

    def refuse_imports_from_elsewhere(self) -> None:
        """Raise ComparisonError where a module came from the other tree: then one tree is compared with itself."""
        if not self.elsewhere:
            return
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and _is_of(Path(file).resolve(), Path(self.elsewhere)):
                raise ComparisonError(
                    f"it imported {name} from this tree ({file})\n"
                    "  likely cause: an editable install, or a path in the code, that points there; import the package"
                    " by a folder on sys.path (pytest's pythonpath), or install it from each tree (tox)"
                )


VISIT = pytest.StashKey[Visit]()
LINE = pytest.StashKey[Line]()


def _directory(module: AuditModule) -> pytest.Directory:
    assert isinstance(module.parent, pytest.Directory)
    return module.parent


def _is_of(file: Path, tree: Path) -> bool:
    return file.is_relative_to(tree) and not is_installed(file)


def _train(ft_recipe: Any, ft_device: str, pytestconfig: pytest.Config) -> None:
    visit = pytestconfig.stash[VISIT]
    serve(ft_recipe, ft_device, pytestconfig.stash[LINE], visit.refuse_imports_from_elsewhere)


class Visitor(Collection):
    """Collects the folder's recipe alone."""

    def __init__(self, visit: Visit, line: Line) -> None:
        super().__init__(NAME, visit.items, own=True)
        self._visit, self._line = visit, line

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[VISIT], config.stash[LINE] = self._visit, self._line

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say why the recipe could not be had."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message if crash else report.longrepr).splitlines()[0]
            self._line.answer(error=f"ft_recipe: {why}")


def main() -> None:
    """Serve until the coordinator is gone."""
    line = Line.of_this_process()
    visit = Visit(**json.loads(sys.argv[1]))
    del sys.argv[1:]
    status = pytest.main([*visit.arguments, "-s"], plugins=[Visitor(visit, line)])
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        line.answer(error=f"no ft_recipe is defined for {visit.folder}")
    sys.exit(status)
