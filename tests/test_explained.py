"""Numbers and words with a record: nobody who computes with them may notice."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest

from pytest_ftcheck.explained import Count, Findings, Ratio, Winner

SUBJECT = {"a": "record"}
COUNT = Count(294_912, "trainable parameters", SUBJECT)
RATIO = Ratio(3.9, "static memory", SUBJECT)
WINNER = Winner("full", SUBJECT)

ALL = pytest.mark.parametrize(("value", "plain"), [(COUNT, 294_912), (RATIO, 3.9), (WINNER, "full")], ids=repr)


@ALL
def test_it_equals_the_plain_value_and_stands_for_it_as_a_key(value: Any, plain: Any) -> None:
    assert value == plain
    assert plain == value
    assert hash(value) == hash(plain)
    assert {plain: "found"}[value] == "found"
    assert isinstance(value, type(plain))


@ALL
def test_it_does_not_equal_another_value(value: Any, plain: Any) -> None:
    other = plain + plain
    assert value != other
    assert other != value


@ALL
def test_it_is_written_as_the_plain_value(value: Any, plain: Any) -> None:
    assert repr(value) == repr(plain)
    assert str(value) == str(plain)
    assert f"{value:>12}" == f"{plain:>12}"
    assert json.dumps({"value": value}) == json.dumps({"value": plain})


@ALL
@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda v, p=p: pickle.loads(pickle.dumps(v, protocol=p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ],
)
def test_a_copy_and_a_pickle_keep_the_record(value: Any, plain: Any, duplicate: Any) -> None:
    again = duplicate(value)
    assert again == plain
    assert type(again) is type(value)
    assert vars(again) == vars(value)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (COUNT + 1, 294_913),
        (1 + COUNT, 294_913),
        (COUNT - COUNT, 0),
        (2 * COUNT, 589_824),
        (COUNT // 8, 36_864),
        (COUNT / 2, 147_456.0),
        (-COUNT, -294_912),
        (sum([COUNT, COUNT]), 589_824),
        (divmod(COUNT, 1000)[1], 912),
        (RATIO + 1, 4.9),
        (2 * RATIO, 7.8),
        (round(RATIO), 4),
        (RATIO**2, 3.9**2),
        (math.log(RATIO), math.log(3.9)),
        (WINNER + "!", "full!"),
        (WINNER.upper(), "FULL"),
    ],
)
def test_arithmetic_gives_plain_values(found: Any, expected: Any) -> None:
    assert found == expected
    assert type(found) is type(expected)


def test_it_orders_among_plain_values() -> None:
    assert sorted([3, Count(2, "", None), 1]) == [1, 2, 3]
    assert Ratio(1.5, "", None) < 2 < Ratio(2.5, "", None)
    assert not Ratio(math.nan, "", None) < 2


@pytest.mark.parametrize("plain", [0, 0.0, ""])
def test_nothing_is_false(plain: Any) -> None:
    empty: dict[type, Any] = {int: Count(0, "", None), float: Ratio(0.0, "", None), str: Winner("", None)}
    assert not empty[type(plain)]


def test_a_ratio_compares_with_approx() -> None:
    assert pytest.approx(3.901, rel=1e-3) == RATIO
    assert pytest.approx(3.91, rel=1e-3) != RATIO


def test_findings_are_a_tuple_that_says_first_how_many_it_holds() -> None:
    found = Findings(["one", "two"])
    assert found == ("one", "two")
    assert repr(found).startswith("2 found: ")
    assert "one" in repr(found)
    assert "two" in repr(found)


def test_no_findings_are_an_empty_tuple() -> None:
    assert Findings() == ()
    assert not Findings()
    assert repr(Findings()) == "()"


def test_it_says_what_it_is_and_of_what() -> None:
    assert (COUNT.what, COUNT.subject) == ("trainable parameters", SUBJECT)
    assert (RATIO.what, RATIO.subject) == ("static memory", SUBJECT)
    assert WINNER.subject is SUBJECT
