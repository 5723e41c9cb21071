"""``--ftcheck-against=REF``: the recipe of this tree and that of another commit, on one machine, in turns.

One item for each recipe and method. The first to run measures all methods, because they are one family of gates.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from ..audit import AuditItem, AuditModule
from ..baseline.decision import FAILED, UNSTABLE
from ..collection import own_recipe
from ..content import is_installed
from ..errors import ComparisonError
from ..recipe import Recipe
from ..rehearsal import flags_of
from ..scratch import prefix
from ..session import SESSION
from .checkout import checked_out, commit_of, toplevel
from .comparison import Comparison
from .contestant import LIMIT_S, Contestant, python
from .cost import Cost, changes
from .interleaving import UPDATES, compare, interleaved
from .step_time import Round

THIS = "this tree"
METHODS = ("full", "lora")
START = "from pytest_ftcheck.comparison.visit import main; main()"
SEED = 0


def against_items(module: AuditModule) -> Iterator[AuditItem]:
    """One item for each method that the session's options choose."""
    for method in module.config.stash[SESSION].settings.methods or METHODS:
        item: AuditItem = AuditItem.from_parent(module, name=method, callobj=partial(_compare, method=method))
        yield item


def _compare(request: pytest.FixtureRequest, ft_recipe: Recipe, ft_device: str, method: str = "") -> None:
    item = request.node
    session, folder = item.config.stash[SESSION], item.path.parent
    if own_recipe(item.parent.parent) is None:
        pytest.fail(f"--ftcheck-against: no ft_recipe is defined for {folder}", pytrace=False)
    if method not in ft_recipe.declared_methods:
        pytest.skip(f"not applicable: the recipe has no method {method!r}")
    if folder not in session.comparisons:
        methods = [name for name in session.settings.methods or METHODS if name in ft_recipe.declared_methods]
        try:
            session.comparisons[folder] = Against(item.config, folder, ft_device).compare(ft_recipe.name, methods)
        except ComparisonError as error:
            # "from None": pytest would print the text of a chained error once more.
            raise pytest.fail.Exception(f"--ftcheck-against: {error}", pytrace=False) from None
    comparison = session.comparisons[folder][method]
    session.fresh["comparisons"].append(comparison.to_json())
    text = "\n".join(comparison.lines())
    if comparison.verdict == FAILED:
        pytest.fail(text, pytrace=False)
    if comparison.verdict == UNSTABLE:
        pytest.skip(text)


class Against:
    """Trains the recipe that applies in ``folder`` in this tree, and in that of the other commit."""

    def __init__(self, config: pytest.Config, folder: Path, device: str) -> None:
        self._config, self._folder, self._device = config, folder, device
        settings = config.stash[SESSION].settings
        self._limit_s = settings.time_limit or LIMIT_S
        self._ref = str(settings.against)
        self._top = toplevel(folder)
        self._order = random.Random(SEED)
        self._costs: dict[str, tuple[Cost, Cost]] = {}

    def compare(self, recipe: str, methods: Sequence[str]) -> dict[str, Comparison]:
        """All methods, by name. Raises ComparisonError where one of the two does not train."""
        commit = commit_of(self._ref, self._top)
        with checked_out(commit, self._top) as tree:
            found = compare(
                methods, lambda method, alpha: self._fresh(method, alpha, tree), (self._ref, THIS), self._device
            )
        return {
            method: Comparison(recipe, changes(*self._costs[method]), step_time) for method, step_time in found.items()
        }

    def _fresh(self, method: str, alpha: float, tree: Path) -> Round:
        """A round, from two new processes; the first time, what the method costs, too."""
        with self._started(self._ref, tree) as reference, self._started(THIS, self._top) as candidate:
            both = (reference, candidate)
            if method not in self._costs:
                for one in both:
                    one.ask(what="cost", method=method, seed=SEED)
                a, b = (Cost.from_json(one.answer()["cost"]) for one in both)
                self._costs[method] = (a, b)
            for one in both:
                one.ask(what="train", method=method, seed=SEED, steps=UPDATES)
            for one in both:
                one.answer()
            return interleaved(reference, candidate, self._order, alpha)

    @contextlib.contextmanager
    def _started(self, name: str, tree: Path) -> Iterator[Contestant]:
        visit = {
            "arguments": self._arguments(tree),
            "folder": str(self._in(tree, self._folder)),
            "elsewhere": "" if tree == self._top else str(self._top),
        }
        search = os.pathsep.join(self._search(tree, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        with tempfile.TemporaryDirectory(prefix=prefix() + "compare-", ignore_cleanup_errors=True) as scratch:
            command = python(START, json.dumps(visit), search=self._search(tree))
            start, where = self._in(tree, self._config.invocation_params.dir), {**environment, "PYTHONPATH": search}
            # A folder that the other commit does not have.
            start = start if start.is_dir() else tree
            with Contestant(name, command, start, Path(scratch), where, self._limit_s) as one:
                yield one

    def _arguments(self, tree: Path) -> list[str]:
        """How pytest is called in ``tree``."""
        arguments = [str(self._in(tree, self._folder)), "--rootdir", str(self._in(tree, self._config.rootpath))]
        if self._config.inipath is not None and self._in(tree, self._config.inipath).is_file():
            arguments += ["-c", str(self._in(tree, self._config.inipath))]
        return [*arguments, *flags_of(self._config)]

    def _in(self, tree: Path, path: Path) -> Path:
        """The same place in ``tree``; what is outside of the repository stays where it is."""
        path = path.resolve()
        return tree / path.relative_to(self._top) if path.is_relative_to(self._top) else path

    def _search(self, tree: Path, entries: Sequence[str] | None = None) -> list[str]:
        """``sys.path`` (or ``entries``) for ``tree``: an editable install, or PYTHONPATH, points into this one."""
        entries = [*map(str, sys.path)] if entries is None else [entry for entry in entries if entry]
        return [entry if is_installed(Path(entry).resolve()) else str(self._in(tree, Path(entry))) for entry in entries]
