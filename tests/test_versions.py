"""The lowest versions that tox tries are those that are declared."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A torch that old has no build without CUDA: its environment takes the one that all others have.
NOT_TRIED = {"torch"}


def test_the_environment_of_the_lowest_versions_has_every_lower_bound() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    # Ray has an environment of its own.
    declared = [
        *project["dependencies"],
        *(one for name in extras if name not in ("all", "ray") for one in extras[name]),
    ]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", one).groups() for one in declared)  # type: ignore[union-attr]
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    tried = re.findall(r"^lowest: ([\w-]+)==([\d.]+)$", tox["testenv:{lowest,transformers-457,newest}"]["deps"], re.M)
    assert {name: _padded(version) for name, version in tried} == {
        name: _padded(version) for name, version in bounds.items() if name not in NOT_TRIED
    }


def _padded(version: str) -> list[int]:
    parts = [int(part) for part in version.split(".")]
    return parts + [0] * (3 - len(parts))
