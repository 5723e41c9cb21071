"""The items of ``pytest --ftcheck-audit``: tests without a test file.

They are ordinary functions under a name of their own, in a module that has no file: so fixtures, ``-k``, ``--lf``,
JUnit files and workers treat them as they treat any test.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from .parametrize import PlannedCheck, planned_checks
from .session import SESSION

if TYPE_CHECKING:
    from .checks.check import Sabotage
    from .stack import Subject

CHECKS, STACK, AGAINST = "ftcheck-audit", "ftcheck-stack", "ftcheck-against"


class AuditItem(pytest.Function):
    """A function of ours under the name of what it examines: a check, a subject, a broken recipe."""

    of_ftcheck = True
    plan: PlannedCheck
    subject: Subject
    sabotage: Sabotage

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class AuditModule(pytest.Module):
    """The items of an audit, as if a test file in the audited folder had them. ``make`` yields them."""

    make: Callable[[AuditModule], Iterator[AuditItem]]

    def _getobj(self) -> ModuleType:
        return sys.modules[__name__]

    def collect(self) -> Iterator[AuditItem]:
        return self.make(self)


def module_in(folder: pytest.Directory, name: str, make: Callable[[AuditModule], Iterator[AuditItem]]) -> AuditModule:
    """A module called ``name`` that stands in ``folder``, whose recipe it so gets."""
    module: AuditModule = AuditModule.from_parent(folder, path=folder.path / name)
    module.make = make
    return module


def check_items(module: AuditModule) -> Iterator[AuditItem]:
    """One item for each check and method that the session's options choose."""
    settings = module.config.stash[SESSION].settings
    for plan in planned_checks(settings.methods or None, settings.checks, settings.expected_failures):
        item: AuditItem = AuditItem.from_parent(module, name=plan.id, callobj=_run_check)
        item.plan = plan
        yield item


def _run_check(ft_check: Callable[[], None]) -> None:
    ft_check()


def stack_items(module: AuditModule) -> Iterator[AuditItem]:
    """One item for each subject of the stack audit."""
    from .stack import subjects

    for subject in subjects():
        item: AuditItem = AuditItem.from_parent(module, name=subject.id, callobj=_examine_subject)
        item.subject = subject
        yield item


def _examine_subject(request: pytest.FixtureRequest) -> None:
    from .outcome import conclude_all

    __tracebackhide__ = True
    item = request.node
    assert isinstance(item, AuditItem)
    session = item.config.stash[SESSION]
    seeds = range(session.settings.seeds or 1)
    conclude_all(session, [verdict for seed in seeds for verdict in item.subject.examine(seed)])
