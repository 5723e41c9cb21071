"""The values of the plugin's options: each function turns a text into one, and raises InvalidValueError.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import re
from collections.abc import Callable

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# A spread has no meaning for fewer, and little for three.
FEWEST_REPEATS = 3
DEVICE = r"auto|cpu|cuda(:\d+)?"  # what devices.resolve_device understands
REPORTS = ("html", "md", "json")


class InvalidValueError(ValueError):
    """A value that an option does not take; the text says what is allowed."""


def device(text: str) -> str:
    if not re.fullmatch(DEVICE, text):
        raise InvalidValueError("auto, cpu, cuda, cuda:N")
    return text


def count(text: str) -> int:
    if not (text.strip().isdigit() and int(text) >= 1):
        raise InvalidValueError("a whole number of at least 1")
    return int(text)


def limit(text: str) -> int:
    if not text.strip().isdigit():
        raise InvalidValueError("a whole number of at least 0")
    return int(text)


def repeats(text: str) -> int:
    if not (text.strip().isdigit() and int(text) >= FEWEST_REPEATS):
        raise InvalidValueError(f"a whole number of at least {FEWEST_REPEATS}")
    return int(text)


def switch(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise InvalidValueError("true, false")
    return text.lower() in TRUE


def folder(text: str) -> str:
    if not text.strip():
        raise InvalidValueError("a folder")
    return text


def size(text: str) -> int:
    from .sizes import bytes_of

    size = bytes_of(text)
    if size is None:
        raise InvalidValueError("a size such as 500MB or 2GiB")
    return size


def seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?", text.strip()) or float(text) <= 0:
        raise InvalidValueError("a number of seconds greater than 0")
    return float(text)


def reason(text: str) -> str:
    if not text.strip():
        raise InvalidValueError("why, in a few words")
    return " ".join(text.split())


def names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise InvalidValueError("names with commas between them")
    return names


def reasons(text: str) -> dict[str, str]:
    return pairs(text, "check-id: reason")


def limits(text: str) -> dict[str, str]:
    return pairs(text, "metric: limit")


def pairs(text: str, form: str) -> dict[str, str]:
    """Lines ``id: text`` as a dictionary."""
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon and id.strip() and reason.strip() for id, colon, reason in pairs):
        raise InvalidValueError(f"lines of the form '{form}'")
    return {id.strip(): reason.strip() for id, _, reason in pairs}


def ref(text: str) -> str | None:
    if not text.strip() or text.startswith("-"):
        raise InvalidValueError("a branch, tag or commit of git; off")
    return None if text == "off" else text


def place(text: str) -> str | None:
    if not text.strip():
        raise InvalidValueError("a folder, or a URL such as s3://bucket/ci; off")
    return None if text == "off" else text


def reports(text: str) -> dict[str, str | None]:
    """Kinds of report, each with its path where one is given."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        kind, colon, path = line.strip().partition(":")
        if kind not in (*REPORTS, "off") or (colon and not path.strip()) or (kind == "off" and colon):
            raise InvalidValueError(f"{', '.join(REPORTS)}, each with :PATH if you like; off")
        found[kind] = path.strip() or None
    return {} if "off" in found else found


def one_of(values: tuple[str, ...]) -> Callable[[str], str | None]:
    def parse(text: str) -> str | None:
        if text not in values:
            raise InvalidValueError(", ".join(values))
        return None if text == "off" else text

    return parse
