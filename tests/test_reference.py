"""docs/reference.md has every public name, and each says what it is."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
PACKAGES = ("pytest_ftcheck", "pytest_ftcheck.predict", "pytest_ftcheck.lora")


def value_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def silent(value: Any, path: str) -> Iterator[str]:
    """What of a class or function has no docstring of at least a sentence."""
    members = vars(value).items() if inspect.isclass(value) else ()
    # What overrides a member and says nothing of itself does what the base class says.
    own = [(name, one) for name, one in members if not name.startswith("_") and not hasattr(value.__base__, name)]
    said = [(f"{path}.{name}", one) for name, one in own if inspect.isroutine(one) or isinstance(one, property)]
    for name, one in [(path, value), *said]:
        if not re.match(r"\S.*[.:]", inspect.getdoc(one) or "", re.DOTALL):
            yield name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    public = [f"{package}.{name}" for name in importlib.import_module(package).__all__]
    assert [path for path in public if path not in NAMED] == []


@pytest.mark.parametrize("path", NAMED)
def test_what_is_in_the_reference_says_what_it_is(path: str) -> None:
    name = path.rpartition(".")[2]
    if name in ("LitgptAdapter", "TorchtuneAdapter"):
        pytest.importorskip(name.removesuffix("Adapter").lower(), reason="tox run -e implementations")
    value = value_of(path)
    # A constant has no docstring of its own.
    assert not callable(value) or list(silent(value, path)) == []


def test_what_says_nothing_is_noticed() -> None:
    class Told:
        """Said."""

        def it(self) -> None: ...

    assert list(silent(Told, "Told")) == ["Told.it"]
    assert list(silent(lambda: None, "untold")) == ["untold"]
