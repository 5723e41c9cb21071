"""When two values are the same content, and so may share a stored run."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import GPT2Config

from pytest_ftcheck.content import UnknownContentError, digest, package_digest

# A small training repository: what its train() rests on, directly or not, and a file that it does not rest on.
SOURCES = {
    "ftc_train.py": "import ftc_top\nfrom ftc_package import part\n\nRATE = 0.5\n\n"
    "def train(job):\n    from ftc_lazy import step\n    return step(job, RATE)\n\n"
    "class Loop:\n    def train(self, job):\n        return train(job)\n",
    "ftc_top.py": "import ftc_deep\nSCALE = 1\n",
    "ftc_deep.py": "DEPTH = 1\n",
    "ftc_lazy.py": "def step(job, rate):\n    return rate\n",
    "ftc_package/__init__.py": "SETTING = 1\n",
    "ftc_package/part.py": "from .inner import leaf\nfrom .neighbour import VALUE\nimport ftc_shadow\n",
    "ftc_package/inner/__init__.py": "",
    "ftc_package/inner/leaf.py": "from .. import uncle\n",
    "ftc_package/uncle.py": "VALUE = 1\n",
    "ftc_package/neighbour.py": "VALUE = 1\n",
    "ftc_package/apart.py": "VALUE = 1\n",
    "ftc_package/ftc_shadow.py": "VALUE = 1\n",
    "ftc_shadow.py": "VALUE = 1\n",
    "ftc_unrelated.py": "VALUE = 1\n",
    "data.txt": "text\n",
}


@dataclasses.dataclass
class Settings:
    """A part of a recipe with fields; ``note`` does not count."""

    rate: float = 0.5
    data: Any = None
    note: str = dataclasses.field(default="", compare=False)

    def train(self, job: Any) -> float:
        return self.rate


class Plain:
    """An object that holds what it holds in its attributes, like most data sets."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def train(self, job: Any) -> None: ...


class Slotted:
    """An object whose content is not in its ``__dict__``."""

    __slots__ = ("rows",)

    def train(self, job: Any) -> None: ...


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with SOURCES in it, from which modules can be imported."""
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("ftc_")]:
        del sys.modules[name]


@pytest.fixture
def train(repo: Path) -> ModuleType:
    """The repository's main module."""
    return importlib.import_module("ftc_train")


@pytest.mark.parametrize("subject", ["train", "Loop"])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("ftc_train.py", "RATE = 0.5", "RATE = 0.7", id="a constant of its own module"),
        pytest.param("ftc_top.py", "SCALE = 1", "SCALE = 2", id="a module imported at the top"),
        pytest.param("ftc_deep.py", "DEPTH = 1", "DEPTH = 2", id="a module imported by that one"),
        pytest.param("ftc_lazy.py", "return rate", "return 2 * rate", id="a module imported in a function"),
        pytest.param("ftc_package/part.py", "import leaf", "import  leaf", id="a module of a package"),
        pytest.param("ftc_package/inner/leaf.py", "uncle", "uncle ", id="a module of a package in it"),
        pytest.param("ftc_package/uncle.py", "VALUE = 1", "VALUE = 2", id="a relative import from further up"),
        pytest.param("ftc_package/neighbour.py", "VALUE = 1", "VALUE = 2", id="a relative import"),
        pytest.param("ftc_package/__init__.py", "SETTING = 1", "SETTING = 2", id="the package around it"),
        pytest.param("ftc_shadow.py", "VALUE = 1", "VALUE = 2", id="a module of the name of one beside"),
        pytest.param("ftc_package/ftc_shadow.py", "VALUE = 1", "VALUE = 2", id="a module beside of that name"),
    ],
)
def test_code_is_other_content_when_a_source_that_it_rests_on_changes(
    repo: Path, train: ModuleType, subject: str, name: str, old: str, new: str
) -> None:
    before = digest(getattr(train, subject))
    text = (repo / name).read_text()
    (repo / name).write_text(text.replace(old, new))
    assert (repo / name).read_text() != text
    assert digest(getattr(train, subject)) != before


@pytest.mark.parametrize("name", ["ftc_unrelated.py", "ftc_package/apart.py", "data.txt", "ftc_new.py"])
def test_code_is_the_same_content_when_another_file_changes(repo: Path, train: ModuleType, name: str) -> None:
    before = digest(train.train)
    (repo / name).write_text("VALUE = 2\n")
    assert digest(train.train) == before


