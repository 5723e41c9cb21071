"""``--ftcheck-sabotage``: the recipe is broken in every way that the catalogue knows, and who notices is counted.

One item for each way. With ``--ftcheck-audit`` the catalogue is asked; the user's own tests on ``ft_recipe`` always
are. Only what passes on the sound recipe and fails on the broken one has noticed.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from .audit import AuditItem, AuditModule
from .checks.catalogue import chosen, sabotages
from .checks.check import Check, Cost, Sabotage
from .checks.examination import examine
from .checks.verdict import Verdict
from .errors import NotApplicable
from .evidence.evidence import Evidence
from .methods import Full
from .recipe import Recipe
from .rehearsal import Rehearsal, arguments_of
from .session import SESSION
from .trial import Trial

SABOTAGE = "ftcheck-sabotage"
# Checks that a broken recipe is no control of are tried for so long: beyond, it counts as missed.
BUDGET_S = 30.0
# How a training says that a sabotage found nothing to break in it.
REFUSED = f"raised {NotApplicable.__name__}: "
# Parts that a loop of the user's own need not use.
MAY_BE_IGNORED = {"collate", "loss", "train_data"}
BY_COST: tuple[Cost, ...] = ("reading", "model", "training")


def sabotage_items(module: AuditModule) -> Iterator[AuditItem]:
    """One item for each way to break a recipe that the chosen checks must notice."""
    checks = chosen(module.config.stash[SESSION].settings.checks)
    for sabotage in sabotages(checks):
        item: AuditItem = AuditItem.from_parent(module, name=sabotage.id, callobj=_break_and_see)
        item.sabotage = sabotage
        item.extra_keyword_matches |= {check.theme for check in checks if sabotage in check.controls}
        yield item


def _break_and_see(request: pytest.FixtureRequest, ft_recipe: Recipe, _ft_evidence: Callable[[str], Evidence]) -> None:
    __tracebackhide__ = True
    item = request.node
    assert isinstance(item, AuditItem)
    trial = attempt(item, ft_recipe, _ft_evidence)
    session = item.config.stash[SESSION]
    session.fresh["trials"].append(trial.to_json())
    if trial.not_tried:
        pytest.skip(f"could not be tried: {trial.not_tried}")
    if trial.missed and session.settings.sabotage == "strict":
        pytest.fail(f"nobody noticed: {trial.breaks}", pytrace=False)


def attempt(item: AuditItem, recipe: Recipe, sound: Callable[[str], Evidence]) -> Trial:
    """Break the recipe in the item's way and ask whoever is to be asked. ``sound(method)`` is the recipe's evidence."""
    session, sabotage, start = item.config.stash[SESSION], item.sabotage, time.perf_counter()
    by_check, by_test, not_tried = None, None, ""
    try:
        methods = broken_methods(sabotage, recipe, session.settings.methods)
        if session.settings.audit:
            by_check = first_check_to_notice(sabotage, methods, sound, chosen(session.settings.checks))
        else:
            sabotage.apply(recipe)
        tests = own_tests(item)
        by_test = tests.first_to_notice(sabotage.id) if tests.sound else None
    except NotApplicable as reason:
        not_tried = str(reason)
    seconds = time.perf_counter() - start
    return Trial(sabotage.id, sabotage.breaks, recipe.name, by_check, by_test, not_tried, seconds)


def broken_methods(sabotage: Sabotage, recipe: Recipe, asked: Sequence[str] = ()) -> list[str]:
    """The methods of ``recipe`` that ``sabotage`` breaks, adapters first: they train faster."""
    declared = recipe.declared_methods
    names = sorted(
        (name for name in asked or declared if name in declared), key=lambda n: isinstance(declared[n], Full)
    )
    kinds = {name: "full" if isinstance(declared[name], Full) else "adapter" for name in names}
    fitting = [name for name in names if sabotage.method in ("any", kinds[name])]
    if not fitting:
        raise NotApplicable(f"breaks {sabotage.method} only, and the recipe has no such method")
    return fitting


def first_check_to_notice(
    sabotage: Sabotage, methods: Sequence[str], sound: Callable[[str], Evidence], checks: Sequence[Check]
) -> str:
    """``lora-labels-shifted-once`` for the first check that fails on the broken recipe alone; "" where none does."""
    reference = sound(methods[0])
    broken = sabotage.apply(reference.recipe)
    evidence = {name: Evidence(broken, name, reference.device, reference.seed) for name in methods}
    own = [check for check in checks if sabotage in check.controls]
    others = [check for check in likely_first(sabotage, checks) if check not in own]
    found = _noticing(own, evidence, sound, time_s=math.inf)
    if not found:
        _refuse_without_effect([examine(check, sound(name)) for check in own for name in methods])
        found = _noticing(others, evidence, sound, time_s=BUDGET_S)
    if not found and all(_is_ignored(sound(name), evidence[name]) for name in methods):
        raise NotApplicable("the training does not use the part of the recipe that this breaks")
    return found


def _noticing(
    checks: Sequence[Check], broken: Mapping[str, Evidence], sound: Callable[[str], Evidence], time_s: float
) -> str:
    start = time.perf_counter()
    for check in checks:
        if time.perf_counter() - start > time_s:
            break
        for name, evidence in broken.items():
            verdict = examine(check, evidence)
            if verdict.status == "blocked" and REFUSED in verdict.reason:
                raise NotApplicable(verdict.headline.partition(REFUSED)[2])
            if verdict.status in ("failed", "blocked") and not _fails_anyway(check, sound(name)):
                return verdict.id
    return ""


def _refuse_without_effect(own: Sequence[Verdict]) -> None:
    """Raise NotApplicable where no check that must notice has anything to look at in the sound recipe either."""
    if own and not any(verdict.applies for verdict in own):
        raise NotApplicable(own[0].reason)


def _is_ignored(sound: Evidence, broken: Evidence) -> bool:
    """Whether the two recipes differ in nothing but parts that a loop of the user's own may leave aside, and the
    training ends at the same parameters, bit by bit.
    """
    fields = dataclasses.fields(sound.recipe)
    changed = {f.name for f in fields if getattr(sound.recipe, f.name) is not getattr(broken.recipe, f.name)}
    if not changed <= MAY_BE_IGNORED:
        return False
    final, other = sound.standard.final, broken.standard.final
    return final.keys() == other.keys() and all(value.equal(other[name]) for name, value in final.items())


def likely_first(sabotage: Sabotage, checks: Sequence[Check]) -> list[Check]:
    """``checks``, first those whose control this is, then their themes, then the cheap ones."""
    themes = {check.theme for check in checks if sabotage in check.controls}
    return sorted(checks, key=lambda c: (sabotage not in c.controls, c.theme not in themes, BY_COST.index(c.cost)))


def _fails_anyway(check: Check, sound: Evidence) -> bool:
    return sound.once(("fails on the sound recipe", check.id), lambda: examine(check, sound).failed)


def own_tests(item: AuditItem) -> Rehearsal:
    """The user's own tests in the item's folder: in the files that were given by name, or else in all."""
    session, folder = item.config.stash[SESSION], item.path.parent
    if folder not in session.rehearsals:
        start = item.config.invocation_params.dir
        files = [argument for argument in item.config.args if (start / argument.partition("::")[0]).is_file()]
        here = [argument for argument in files if folder in Path(start / argument).parents]
        arguments = arguments_of(item.config, here or [str(folder)])
        # Where there is an audit, the catalogue is asked apart from the tests.
        session.rehearsals[folder] = Rehearsal(arguments, start, with_checks=not session.settings.audit)
    return session.rehearsals[folder]
