"""What a baseline's file has of one test: what was seen, where, of which code, and why it was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..codec import Record, decode, encode
from ..errors import RecordError
from .fingerprint import Fingerprint
from .metric import DIRECTIONS, Curve, Metric, Names, Value

# Of a metric in a file: the key that says what it is -> the type of its value.
FORMS: Mapping[str, type] = {"curve": Curve, "names": Names, "text": str, "value": float}


@dataclass(frozen=True)
class Acceptation(Record):
    """Why, and from which commit ("" outside of a repository)."""

    because: str
    commit: str


@dataclass(frozen=True)
class Entry:
    """``code`` is a digest of the recipe and of the sources that it rests on; "" where that cannot be told."""

    metrics: Mapping[str, Metric]
    fingerprint: Fingerprint
    accepted: Acceptation
    code: str = ""

    def to_data(self) -> dict[str, Any]:
        """Plain data, as it stands in the file."""
        return {
            "accepted": encode(self.accepted),
            "code": self.code,
            "fingerprint": encode(self.fingerprint),
            "metrics": {name: _metric_data(metric) for name, metric in self.metrics.items()},
        }

    @classmethod
    def from_data(cls, data: Any) -> Entry:
        """Read what ``to_data`` gave. Raises EntryError, with the keys that lead to what is wrong."""
        _expect(isinstance(data, dict), [], "expected an object")
        unknown = data.keys() ^ {"accepted", "code", "fingerprint", "metrics"}
        _expect(not unknown, [], f"expected accepted, code, fingerprint and metrics, not {', '.join(sorted(unknown))}")
        _expect(isinstance(data["metrics"], dict), ["metrics"], "expected an object")
        _expect(isinstance(data["code"], str), ["code"], "expected a text")
        return cls(
            metrics={name: _metric(name, item) for name, item in data["metrics"].items()},
            fingerprint=_record(Fingerprint, data, "fingerprint"),
            accepted=_record(Acceptation, data, "accepted"),
            code=data["code"],
        )


class EntryError(RecordError):
    """An entry is not as it must be; ``path`` is the keys that lead to the place."""

    def __init__(self, path: list[str], what: str) -> None:
        super().__init__(what)
        self.path = path


def _metric_data(metric: Metric) -> dict[str, Any]:
    form = next(form for form, kind in FORMS.items() if form == "value" or isinstance(metric.value, kind))
    data: dict[str, Any] = {form: encode(metric.value)}
    if metric.unit:
        data["unit"] = metric.unit
    if metric.direction != "same":
        data["better"] = metric.direction
    if metric.samples:
        data["samples"] = list(metric.samples)
    if metric.limit:
        data["limit"] = metric.limit
    return data


def _metric(name: str, data: Any) -> Metric:
    path = ["metrics", name]
    _expect(isinstance(data, dict), path, "expected an object")
    forms = [form for form in FORMS if form in data]
    _expect(len(forms) == 1, path, f"expected one of {', '.join(FORMS)}")
    unknown = sorted(data.keys() - {*forms, "unit", "better", "samples", "limit"})
    _expect(not unknown, path, f"expected no {', '.join(unknown)}")
    better = data.get("better", "same")
    _expect(better in DIRECTIONS, path, f"better is {better!r}; expected {', '.join(DIRECTIONS)}")
    try:
        value = _value(forms[0], data[forms[0]])
        samples = decode(tuple[float, ...], data.get("samples", []), "samples")
        unit, limit = (decode(str, data.get(key, ""), key) for key in ("unit", "limit"))
    except RecordError as error:
        raise EntryError(path, str(error)) from None
    metric = Metric(name, value, unit, better, samples, limit)
    _expect(metric.finite, path, "expected numbers that can be compared")
    return metric


def _value(form: str, data: Any) -> Value:
    if form == "value" and type(data) is int:
        return data
    value: Value = decode(FORMS[form], data, form)
    if isinstance(value, Curve) and len(value.steps) != len(value.values):
        raise RecordError(f"curve has {len(value.steps)} steps and {len(value.values)} values")
    return value


def _record(kind: type[Any], data: dict[str, Any], key: str) -> Any:
    try:
        return decode(kind, data[key], key)
    except RecordError as error:
        raise EntryError([key], str(error)) from None


def _expect(fits: bool, path: list[str], what: str) -> None:
    if not fits:
        raise EntryError(path, what)