def test_code_is_the_same_content_when_its_sources_are_touched(repo: Path, train: ModuleType) -> None:
    before = digest(train.train)
    for path in repo.rglob("*.py"):
        os.utime(path, (1, 1))
    assert digest(train.train) == before


def test_two_imported_modules_that_change_places_are_other_content(repo: Path, train: ModuleType) -> None:
    before = digest(train.train)
    top, lazy = ((repo / name).read_bytes() for name in ("ftc_deep.py", "ftc_lazy.py"))
    (repo / "ftc_deep.py").write_bytes(lazy)
    (repo / "ftc_lazy.py").write_bytes(top)
    assert digest(train.train) != before


def test_a_module_that_no_longer_parses_is_other_content(repo: Path, train: ModuleType) -> None:
    before = digest(train.train)
    (repo / "ftc_top.py").write_text("def broken(:\n")
    assert digest(train.train) != before


def test_two_functions_of_a_module_are_different_content(repo: Path, train: ModuleType) -> None:
    assert len({digest(train.train), digest(train.Loop), digest(train.Loop.train), digest(Settings)}) == 4


def closing_over(value: Any) -> Callable[[], Any]:
    def function() -> Any:
        return value

    return function


def with_default(value: Any) -> Callable[..., Any]:
    def function(given: Any = value) -> Any:
        return given

    return function


def with_keyword_default(value: Any) -> Callable[..., Any]:
    def function(*, given: Any = value) -> Any:
        return given

    return function


WRAPPERS: list[Callable[[Any], Any]] = [
    *(closing_over, with_default, with_keyword_default),
    *(lambda v: functools.partial(closing_over, v), lambda v: functools.partial(closing_over, value=v)),
    *(lambda v: Settings(data=v), lambda v: Settings(data=v).train, lambda v: closing_over(closing_over(v))),
    *(lambda v: [v], lambda v: (0, v), lambda v: {"key": v}, lambda v: {"a": [{"b": v}]}),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        (1, True),
        (1, "1"),
        (0.0, -0.0),
        (0.1 + 0.2, 0.3),
        (b"1", "1"),
        (None, "None"),
        ([1, 2], [2, 1]),
        ([1, 2], (1, 2)),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, {1, 3}),
        (1j, 2j),
    ],
)
def test_a_value_counts_wherever_it_is_held(wrap: Callable[[Any], Any], one: Any, other: Any) -> None:
    assert digest(wrap(one)) == digest(wrap(one))
    assert digest(wrap(one)) != digest(wrap(other))


def test_a_set_has_no_order() -> None:
    assert digest({"one", "two", "three"}) == digest(frozenset(["three", "two", "one"]))


def test_a_field_counts_only_where_it_takes_part_in_comparisons() -> None:
    assert digest(Settings(note="one")) == digest(Settings(note="two"))
    assert digest(Settings(rate=0.5)) != digest(Settings(rate=0.7))


def test_a_method_counts_with_its_object() -> None:
    assert digest(Settings(rate=0.5).train) == digest(Settings(rate=0.5).train)
    assert digest(Settings(rate=0.5).train) != digest(Settings(rate=0.7).train)


def test_lambdas_of_one_line_are_different_content() -> None:
    # They have one name and one source, and a recipe may well be written like this.
    lambdas = [lambda x: x, lambda x: -x, lambda x: x + 1, lambda x: x + 2, lambda x: x.one, lambda x: x.other]
    assert len({digest(function) for function in lambdas}) == len(lambdas)


def test_the_same_lambda_is_the_same_content() -> None:
    def made() -> Callable[[int], int]:
        return lambda x: x + 1

    assert digest(made()) == digest(made())


def test_what_a_lambda_does_in_an_inner_function_counts() -> None:
    one, other = (lambda rows: [row + 1 for row in rows]), (lambda rows: [row + 2 for row in rows])
    assert digest(one) != digest(other)


def test_a_function_that_was_defined_again_is_other_content() -> None:
    def loss() -> int:
        return 1

    before = digest(loss)

    def loss() -> int:  # type: ignore[no-redef]
        return 2

    assert digest(loss) != before


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([1.0, 2.0, 4.0]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
        torch.tensor([1, 2, 3]),
    ],
)
def test_a_tensor_counts_by_values_shape_and_dtype(other: torch.Tensor) -> None:
    tensor = torch.tensor([1.0, 2.0, 3.0])
    assert digest(closing_over(tensor)) == digest(closing_over(tensor.clone()))
    assert digest(closing_over(tensor)) != digest(closing_over(other))


