"""Which folders an audit examines, and what it collects besides.

A folder is audited with the ``ft_recipe`` that tests in it would get. Of the folders given to pytest (or ``testpaths``,
or the current one) and those below, that is each in which a recipe of the user's own comes to apply, once for each
recipe; where there is none at all, the embedded recipe is audited, with a warning. Test files are collected only where
they are given by name, and then their folder is audited too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from . import fixtures
from .audit import AuditItem, AuditModule, module_in

Items = Callable[[AuditModule], Iterator[AuditItem]]


class Collection:
    """The hooks of a session that audits. ``name`` is that of the modules, ``make`` yields their items."""

    def __init__(
        self, name: str, make: Items, *, of_recipe: bool = True, alone: bool = False, own: bool = False
    ) -> None:
        """``of_recipe``: once for each recipe, and not once. ``alone``: without the tests of files given by name.
        ``own``: where there is no recipe of the user's own, ``make`` is left to say so.
        """
        self._name, self._make, self._of_recipe, self._alone, self._own = name, make, of_recipe, alone, own
        self._session: pytest.Session
        # Recipe -> the folder in which it is audited.
        self._homes: dict[Any, Path] = {}
        # Test files that were given by name; and modules of folders that pytest only passes on its way to them.
        self._files: set[Path] = set()
        self._beside_files: list[AuditModule] = []
        # Items that were given by node id, as (folder, name).
        self._wanted: set[tuple[Path, str]] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Let the node id of an item stand for its folder: there is no such file."""
        self._session = session
        arguments = [self._existing(argument, session.startpath) for argument in session.config.args]
        places = [Path(os.path.abspath(session.startpath / arg.partition("::")[0])) for arg in arguments]
        self._files = {place for place in places if place.is_file()}
        # A file below a folder that is given as well comes with that folder; twice, pytest 8 would lose one of them.
        folders = set(places) - self._files
        session.config.args[:] = [
            argument for argument, place in zip(arguments, places, strict=True) if not folders & set(place.parents)
        ]

    def _existing(self, argument: str, start: Path) -> str:
        file, _, name = argument.partition("::")
        if Path(file).name != self._name:
            return argument
        folder = Path(file).parent
        if name:
            self._wanted.add((Path(os.path.abspath(start / folder)), name))
        return str(folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out every file that was not given by name."""
        return True if collection_path.is_file() and collection_path not in self._files else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # after pytest has taken in the fixtures of the folder's conftest.py
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Put the modules of the audit among what a folder holds."""
        report = yield
        if report.passed and isinstance(collector, pytest.Directory):
            report.result = [*self._modules_of(collector), *report.result]
        elif report.passed and isinstance(collector, pytest.Session):
            # Last, so that it is known by then whether anything else is audited.
            report.result = [*self._beside_files, *report.result, *self._last_resort(report.result)]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the items that were asked for."""
        unknown = self._wanted - {(item.path.parent, item.name) for item in items}
        if unknown:
            _, name = min(unknown)
            raise pytest.UsageError(f"no item {self._name}::{name}; --ftcheck-list-checks shows the checks")
        items[:] = [item for item in items if self._asked_for(item)]

    def _asked_for(self, item: pytest.Item) -> bool:
        if not isinstance(item, AuditItem):
            return not self._alone
        return not self._wanted or (item.path.parent, item.name) in self._wanted

    def _modules_of(self, folder: pytest.Directory) -> list[AuditModule]:
        given = any(self._session.isinitpath(path) for path in (folder.path, *folder.path.parents))
        holds_given_file = any(file.parent == folder.path for file in self._files)
        if not (given or holds_given_file):
            return []
        recipe = own_recipe(folder) if self._of_recipe else self._name
        if recipe is None or self._homes.setdefault(recipe, folder.path) != folder.path:
            return []
        module = module_in(folder, self._name, self._make)
        if given:
            return [module]
        self._beside_files.append(module)
        return []

    def _last_resort(self, nodes: Sequence[Any]) -> list[AuditModule]:
        folders = [node for top in nodes for node in top.listchain() if isinstance(node, pytest.Directory)]
        return [module_in(folders[-1], self._name, self._embedded)] if folders else []

    def _embedded(self, module: AuditModule) -> Iterator[AuditItem]:
        if self._homes:
            return
        if not self._own:
            assert module.parent is not None
            module.parent.warn(
                pytest.PytestWarning("ftcheck: no ft_recipe is defined here; the embedded one is audited")
            )
        yield from self._make(module)


def own_recipe(folder: pytest.Directory) -> Any:
    """The fixture ``ft_recipe`` that applies to tests in ``folder``; None where that is the embedded one."""
    # Private, and what pytest itself asks for every fixture of every test.
    found = folder.session._fixturemanager.getfixturedefs("ft_recipe", folder)
    return found[-1] if found and found[-1].func.__module__ != fixtures.__name__ else None
