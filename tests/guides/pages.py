"""The guides of docs/guides: their code, the mistakes that they show, and what they say is not seen."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from repos.loading import recipe_in
from repos.mutants import Mutant

from pytest_ftcheck import Recipe

ROOT = Path(__file__).parents[2]
REPOS = ROOT / "fixtures" / "repos"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_SEEN = re.compile(r"^\| \[`([\w-]+)`\]\(\.\./checks\.md#\w+\) \| (.*) \|$", re.MULTILINE)

# Page -> the repository whose code it is about.
REPO_OF = {
    "accelerate": "accelerate_loop",
    "custom-lora": "plain_loop",
    "lightning": "lightning",
    "loop": "llama_loop",
    "script": "script",
    "trainer": "hf_trainer",
    "trl": "trl_sft",
}
# What a repository trains with, besides what the plugin needs.
NEEDS = {"trl_sft": "trl", "lightning": "lightning"}


@dataclass(frozen=True)
class Trap:
    """A mistake that a page shows: lines that go and come, and what the page says is reported ("" where nothing is)."""

    removed: str
    added: str
    told: str

    @property
    def check(self) -> str:
        return self.told.partition(" (")[0]

    @property
    def method(self) -> str:
        return self.told.partition(" (")[2].partition(")")[0]


@dataclass(frozen=True)
class Guide:
    """A page, and its repository."""

    name: str
    text: str

    @property
    def repo(self) -> str:
        return REPO_OF[self.name]

    @property
    def python(self) -> list[str]:
        return [code for language, code in BLOCK.findall(self.text) if language == "python"]

    @property
    def conftest(self) -> str:
        """The page's whole conftest.py: its only block with a recipe for pytest."""
        (found,) = (code for code in self.python if "def ft_recipe" in code)
        return found

    @property
    def files(self) -> dict[str, str]:
        """Those of its blocks that begin with a comment that is the name of a file."""
        named = {code.split("\n", 1)[0].removeprefix("# "): code for code in self.python if code.startswith("# ")}
        return {name: code for name, code in named.items() if name.endswith(".py")}

    @property
    def traps(self) -> list[Trap]:
        blocks = [*BLOCK.findall(self.text), ("", "")]
        return [
            Trap(_lines("-", code), _lines("+", code), following if kind == "text" else "")
            for (language, code), (kind, following) in itertools.pairwise(blocks)
            if language == "diff"
        ]

    @property
    def told_of_itself(self) -> list[Trap]:
        """What the page says is reported of the repository as it is, under its heading on saving and the rest."""
        section = self.text.partition("\n## Saving, merging, resuming, evaluating\n")[2].partition("\n## ")[0]
        return [Trap("", "", code) for language, code in BLOCK.findall(section) if language == "text"]

    @property
    def not_seen(self) -> dict[str, str]:
        """Check -> why there is nothing for it to look at in this repository."""
        return dict(NOT_SEEN.findall(self.text.partition("\n## What is not seen\n")[2]))

    def written(self, folder: Path, traps: Sequence[Trap] = ()) -> Path:
        """The repository in ``folder``, with the page's own conftest.py and files, and the mistakes made."""
        shutil.copytree(REPOS / self.repo, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        for name, code in {"conftest.py": self.conftest, **self.files}.items():
            (folder / name).write_text(code, encoding="utf-8")
        for trap in traps:
            (file,) = (file for file in folder.glob("*.py") if trap.removed in file.read_text(encoding="utf-8"))
            source = file.read_text(encoding="utf-8")
            file.write_text(source.replace(trap.removed, trap.added, 1), encoding="utf-8")
        return folder

    def recipe(self, folder: Path, traps: Sequence[Trap] = ()) -> Recipe:
        return recipe_in(self.written(folder, traps))


def _lines(sign: str, code: str) -> str:
    return "".join(line[1:] for line in code.splitlines(keepends=True) if line.startswith(sign))


GUIDES = [
    Guide(path.stem, path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs" / "guides").glob("*.md"))
]


def shown() -> Iterator[tuple[Guide, Trap]]:
    """Every mistake on every page."""
    for guide in GUIDES:
        for trap in guide.traps:
            yield guide, trap


def is_shown(mutant: Mutant) -> bool:
    """Whether a guide shows, and its test tries, this edit of the same repository."""
    if len(mutant.edits) != 1:
        return False
    _, text, replacement = mutant.edits[0]
    return any(
        guide.repo == mutant.repo
        and trap.told
        and text in trap.removed
        and trap.removed.replace(text, replacement) == trap.added
        for guide, trap in shown()
    )