@pytest.mark.parametrize(
    "tensor", [torch.tensor(1.0), torch.zeros(0, 3), torch.ones(4, 3, dtype=torch.bfloat16).T, torch.tensor([True])]
)
def test_a_tensor_of_any_form_has_a_digest(tensor: torch.Tensor) -> None:
    assert digest(tensor) == digest(tensor.clone())


def test_a_path_counts_by_the_content_of_its_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("text")
    other.write_text("text")
    before = digest(Settings(data=one))
    assert digest(Settings(data=other)) == before
    one.write_text("Text")
    assert digest(Settings(data=one)) != before


def test_a_path_of_no_file_counts_by_its_name(tmp_path: Path) -> None:
    assert digest(tmp_path / "absent") == digest(tmp_path / "absent")
    assert digest(tmp_path / "absent") != digest(tmp_path / "missing")
    assert digest(tmp_path) != digest(tmp_path / "absent")


def holding_itself() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def calling_itself() -> Callable[[int], int]:
    def function(n: int) -> int:
        return function(n - 1) if n else 0

    return function


def a_local_class() -> type:
    class Local:
        pass

    return Local


def without_source() -> Any:
    space: dict[str, Any] = {}
    exec("def function(): pass", space)
    return space["function"]


@pytest.mark.parametrize(
    "value",
    [
        *(object(), Slotted(), Slotted().train, Plain(file=sys.stdout), iter([1]), len, dict, sys),
        *(holding_itself(), calling_itself(), a_local_class(), without_source()),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda v: v, *WRAPPERS])
def test_a_value_whose_content_cannot_be_known_has_no_digest(wrap: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(UnknownContentError):
        digest(wrap(value))


def test_the_error_says_which_value_it_is() -> None:
    with pytest.raises(UnknownContentError, match=r"the content of a .*test_content\.Slotted$"):
        digest([1, {"key": Slotted()}])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Plain(rows=[1, 2]), Plain(rows=[1, 3])),
        (Plain(rows=torch.zeros(2)), Plain(rows=torch.ones(2))),
        (Plain(dtype=torch.float32), Plain(dtype=torch.bfloat16)),
        (torch.nn.Linear(1, 1).requires_grad_(False), torch.nn.Linear(1, 2)),
        (torch.utils.data.TensorDataset(torch.arange(4)), torch.utils.data.TensorDataset(torch.arange(5))),
        (GPT2Config(n_layer=2), GPT2Config(n_layer=3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_is_its_class_and_its_attributes(one: Any, other: Any) -> None:
    assert digest(one) == digest(copy.deepcopy(one))
    assert digest(one) != digest(other)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import ftc_train
from pathlib import Path
from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.content import digest

NAMES = {"one", "two", "three", "four", "five", "six", "seven", "eight"}
def uses_a_set(name):
    return name in {"one", "two", "three", "four", "five", "six", "seven", "eight"}
method = LoRA(r=4, target_modules=["c_attn"], rank_pattern={"c_attn": 2})
print(" ".join(NAMES))
print(digest([ftc_train.train, ftc_train.Loop, lambda x: x, NAMES, uses_a_set, method, Full(), Path("data.txt"), 0.1]))
"""


def test_the_same_content_has_the_same_digest_in_every_process(repo: Path) -> None:
    script = repo / "script.py"
    script.write_text(SCRIPT)
    orders, digests = set(), set()
    for seed in ("1", "2"):
        command = [sys.executable, str(script), str(repo)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        text = subprocess.run(command, env=environment, cwd=repo, check=True, capture_output=True, text=True).stdout
        order, found = text.splitlines()
        orders.add(order)
        digests.add(found)
    assert len(orders) == 2, "the two processes hash strings alike, so this shows nothing"
    assert len(digests) == 1


def test_another_checkout_of_the_same_sources_is_the_same_content(repo: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("checkout")
    for path in (other, repo):
        (path / "script.py").write_text(SCRIPT)
    for name in SOURCES:
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_bytes((repo / name).read_bytes())
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    texts = [
        subprocess.run(
            [sys.executable, "script.py", "."], env=environment, cwd=path, check=True, capture_output=True
        ).stdout
        for path in (repo, other)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["ftc_train.py", "ftc_package/part.py"])
def test_the_digest_of_the_package_is_of_all_its_sources(
    repo: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("pytest_ftcheck.content.__file__", str(repo / "content.py"))
    before = package_digest.__wrapped__()
    assert package_digest.__wrapped__() == before
    (repo / "data.txt").write_text("another text")
    assert package_digest.__wrapped__() == before
    (repo / name).write_text("VALUE = 3\n")
    assert package_digest.__wrapped__() != before
