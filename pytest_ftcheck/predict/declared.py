"""The costs that a repository commits beside its code: one file of JSON, with an entry for each recipe and method.

It is written to be reviewed: sorted, and a line for each kind of storage that is held, so that a diff of it says what
has changed, and a merge of two changes is seen where they meet.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..codec import Record, decode, encode
from ..committed import CommittedFile, line_of
from ..errors import RecordError
from ..run import Breakdown
from .cost import MOMENTS, Cost
from .prediction import Held, Moment


@dataclass(frozen=True)
class Declared(Record):
    """A cost, and why it was accepted."""

    reason: str
    cost: Cost


class DeclaredCosts:
    """The costs in the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = CommittedFile(path)

    def read(self, recipe: str, method: str) -> Declared | None:
        """The entry of a recipe and a method, by their names; None where there is none. Raises RecordError, with the
        number of the line, where the file is damaged.
        """
        text, entries = self._entries()
        if method not in entries.get(recipe, {}):
            return None
        try:
            return _decoded(entries[recipe][method])
        except RecordError as error:
            field = re.split(r" is |: ", str(error))[0].split(".")
            raise self._file.damaged(line_of(text, [recipe, method, *field[1:]]), str(error)) from None

    def write(self, recipe: str, method: str, declared: Declared) -> None:
        """Put an entry in place of the one that there may be; the others stay. The file appears whole or not at all."""
        with self._file.locked():
            _, entries = self._entries()
            entries.setdefault(recipe, {})[method] = _encoded(declared)
            self._file.write(json.dumps(entries, indent=2, sort_keys=True) + "\n")

    def _entries(self) -> tuple[str, dict[str, Any]]:
        """The text of the file, and the entries in it: recipe -> method -> plain data."""
        text, entries = self._file.read()
        if not text:
            return "", {}
        if not isinstance(entries, dict) or not all(isinstance(methods, dict) for methods in entries.values()):
            raise self._file.damaged(1, "expected an object of recipes, each an object of methods")
        return text, entries


def _encoded(declared: Declared) -> dict[str, Any]:
    """Plain data; each moment as {what is held: bytes}, from which the rest of it follows."""
    data: dict[str, Any] = encode(declared)
    data["cost"]["moments"] = {
        moment.phase: {_label(held): held.bytes for held in moment.held} for moment in declared.cost.moments
    }
    return data


def _decoded(data: Any) -> Declared:
    cost = data.get("cost") if isinstance(data, dict) else None
    if not isinstance(cost, dict) or not isinstance(cost.get("moments"), dict):
        raise RecordError("entry.cost: expected a cost with moments")
    unknown = sorted(set(cost["moments"]) - set(MOMENTS))
    if unknown:
        raise RecordError(f"entry.cost.moments.{unknown[0]}: expected one of {', '.join(MOMENTS)}")
    moments = [encode(_moment(phase, cost["moments"][phase])) for phase in MOMENTS if phase in cost["moments"]]
    plain = {**data, "cost": {**cost, "moments": moments}}
    declared = decode(Declared, plain, "entry")
    assert isinstance(declared, Declared)
    return declared


def _label(held: Held) -> str:
    return f"{held.category} {held.module or '-'} {held.op} {held.dtype} x{held.count}"


def _moment(phase: str, sizes: Any) -> Moment:
    where = f"entry.cost.moments.{phase}"
    if not isinstance(sizes, dict):
        raise RecordError(f"{where}: expected what is held")
    held = sorted((_held(label, size, where) for label, size in sizes.items()), key=_largest_first)
    by_category: dict[str, int] = {}
    for one in held:
        by_category[one.category] = by_category.get(one.category, 0) + one.bytes
    return Moment(phase, sum(by_category.values()), Breakdown(**by_category), tuple(held))


def _held(label: str, size: Any, where: str) -> Held:
    match = re.fullmatch(r"(\w+) (.+) (\S+) (\S+) x(\d+)", label)
    if match is None or match[1] not in Breakdown.__dataclass_fields__ or type(size) is not int:
        raise RecordError(f"{where}.{label}: expected 'category module operation dtype xCOUNT': bytes")
    return Held(match[1], match[2] if match[2] != "-" else "", match[3], match[4], int(match[5]), size)


def _largest_first(held: Held) -> tuple[Any, ...]:
    return -held.bytes, held.category, held.module, held.op, held.dtype
