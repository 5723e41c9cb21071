"""Records to JSON and back."""

from __future__ import annotations

import json
import math
import struct
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_ftcheck.codec import Record
from pytest_ftcheck.errors import RecordError
from pytest_ftcheck.explained import Count, Ratio


@dataclass(frozen=True)
class Inner(Record):
    value: float


@dataclass(frozen=True)
class Outer(Record):
    name: str
    count: int
    flag: bool
    inner: Inner
    maybe: Inner | None
    note: str | None
    series: tuple[float, ...]
    pairs: tuple[tuple[int, float], ...]
    fixed: tuple[int, str]
    table: dict[str, Inner]


OUTER = Outer(
    name="ein Name, 名前",
    count=3,
    flag=True,
    inner=Inner(0.5),
    maybe=Inner(1.5),
    note="a note",
    series=(1.0, 2.0),
    pairs=((1, 0.1), (2, 0.2)),
    fixed=(1, "one"),
    table={"a": Inner(1.0), "b": Inner(2.0)},
)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def edited(path: str, value: Any) -> str:
    """OUTER's JSON with another value at ``path``, such as ``pairs.0.1``."""
    data = json.loads(OUTER.to_json())
    *steps, last = path.split(".")
    place = data
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    "value",
    [
        *(0.1 + 0.2, 1 / 3, math.pi, 0.0, -0.0, 1e22, -1e-300, sys.float_info.max, sys.float_info.min),
        *(5e-324, 2.225073858507201e-308, math.nextafter(1.0, 2.0), math.inf, -math.inf, math.nan),
    ],
)
def test_a_float_keeps_every_bit(value: float) -> None:
    assert bits(Inner.from_json(Inner(value).to_json()).value) == bits(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_written_as_standard_json(value: float) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(Inner(value).to_json(), parse_constant=refuse) == {"value": repr(value)}


def test_a_record_of_everything_comes_back_equal() -> None:
    assert Outer.from_json(OUTER.to_json()) == OUTER


@dataclass(frozen=True)
class Rows(Record):
    rows: tuple[Inner, ...]
    losses: tuple[float, ...]


def test_records_and_numbers_in_a_tuple_come_back() -> None:
    text = Rows((Inner(0.5), Inner(math.inf)), (1.0, math.nan, -math.inf)).to_json()
    assert json.loads(text) == {"rows": [{"value": 0.5}, {"value": "inf"}], "losses": [1.0, "nan", "-inf"]}
    again = Rows.from_json(text)
    assert again.rows == (Inner(0.5), Inner(math.inf))
    assert [bits(loss) for loss in again.losses] == [bits(loss) for loss in (1.0, math.nan, -math.inf)]


def test_a_record_is_one_line() -> None:
    assert OUTER.to_json().count("\n") == 0


@pytest.mark.parametrize("path", ["maybe", "note"])
def test_an_optional_field_may_be_none(path: str) -> None:
    found = Outer.from_json(edited(path, None))
    assert getattr(found, path) is None
    assert Outer.from_json(found.to_json()) == found


@pytest.mark.parametrize("path", ["inner", "name", "series", "table"])
def test_a_field_that_is_not_optional_may_not_be_none(path: str) -> None:
    with pytest.raises(RecordError, match=rf"^Outer\.{path} is 'None'; expected"):
        Outer.from_json(edited(path, None))


def test_containers_come_back_as_the_declared_types() -> None:
    found = Outer.from_json(OUTER.to_json())
    assert isinstance(found.pairs, tuple)
    assert isinstance(found.pairs[0], tuple)
    assert isinstance(found.table["a"], Inner)


def test_an_int_where_a_float_belongs_becomes_a_float() -> None:
    found = Inner.from_json('{"value": 3}')
    assert found == Inner(3.0)
    assert type(found.value) is float


def test_our_own_numbers_are_written_as_plain_ones() -> None:
    record = Outer.from_json(edited("series", []))
    explained = Outer(**{**vars(record), "count": Count(3, "things", None), "inner": Inner(Ratio(0.5, "ratio", None))})
    assert explained.to_json() == record.to_json()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("count", True, "Outer.count is 'True'; expected int"),
        ("count", 3.0, "Outer.count is '3.0'; expected int"),
        ("count", "3", "Outer.count is '3'; expected int"),
        ("flag", 1, "Outer.flag is '1'; expected bool"),
        ("name", 1, "Outer.name is '1'; expected str"),
        ("note", 1, "Outer.note is '1'; expected str"),
        ("inner", [], "Outer.inner is '[]'; expected Inner"),
        ("inner.value", True, "Outer.inner.value is 'True'; expected float"),
        ("inner.value", "0.5", "Outer.inner.value is '0.5'; expected float"),
        ("inner.value", "NaN", "Outer.inner.value is 'NaN'; expected float"),
        ("maybe.value", None, "Outer.maybe.value is 'None'; expected float"),
        ("series", 1.0, "Outer.series is '1.0'; expected tuple"),
        ("series.1", "x", "Outer.series[1] is 'x'; expected float"),
        ("pairs.1.0", 2.5, "Outer.pairs[1][0] is '2.5'; expected int"),
        ("pairs.1", [2], "Outer.pairs[1] is '[2]'; expected 2 items"),
        ("fixed", [1, "one", 1], "Outer.fixed is \"[1, 'one', 1]\"; expected 2 items"),
        ("table", [], "Outer.table is '[]'; expected dict"),
        ("table.b.value", "x", "Outer.table.b.value is 'x'; expected float"),
        ("table.b", {"valeu": 1.0}, "Outer.table.b: missing fields ['value'], unknown fields ['valeu']"),
        ("inner", {}, "Outer.inner: missing fields ['value'], unknown fields []"),
        ("inner", {"value": 1, "more": 2}, "Outer.inner: missing fields [], unknown fields ['more']"),
    ],
)
def test_an_error_names_the_field_and_what_it_should_be(path: str, value: Any, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        Outer.from_json(edited(path, value))
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["", "{", '{"value": 0.5', "not JSON"])
def test_what_is_not_json_is_a_record_error(text: str) -> None:
    with pytest.raises(RecordError, match=r"^Inner: not JSON: "):
        Inner.from_json(text)


def test_a_long_wrong_value_is_cut_short() -> None:
    with pytest.raises(RecordError) as caught:
        Inner.from_json(json.dumps({"value": "x" * 10_000}))
    assert str(caught.value) == f"Inner.value is {'x' * 60!r}; expected float"
