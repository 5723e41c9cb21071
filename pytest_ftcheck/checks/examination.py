"""Running checks on a recipe, with or without pytest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import FtcheckError, RecipeError
from ..methods import Full
from .catalogue import catalogue, chosen
from .check import Check, NotApplicable
from .evidence import Evidence
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
    """Run the catalogue on ``recipe`` and return one ``Verdict`` for each check and method; nothing is raised for what
    the checks find.

    ``methods`` are names in the recipe (default: all that it declares), ``select`` ids or themes of checks (default:
    all). ``expected_failures`` is {check id: reason}; a check that is in it and passes is "stale", which is a failure.
    Raises RecipeError for a name that does not exist.
    """
    expected = dict(expected_failures or {})
    refuse_unknown(expected)
    names = list(recipe.declared_methods) if methods is None else list(methods)
    verdicts = []
    for name in names:
        evidence = Evidence(recipe, name, device, seed)
        for check in chosen(select):
            verdicts.append(examine(check, evidence, expected.get(check.id)))
    return verdicts


def refuse_unknown(expected: Mapping[str, str]) -> None:
    """Raise RecipeError for an expected failure of a check that does not exist, or without a reason."""
    known = {check.id for check in catalogue()}
    for id, reason in expected.items():
        if id not in known:
            raise RecipeError(f"expected_failures names {id!r}; allowed: ids of checks (--ftcheck-list-checks)")
        if not (isinstance(reason, str) and reason.strip()):
            raise RecipeError(f"expected_failures[{id!r}] is {reason!r}; allowed: the reason, as a text")


def examine(check: Check, evidence: Evidence, expected: str | None = None) -> Verdict:
    """One check on one method. ``expected`` is the reason why it is expected to fail."""
    start = time.perf_counter()
    status, findings, reason = "passed", (), ""
    try:
        refuse_inapplicable(check, evidence)
        findings = tuple(check.function(evidence))
        status = "failed" if findings else "passed"
    except NotApplicable as answer:
        status, reason = "not applicable", str(answer)
    except FtcheckError as error:
        status, reason = "blocked", str(error)
    except Exception as error:  # noqa: BLE001 - one check that breaks must not take the others with it
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
    )


def refuse_inapplicable(check: Check, evidence: Evidence) -> None:
    """Raise NotApplicable where the check is about another kind of method, or needs what is not there."""
    is_full = isinstance(evidence.method, Full)
    if (check.applies == "full" and not is_full) or (check.applies == "adapter" and is_full):
        raise NotApplicable(f"about {'full fine-tuning' if check.applies == 'full' else 'adapters'} only")
    if "gpu" in check.needs and not evidence.device.startswith("cuda"):
        raise NotApplicable("needs a GPU")
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
