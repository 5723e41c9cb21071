"""A request that is sent to a fresh interpreter arrives whole, or is refused by the name of what cannot be sent."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
from errands import run

from pytest_ftcheck import Recipe
from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.parcel import packed, unpacked
from pytest_ftcheck.predict.process import FRESH, VARIABLE
from pytest_ftcheck.predict.request import Request


def _conftest(width: int) -> str:
    return f"""
import dataclasses
import ours

@dataclasses.dataclass(frozen=True)
class Settings:
    width: int = {width}

class Model:
    def __init__(self):
        super().__init__()
        self.width = SETTINGS.width

SETTINGS = Settings()

def load():
    return f"{{Model().width}} {{ours.NAME}} {{ours.__file__}}"
"""


def _module(name: str, path: Path, source: str) -> ModuleType:
    """A module as pytest's ``importlib`` mode makes one: from a file, without its folder on ``sys.path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def conftests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    """Two modules of one name, by which Python knows the second of them and would import a third; and one beside that
    can be imported by its name.
    """
    (tmp_path / "importable").mkdir()
    (tmp_path / "importable" / "ours.py").write_text("NAME = 'ours'\ndef load(): pass\n")
    (tmp_path / "importable" / "a_conftest.py").write_text(_conftest(0))
    monkeypatch.syspath_prepend(tmp_path / "importable")
    for name in ("ours", "a_conftest"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    return [_module("a_conftest", tmp_path / str(width) / "a_conftest.py", _conftest(width)) for width in (1, 2)]


def _request(**parts: Any) -> Request:
    return Request(Recipe(**{"model": dict, "train_data": [{}], **parts}), "full", GPUS["h100"])


def test_functions_that_cannot_be_imported_travel(
    conftests: list[ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, FRESH)
    first, second = (module.load for module in conftests)
    factor = 3

    def do(journal: Journal) -> str:
        return f"{first()}; {second()}; {factor}"

    ours = f"ours {tmp_path / 'importable' / 'ours.py'}"
    assert run(do) == f"1 {ours}; 2 {ours}; 3"


def test_what_is_sent_as_it_is_is_only_so_for_this_parcel(conftests: list[ModuleType]) -> None:
    assert b"a_conftest.py" in packed(_request(model=conftests[1].load))
    assert not cloudpickle.list_registry_pickle_by_value()
    # By name, and nothing else: less than the source it stands for.
    assert len(cloudpickle.dumps(conftests[1].load)) < 100


def test_a_module_that_the_user_registered_stays_registered(conftests: list[ModuleType]) -> None:
    cloudpickle.register_pickle_by_value(conftests[1])
    try:
        packed(_request(model=conftests[1].load))
        assert cloudpickle.list_registry_pickle_by_value() == {"a_conftest"}
    finally:
        cloudpickle.unregister_pickle_by_value(conftests[1])


def test_what_can_be_imported_goes_by_name(conftests: list[ModuleType]) -> None:
    import ours  # type: ignore[import-not-found]

    parcel = packed(_request(model=ours.load))
    assert b"ours.py" not in parcel
    assert unpacked(parcel).recipe.model is ours.load


def test_a_part_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(PredictionError) as caught:
        packed(_request(train_data=(row for row in ())))
    first, advice = str(caught.value).splitlines()
    assert first.startswith("Recipe.train_data (generator) cannot be sent to a fresh interpreter: TypeError: ")
    assert "what to do" in advice


def test_a_function_that_closes_over_a_file_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(PredictionError, match=r"^Recipe\.model \(function\)"):
        packed(_request(model=lambda: file.name))


class Unwilling:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_cannot_be_rebuilt_is_told() -> None:
    with pytest.raises(PredictionError, match=r"^the recipe cannot be rebuilt in a fresh interpreter: ValueError: "):
        unpacked(pickle.dumps(Unwilling()))
