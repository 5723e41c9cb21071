"""Running checks on a recipe, with or without pytest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import FtcheckError, NotApplicable, RecipeError
from ..evidence.evidence import Evidence
from ..methods import Full
from .catalogue import chosen
from .check import Check, Finding
from .verdict import Verdict

if TYPE_CHECKING:
    from ..recipe import Recipe


def check_training(
    recipe: Recipe,
    *,
    methods: Sequence[str] | None = None,
    select: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> list[Verdict]:
    """Run the catalogue on ``recipe`` and return one ``Verdict`` for each method and check, in the catalogue's order.

    ``methods`` are names in the recipe (default: all that it declares), ``select`` ids or themes of checks (default:
    all). ``expected_failures`` is {check id: reason}, where an id may have the method in front
    (``"lora-labels-shifted-once"``); a check that is in it and passes is "stale", which is a failure.

    What the checks find is in ``verdict.findings``, and nothing is raised for it: ``[v for v in verdicts if v.failed]``
    are the failures, ``str(verdict)`` is for people and ``verdict.to_json()`` for machines. Raises RecipeError for the
    name of a check, theme or method that does not exist.
    """
    expected = dict(expected_failures or {})
    refuse_unknown(expected)
    checks = chosen(select)
    names = list(recipe.declared_methods) if methods is None else list(methods)
    for name in names:
        recipe.method(name)
    verdicts = []
    for name in names:
        evidence = Evidence(recipe, name, device, seed)
        verdicts += [examine(check, evidence, expectation(expected, name, check.id)) for check in checks]
    return verdicts


def refuse_unknown(expected: Mapping[str, str]) -> None:
    """Raise RecipeError for an expected failure of a check that does not exist, or without a reason."""
    known = tuple(check.id for check in chosen())
    suffixes = tuple(f"-{id}" for id in known)
    for id, reason in expected.items():
        if id not in known and not id.endswith(suffixes):
            raise RecipeError(f"expected_failures names {id!r}; allowed: ids of checks (--ftcheck-list-checks)")
        if not (isinstance(reason, str) and reason.strip()):
            raise RecipeError(f"expected_failures[{id!r}] is {reason!r}; allowed: the reason, as a text")


def expectation(expected: Mapping[str, str], method: str, id: str) -> str | None:
    """The reason why the check called ``id`` is expected to fail on ``method``; None where it is not."""
    return expected.get(f"{method}-{id}", expected.get(id))


def examine(check: Check, evidence: Evidence, expected: str | None = None) -> Verdict:
    """One check on one method. ``expected`` is the reason why it is expected to fail."""
    start = time.perf_counter()
    status, reason = "passed", ""
    findings: tuple[Finding, ...] = ()
    try:
        refuse_inapplicable(check, evidence)
        with warnings.catch_warnings():
            # What a check tries out may be warned of, and a user may have turned warnings into errors.
            warnings.simplefilter("ignore")
            findings = tuple(check.function(evidence))
        status = "failed" if findings else "passed"
    except NotApplicable as answer:
        status, reason = "not applicable", str(answer)
    except FtcheckError as error:
        status, reason = "blocked", str(error)
    except Exception as error:  # one check that breaks must not take the others with it
        status, reason = "error", _where(error)
    if expected is not None:
        status, reason = _against_expectation(status, reason, expected)
    return Verdict(
        check=check.id,
        theme=check.theme,
        method=evidence.method_name,
        claim=check.claim,
        status=status,
        findings=findings,
        reason=reason,
        links=tuple(link for link in check.catches if link.startswith("http")),
        seconds=time.perf_counter() - start,
        recipe=evidence.recipe.name,
    )


def refuse_inapplicable(check: Check, evidence: Evidence) -> None:
    """Raise NotApplicable where the check is about another kind of method, or needs what is not there."""
    declared = evidence.recipe.declared_methods
    if evidence.method_name not in declared:
        raise NotApplicable(f"the recipe declares no method {evidence.method_name!r}, only {', '.join(declared)}")
    is_full = isinstance(evidence.method, Full)
    if (check.applies == "full" and not is_full) or (check.applies == "adapter" and is_full):
        raise NotApplicable(f"about {'full fine-tuning' if check.applies == 'full' else 'adapters'} only")
    if "gpu" in check.needs and not evidence.device.startswith("cuda"):
        raise NotApplicable("needs a GPU")
    if "processes" in check.needs and evidence.recipe.processes == 1:
        raise NotApplicable("the recipe trains in one process (Recipe.processes)")
    for part in ("save", "load", "merge", "evaluate"):
        if part in check.needs and getattr(evidence.recipe, part) is None:
            raise NotApplicable(f"the recipe has no {part}")


def _against_expectation(status: str, reason: str, expected: str) -> tuple[str, str]:
    if status == "passed":
        return "stale", f"expected to fail ({expected}), and passed: remove it from expected_failures"
    if status == "failed":
        return "expected failure", expected
    return status, reason


def _where(error: Exception) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    places = "".join(f"\n  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-2:])
    return f"the check itself raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{places}"
