"""docs/reference.md is what the sources say, and they say something of every public name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import pytest_ftcheck
import pytest_ftcheck.predict
from pytest_ftcheck.report.public import Public, described, public_names
from pytest_ftcheck.report.reference import PACKAGES, markdown, prose, records

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
IMPORTABLE: list[tuple[Public, Any]] = [
    (public, getattr(package, public.name))
    for name, package in (("", pytest_ftcheck), ("predict", pytest_ftcheck.predict))
    for public in public_names(name)
]


def silent(public: Public) -> list[str]:
    """What of a public name has no docstring of at least a sentence."""
    said = {public.name: public.text, **{f"{public.name}.{member.name}": member.text for member in public.members}}
    return [name for name, text in said.items() if not re.match(r"\S.*[.:]", text.partition("\n\n")[0], re.DOTALL)]


def test_the_page_is_what_the_docstrings_say() -> None:
    message = "python -m pytest_ftcheck.report.reference > docs/reference.md"
    assert PAGE.read_text(encoding="utf-8") == f"{markdown()}\n", message


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_the_page(package: str) -> None:
    module = __import__(f"pytest_ftcheck.{package}".rstrip("."), fromlist=["__all__"])
    assert [public.name for public in public_names(package)] == list(module.__all__)
    section = markdown().partition(f"\n## {module.__name__}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == list(module.__all__)


@pytest.mark.parametrize("public", [*(p for package in PACKAGES for p in public_names(package)), *records()])
def test_every_public_name_and_what_it_offers_is_documented(public: Public) -> None:
    assert not silent(public)


def test_a_name_without_a_docstring_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('class Told:\n    """Said."""\n\n    def it(self): ...\n\ndef untold(): ...\n\nN = 1\n')
    assert silent(described(file, "Told")) == ["Told.it"]
    assert silent(described(file, "untold")) == ["untold"]
    assert silent(described(file, "N")) == ["N"]
    with pytest.raises(KeyError):
        described(file, "missing")


@pytest.mark.parametrize(("public", "value"), IMPORTABLE, ids=lambda one: getattr(one, "name", ""))
def test_a_call_has_the_parameters_that_it_takes(public: Public, value: Any) -> None:
    if public.kind == "constant":
        assert not callable(value)
        return
    inside = public.call.partition("(")[2]
    shown = [name for name in re.findall(r"(?:^|, |\n    )\*{0,2}(\w+): ", inside) if name]
    assert shown == list(inspect.signature(value).parameters)


def test_code_in_a_docstring_becomes_a_block() -> None:
    text = "Do ``this``::\n\n    one()\n\n    two()\n\nand then rest."
    assert prose(text).splitlines() == [
        *("Do `this`:", "", "```python", "one()", "", "two()", "```", "", "and then rest."),
    ]
    assert prose("::\n\n    one()\n") == "```python\none()\n```"
