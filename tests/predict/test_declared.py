"""The file of declared costs: reviewed by people, merged by git, and damaged by both."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from predict.variants import predicted

from pytest_ftcheck.errors import RecordError
from pytest_ftcheck.predict.cost import Cost
from pytest_ftcheck.predict.declared import Declared, DeclaredCosts


@pytest.fixture(scope="module")
def cost() -> Cost:
    return Cost.of(predicted("sound"))


@pytest.fixture
def costs(tmp_path: Path, cost: Cost) -> DeclaredCosts:
    """A file with one entry."""
    declared = DeclaredCosts(tmp_path / "folder" / "costs.json")
    declared.write("mine", "lora", Declared("the first", cost))
    return declared


def test_what_is_written_is_read_again_to_the_byte(costs: DeclaredCosts, cost: Cost) -> None:
    assert costs.read("mine", "lora") == Declared("the first", cost)
    assert [file.name for file in costs.path.parent.iterdir()] == ["costs.json"]


def test_other_entries_stay(costs: DeclaredCosts, cost: Cost) -> None:
    costs.write("mine", "full", Declared("the second", cost))
    costs.write("other", "lora", Declared("the third", cost))
    costs.write("mine", "lora", Declared("again", cost))
    found = {key: costs.read(*key) for key in (("mine", "full"), ("other", "lora"), ("mine", "lora"))}
    assert [declared.reason for declared in found.values() if declared] == ["the second", "the third", "again"]


def test_there_is_no_entry_where_none_was_written(costs: DeclaredCosts, tmp_path: Path) -> None:
    assert costs.read("mine", "full") is None
    assert costs.read("other", "lora") is None
    assert DeclaredCosts(tmp_path / "none.json").read("mine", "lora") is None


def test_the_file_is_sorted_with_a_line_for_each_kind_and_nothing_of_the_machine(costs: DeclaredCosts) -> None:
    text = costs.path.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert '          "weights transformer.h.*.attn.c_attn.lora_A outside float32 x1": 24576,\n' in text
    assert not {"took_s", "operations", "host", "user"} & set(json.loads(text)["mine"]["lora"]["cost"])


def test_costs_that_are_equal_make_equal_files(costs: DeclaredCosts, cost: Cost, tmp_path: Path) -> None:
    again = DeclaredCosts(tmp_path / "again.json")
    again.write("mine", "lora", Declared("the first", cost))
    assert again.path.read_bytes() == costs.path.read_bytes()


Damage = Callable[[str], str]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "conflict": (lambda t: t.replace('  "mine"', '<<<<<<< ours\n  "mine"'), r":2: an unresolved merge conflict"),
    "cut off": (lambda t: t[: t.index('"reason"')], r":\d+: not JSON: "),
    "twice": (lambda t: t.replace('"dtype"', '"gpu": "a100",\n"dtype"'), r":\d+: two entries are called 'gpu'"),
    "word": (lambda t: t.replace('"tokens": 256', '"tokens": "many"'), r"entry.cost.tokens is 'many'; expected int"),
    "missing": (lambda t: t.replace('"tokens": 256,', ""), r"entry.cost: missing fields \['tokens'\]"),
    "label": (lambda t: t.replace("lora_A outside float32 x1", "lora_A"), r"expected 'category module operation"),
    "moment": (lambda t: t.replace('"saved": {', '"between": {'), r"entry.cost.moments.between: expected one of"),
    "list": (lambda t: "[]", r":1: expected an object of recipes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_with_its_line(costs: DeclaredCosts, cost: Cost, damage: str) -> None:
    change, message = DAMAGES[damage]
    before = costs.path.read_text()
    costs.path.write_text(change(before))
    assert costs.path.read_text() != before
    with pytest.raises(RecordError, match=message) as caught:
        costs.read("mine", "lora")
    assert str(caught.value).startswith(f"{costs.path}:")


def test_the_line_is_that_of_the_field(costs: DeclaredCosts) -> None:
    lines = costs.path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, start=1) if '"tokens"' in line)
    costs.path.write_text("\n".join(lines).replace('"tokens": 256', '"tokens": null'))
    with pytest.raises(RecordError, match=rf"costs.json:{number}: entry.cost.tokens is 'None'; expected int"):
        costs.read("mine", "lora")


def test_a_damaged_file_is_not_written_over(costs: DeclaredCosts, cost: Cost) -> None:
    costs.path.write_text("<<<<<<< ours\n")
    with pytest.raises(RecordError, match="merge conflict"):
        costs.write("mine", "full", Declared("anyway", cost))
    assert costs.path.read_text() == "<<<<<<< ours\n"


def _write(path: Path, cost: Cost, number: int) -> None:
    DeclaredCosts(path).write("mine", f"method{number}", Declared("at once", cost))


def test_workers_that_write_at_once_lose_nothing(costs: DeclaredCosts, cost: Cost) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write, args=(costs.path, cost, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(json.loads(costs.path.read_text())["mine"]) == {"lora", *(f"method{n}" for n in range(4))}
