"""What docs/ray.md promises that a machine can check."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from pytest_ftcheck.executor import cluster
from pytest_ftcheck.options import OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ray.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(ray \S+.*?) +#", PAGE, re.MULTILINE)


def test_every_option_on_the_page_is_one_of_ours() -> None:
    ours = {option.flag for option in OPTIONS} | {option.variable for option in OPTIONS}
    named = set(re.findall(r"--ftcheck-[a-z-]*[a-z]|FTCHECK_[A-Z_]+", PAGE))
    assert "--ftcheck-executor" in named
    assert named <= ours


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    assert cluster.RETRIES == 3, "three times at most"
    assert cluster.NODES_S == 120, "two minutes"
    assert cluster.CONNECT_S == 5, "within five seconds"
    assert cluster.GRACE_S == 30, "30 s later"


def test_the_environment_of_tox_and_the_extra_are_there_and_the_main_suite_needs_neither() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert "tox run -e ray" in PAGE
    assert "ray" in tox["testenv:ray"]["extras"].split(", ")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^ray = \["ray>=', project, re.MULTILINE)
    (everything,) = re.findall(r'^all = \["pytest-ftcheck\[(.*)\]"\]', project, re.MULTILINE)
    assert "ray" not in everything.split(",")


@pytest.mark.parametrize("command", COMMANDS)
def test_ray_has_the_commands_on_the_page(command: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.scripts.scripts import cli

    _, name, *flags = command.split()
    known = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert {flag.partition("=")[0] for flag in flags} <= known


def test_the_page_has_commands_of_ray() -> None:
    assert len(COMMANDS) == 2
