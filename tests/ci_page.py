"""What stands in docs/ci.md, and the commands of all pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--ftcheck-[a-z-]*[a-z]")


def blocks(page: str, *languages: str) -> list[str]:
    """The blocks of code of a page, in these languages."""
    return [code for language, code in FENCE.findall(PAGES[page]) if language in languages]


GITHUB_FILE, GITLAB_FILE = blocks("ci.md", "yaml")
(SLURM,) = blocks("ci.md", "bash")
GITHUB: dict[Any, Any] = yaml.safe_load(GITHUB_FILE)
GITLAB: dict[str, Any] = yaml.safe_load(GITLAB_FILE)


def github_scripts() -> dict[str, str]:
    """What each step of each job runs."""
    steps = {job: [step for step in what["steps"] if "run" in step] for job, what in GITHUB["jobs"].items()}
    return {f"github {job}: {step['name']}": step["run"] for job, found in steps.items() for step in found}


def gitlab_scripts() -> dict[str, str]:
    """What each job runs, line by line."""
    jobs = {name: job for name, job in GITLAB.items() if not name.startswith(".")}
    return {f"gitlab {name} {n}": line for name, job in jobs.items() for n, line in enumerate(job["script"])}


SCRIPTS = {**github_scripts(), **gitlab_scripts(), "slurm": SLURM}
TESTING = {name: script for name, script in SCRIPTS.items() if "--ftcheck-" in script}


def commands(script: str) -> Iterator[list[str]]:
    """The arguments of each call of pytest in a script of the shell."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        calls = [index for index, word in enumerate(words) if word == "pytest" or word.endswith("/bin/pytest")]
        # In "pip install pytest" it is no call.
        if calls and (calls[0] == 0 or words[0] == "srun"):
            yield words[calls[0] + 1 :]


def all_commands() -> dict[str, list[str]]:
    """The arguments of each call of pytest on any page, by what is typed."""
    shown = [block for page in PAGES for block in blocks(page, "sh", "bash")]
    found = [command for script in [*shown, *SCRIPTS.values()] for command in commands(script)]
    return {" ".join(command): command for command in found}


def unknown_options(text: str, known: set[str]) -> set[str]:
    """Options of this plugin that ``text`` names and that are none."""
    return set(OPTION.findall(text)) - known
