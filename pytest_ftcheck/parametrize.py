"""Which checks a session runs on which methods, decided before any recipe is known and without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest

from .checks.catalogue import chosen
from .checks.check import Check
from .checks.examination import expectation, refuse_unknown
from .options import Settings

# A recipe declares these unless it says None. Other names are asked for by ``methods``.
DEFAULT_METHODS = ("full", "lora")


class PlannedCheck(NamedTuple):
    """One check on one method. ``expected`` is the reason why it is expected to fail, if it is."""

    check: Check
    method: str
    expected: str | None = None

    @property
    def id(self) -> str:
        """``lora-labels-shifted-once``: the same in every process."""
        return f"{self.method}-{self.check.id}"


def planned_checks(
    methods: Sequence[str] | None = None,
    select: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> list[PlannedCheck]:
    """Every chosen check on every method that it is about, method by method. Raises RecipeError for unknown checks."""
    expected = dict(expected_failures or {})
    refuse_unknown(expected)
    checks = chosen(select)
    names = dict.fromkeys(DEFAULT_METHODS if methods is None else methods)
    pairs = [(check, name) for name in names for check in checks if not _about_others(check, name)]
    return [PlannedCheck(check, name, expectation(expected, name, check.id)) for check, name in pairs]


def _about_others(check: Check, method: str) -> bool:
    """Whether it is known, without a recipe, that ``check`` is about another kind of method."""
    return (method, check.applies) in (("full", "adapter"), ("lora", "full"))


def parametrize_with_checks(
    *,
    methods: Sequence[str] | None = None,
    select: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Decorate a test that takes ``ft_check`` and calls it: it becomes one item for each check and method.

    ::

        @parametrize_with_checks(expected_failures={"rows-reshuffled-each-epoch": "a curriculum"})
        def test_training_is_sound(ft_check):
            ft_check()

    ``methods`` are names of methods of ``ft_recipe`` (default: "full" and "lora"; one that it does not declare is not
    applicable), ``select`` ids or themes of checks (default: all). ``expected_failures`` is {check id: reason}; an id
    may have the method in front. A check that is in it and passes fails the test. Raises RecipeError for unknown names.
    """
    __tracebackhide__ = True
    planned = planned_checks(methods, select, expected_failures)
    return pytest.mark.parametrize("ft_check", [pytest.param(p, id=p.id) for p in planned], indirect=True)


def plan_of(item: pytest.Item) -> PlannedCheck | None:
    """The check that ``item`` was made for, if it was made for one."""
    callspec = getattr(item, "callspec", None)
    plan = getattr(item, "plan", None) if callspec is None else callspec.params.get("ft_check")
    return plan if isinstance(plan, PlannedCheck) else None


def deselect(config: pytest.Config, items: list[pytest.Item], settings: Settings) -> None:
    """Deselect the checks that the session's options leave out, and let ``-k`` select the others by theme as well."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        plan = plan_of(item)
        if plan is not None:
            item.extra_keyword_matches.add(plan.check.theme)
        (kept if plan is None or _chosen(plan, settings) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _chosen(plan: PlannedCheck, settings: Settings) -> bool:
    of_method = not settings.methods or plan.method in settings.methods
    return of_method and (not settings.checks or bool({plan.check.id, plan.check.theme} & set(settings.checks)))
