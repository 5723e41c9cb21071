"""The public names with their calls and docstrings, as a page.

``python -m pytest_ftcheck.report.reference > docs/reference.md`` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .public import ROOT, Member, Public, described, public_names

PACKAGES = {
    "": "What a recipe is made of, and what works on it without pytest's fixtures.",
    "predict": "[Memory and FLOPs without a GPU](prediction.md).",
    "lora": "[The mathematics of LoRA](lora.md). Needs `pytest-ftcheck[properties]`.",
}
# What the public names and the fixtures hand out: file -> names.
RECORDS = {
    "run": (
        *("Parameters", "ParameterTensor", "Losses", "Memory", "Breakdown", "Flops", "Timing"),
        *("Optimizer", "OptimizerGroup", "Environment"),
    ),
    "order": ("LossOrder", "Gap"),
    "choosing.choice": ("Choice",),
    "baseline.decision": ("Decision",),
    "checks.verdict": ("Verdict",),
    "checks.check": ("Finding",),
    "observers.observation": ("Observation",),
    "predict.workload": ("Workload",),
    "gating": ("Baseline",),
}
MADE_OF = (
    "Made of docstrings by `python -m pytest_ftcheck.report.reference`. Fixtures, the marker and options are in the",
    "repository's README. Losses are in nats, memory in bytes, times in seconds.",
)
WHAT_THEY_GIVE = (
    "Runs, pairs and verdicts are made of records, whose `to_json()` and `from_json(text)` keep every bit. "
    "`Observation` is what `observe` gives, `Workload` what `predict_training` takes, and `Baseline` is `ft_baseline`."
)
# Of a class that is handed out and never made by the user, how it is made says nothing.
NOT_MADE = ("Observation", "Baseline")


def markdown() -> str:
    """The whole page."""
    lines = ["# Reference", "", *MADE_OF]
    for package, what in PACKAGES.items():
        lines += ["", f"## pytest_ftcheck{'.' * bool(package)}{package}", "", what]
        for name in public_names(package):
            lines += _entry(name)
    lines += ["", "## What they give", "", WHAT_THEY_GIVE]
    for name in records():
        lines += _entry(name)
    return "\n".join(lines)


def records() -> list[Public]:
    """What the public names and the fixtures hand out."""
    return [
        described(ROOT.joinpath(*file.split(".")).with_suffix(".py"), name)
        for file in RECORDS
        for name in RECORDS[file]
    ]


def _entry(public: Public) -> Iterator[str]:
    yield from ("", f"### {public.name}", "")
    if public.kind != "constant" and public.call and public.name not in NOT_MADE:
        yield from ("```python", public.call, "```", "")
    yield prose(public.text)
    if public.members:
        yield ""
    for member in public.members:
        yield _line(member)


def _line(member: Member) -> str:
    """A member in a list, with its docstring indented under it."""
    first, *others = prose(member.text).splitlines() or [""]
    return "\n".join([f"- `.{member.call}`: {first}", *(f"  {line}".rstrip() for line in others)])


def prose(text: str) -> str:
    """A docstring as Markdown: code in single marks, and what follows a double colon in a block."""
    lines: list[str] = []
    block = False
    for line in text.replace("``", "`").splitlines():
        if block and line and not line.startswith(" "):
            lines[-1:] = ["```", ""] if not lines[-1] else [lines[-1], "```"]
            block = False
        if line.endswith("::") and not block:
            lines += [f"{line[:-2].rstrip()}:", "", "```python"] if line != "::" else ["```python"]
            block = True
        elif not (lines and lines[-1] == "```python" and not line):
            # No two empty lines after each other.
            lines += [line.removeprefix("    ") if block else line] if line or (lines and lines[-1]) else []
    return "\n".join([*lines, *(["```"] if block else [])])


if __name__ == "__main__":
    print(markdown())
