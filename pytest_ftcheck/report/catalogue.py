"""The catalogue as a list: ``--ftcheck-list-checks``, and ``docs/checks.md``.

``python -m pytest_ftcheck.report.catalogue > docs/checks.md`` writes the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..checks.catalogue import chosen, sabotages
from ..checks.check import Check
from ..checks.examples import Example, examples

METHODS = {"any": "full and adapters", "full": "full", "adapter": "adapters"}
NAMES = {"full": "full fine-tuning", "lora": "LoRA"}
# An issue or a pull request, as GitHub itself calls it.
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)/(?:pull|issues)/(\d+)")


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
    """The whole catalogue as a page. Each check is a heading, so that other pages can link to it by its id."""
    checks, failures = chosen(), examples()
    lines = [
        "# The catalogue of checks",
        "",
        f"{len(checks)} checks with {len(sabotages())} negative controls: ways to break a recipe that must be noticed.",
        "Each check is shown with its first finding in the first of its controls, tried on a small Llama; the terminal",
        "adds the claim and the links. Measured numbers may differ in their last digits on another processor.",
        "",
        "A check of cost *reading* looks at the one short training that all of them share, *model* builds models, and",
        "*training* trains again. Made by `python -m pytest_ftcheck.report.catalogue`.",
        "",
    ]
    themes = list(_by_theme(checks))
    for theme, group in themes:
        lines.append(f"- **[{theme}](#{theme})**: {', '.join(f'[{check.id}](#{check.id})' for check in group)}")
    for theme, group in themes:
        lines += ["", f"## {theme}"]
        for check in group:
            lines += ["", f"### {check.id}", "", *_section(check, failures.get(check.id))]
    return "\n".join(lines)


def _section(check: Check, example: Example | None) -> Iterator[str]:
    """What it claims, how it is tried, where it is from, and the example."""
    from .document.markdown import escaped

    yield f"- **claim**: {escaped(check.claim)}"
    yield f"- **tried on**: {', '.join(_terms(check))}"
    yield f"- **must notice**: {'; '.join(f'`{one.id}` ({escaped(one.breaks)})' for one in check.controls)}"
    if _links(check):
        yield f"- **seen in**: {', '.join(f'[{_called(link)}]({link})' for link in _links(check))}"
    if example is not None:
        yield f"\nWith `{example.control}`, under {NAMES[example.method]}:\n"
        yield from ["```text", *example.lines, "```"]


def _by_theme(checks: Sequence[Check]) -> Iterator[tuple[str, list[Check]]]:
    for theme in dict.fromkeys(check.theme for check in checks):
        yield theme, [check for check in checks if check.theme == theme]


def _facts(check: Check) -> Iterator[str]:
    yield from _terms(check)
    if check.controls:
        yield f"must notice {', '.join(control.id for control in check.controls)}"


def _terms(check: Check) -> Iterator[str]:
    """What it needs before it can be tried, and how much work that is."""
    yield METHODS[check.applies]
    yield f"cost: {check.cost}"
    if check.needs:
        yield f"needs {' and '.join(check.needs)}"


def _links(check: Check) -> list[str]:
    return [link for link in check.catches if link.startswith("http")]


def _called(link: str) -> str:
    """``huggingface/peft#3318``, or the site."""
    issue = GITHUB.match(link)
    return f"{issue[1]}#{issue[2]}" if issue else link.split("/")[2].removeprefix("www.")


if __name__ == "__main__":
    print(markdown())
