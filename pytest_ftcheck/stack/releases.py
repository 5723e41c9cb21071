"""Which releases are installed, read without importing them."""

from __future__ import annotations

import functools
import re
from importlib import metadata

from ..errors import NotApplicable

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl")


@functools.cache
def installed(library: str) -> str | None:
    """The installed release of ``library``, or None."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def at_least(library: str, release: str) -> bool:
    """Whether ``library`` is installed in ``release`` or a later one."""
    found = installed(library)
    return found is not None and _numbers(found) >= _numbers(release)


def require(need: str) -> None:
    """Raise NotApplicable unless ``need`` is satisfied: "peft", "peft>=0.9" or "trl<1.0", several with commas."""
    for one in need.split(","):
        match = re.fullmatch(r"\s*([\w-]+)\s*(?:(>=|<)\s*([\d.]+))?\s*", one)
        assert match, f"not a need: {one!r}"
        library, relation, release = match.groups()
        found = installed(library)
        if found is None:
            raise NotApplicable(f"{library} is not installed")
        if relation and at_least(library, release) != (relation == ">="):
            raise NotApplicable(f"about {library} {relation} {release}; installed is {found}")


def _numbers(release: str) -> tuple[int, ...]:
    """(4, 57, 6) for "4.57.6"; what follows the numbers (rc1, +cpu, .dev0) does not count."""
    match = re.match(r"\d+(?:\.\d+)*", release)
    numbers = [int(part) for part in match.group().split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
