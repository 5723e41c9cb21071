"""The catalogue as a list: ``--ftcheck-list-checks``, and ``docs/checks.md``.

``python -m pytest_ftcheck.report.catalogue > docs/checks.md`` writes the latter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..checks.catalogue import chosen, sabotages
from ..checks.check import Check

METHODS = {"any": "full and adapters", "full": "full", "adapter": "adapters"}


def listing(select: Sequence[str] = ()) -> list[str]:
    """Every chosen check, by theme: id and claim, then methods, cost, and how its negative controls break a recipe."""
    checks = chosen(select)
    lines = [f"{len(checks)} checks; choose by id or theme: --ftcheck-checks=NAME,... or -k"]
    for theme, group in _by_theme(checks):
        lines += ["", theme]
        for check in group:
            lines += [f"  {check.id}: {check.claim}", f"      {', '.join(_facts(check))}"]
    return lines


def markdown() -> str:
    """The whole catalogue as a page."""
    checks = chosen()
    lines = [
        "# The catalogue of checks",
        "",
        f"{len(checks)} checks with {len(sabotages())} negative controls (ways to break a recipe). "
        "Made by `python -m pytest_ftcheck.report.catalogue`.",
    ]
    for theme, group in _by_theme(checks):
        lines += ["", f"## {theme}", "", "| check | what a sound training satisfies | methods, cost | catches |"]
        lines.append("|---|---|---|---|")
        for check in group:
            catches = " ".join(f"[{number}]({link})" for number, link in enumerate(_links(check), start=1))
            lines.append(f"| `{check.id}` | {check.claim} | {METHODS[check.applies]}; {check.cost} | {catches} |")
    return "\n".join(lines)


def _by_theme(checks: Sequence[Check]) -> Iterator[tuple[str, list[Check]]]:
    for theme in dict.fromkeys(check.theme for check in checks):
        yield theme, [check for check in checks if check.theme == theme]


def _facts(check: Check) -> Iterator[str]:
    yield METHODS[check.applies]
    yield f"cost: {check.cost}"
    if check.needs:
        yield f"needs {' and '.join(check.needs)}"
    if check.controls:
        yield f"must notice {', '.join(control.id for control in check.controls)}"


def _links(check: Check) -> list[str]:
    return [link for link in check.catches if link.startswith("http")]


if __name__ == "__main__":
    print(markdown())
