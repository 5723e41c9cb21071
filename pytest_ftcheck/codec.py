"""Records to JSON and back, exactly: floats keep every bit, and a damaged file names the field that is wrong.

Written here, and not taken from a serialisation library, because records are read before anything but the standard
library may be imported (a second run from the cache starts in a fraction of a second).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import RecordError

R = TypeVar("R", bound="Record")

# JSON has no such numbers; a diverged run must still be stored as it was.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Record:
    """Base of the frozen dataclasses that carry results; gives them ``to_json`` and ``from_json``."""

    def to_json(self) -> str:
        """This record as one line of JSON; ``from_json`` gives an equal record, floats to the bit."""
        return json.dumps(encode(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls: type[R], text: str) -> R:
        """Read what ``to_json`` wrote. Raises RecordError that names the field which does not fit."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecordError(f"{cls.__name__}: not JSON: {error}") from None
        result = decode(cls, data, cls.__name__)
        assert isinstance(result, cls)
        return result


def encode(value: Any) -> Any:
    """Plain JSON data for a record, a tuple, a dictionary or a scalar."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def decode(kind: Any, data: Any, where: str) -> Any:
    """The value of type ``kind`` that ``data`` stands for; ``where`` is the path that an error names."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return decode(next(a for a in arguments if a is not type(None)), data, where)
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, data, where)
    if origin is tuple:
        return _decode_tuple(arguments, data, where)
    if origin is dict:
        _expect(isinstance(data, dict), dict, data, where)
        return {key: decode(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    return _decode_scalar(kind, data, where)


def _decode_record(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), kind, data, where)
    hints = _hints(kind)
    unknown = sorted(set(data) - set(hints))
    missing = sorted(set(hints) - set(data))
    if unknown or missing:
        raise RecordError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    return kind(**{name: decode(hints[name], data[name], f"{where}.{name}") for name in hints})


def _decode_tuple(arguments: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), tuple, data, where)
    kinds = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else list(arguments)
    _expect(len(kinds) == len(data), f"{len(kinds)} items", data, where)
    return tuple(decode(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, data, strict=True)))


def _decode_scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float:
        if isinstance(data, str) and data in _NON_FINITE:
            return _NON_FINITE[data]
        _expect(isinstance(data, (int, float)) and not isinstance(data, bool), float, data, where)
        return float(data)
    _expect(type(data) is kind, kind, data, where)
    return data


def _expect(fits: bool, kind: Any, data: Any, where: str) -> None:
    if not fits:
        name = getattr(kind, "__name__", str(kind))
        raise RecordError(f"{where} is {str(data)[:60]!r}; expected {name}")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}
