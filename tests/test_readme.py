"""What README promises that a machine can check."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from pytest_ftcheck import fixtures
from pytest_ftcheck.options import OPTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def quick_start() -> list[str]:
    """The lines of the first code block under "Quick start"."""
    section = README.partition("## Quick start")[2]
    match = re.match(r"\s*```sh\n(.*?)```", section, re.DOTALL)
    assert match is not None, "the section must start with an sh block"
    return match[1].splitlines()


def test_the_quick_start_is_two_lines_that_run_environments_of_tox() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    lines = quick_start()
    assert len(lines) == 2
    environments = [line.rpartition(" -e ")[2] for line in lines]
    known = {section.removeprefix("testenv:") for section in tox.sections()} | set(tox["tox"]["env_list"].split(", "))
    assert set(environments) <= known


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_listed_with_its_variable_and_ini_twin(option: object) -> None:
    assert f"| `{option.flag}` | `{option.variable}`, `{option.ini}` |" in README  # type: ignore[attr-defined]


FIXTURES = [name for name in vars(fixtures) if name.startswith("ft_")]


@pytest.mark.parametrize("name", FIXTURES)
def test_every_fixture_is_listed_and_there_for_every_test(name: str, request: pytest.FixtureRequest) -> None:
    assert f"`{name}`" in README
    manager = request.session._fixturemanager
    assert manager.getfixturedefs(name, request.node), "is it among the imports of plugin.py?"
