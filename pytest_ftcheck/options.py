"""The plugin's options: each from the command line, an environment variable, or the configuration file.

In this order of precedence. The command line's defaults are all None, so that "not given" can be told from any value;
the environment variable of ``--ftcheck-steps`` is ``FTCHECK_STEPS``, and its ini twin ``ftcheck_steps``.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pytest

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
DEVICE = r"auto|cpu|cuda(:\d+)?"  # what devices.resolve_device understands


class InvalidValueError(ValueError):
    """A value that an option does not take; the text says what is allowed."""


# Named tuples, and patterns compiled when they are needed: together they save every session three milliseconds.
class Option(NamedTuple):
    """One option. ``parse`` turns a text into the value, and raises InvalidValueError."""

    name: str
    ini_type: Literal["string", "int", "bool"]
    parse: Callable[[str], Any]
    help: str
    metavar: str | None = None

    @property
    def flag(self) -> str:
        return f"--ftcheck-{self.name}"

    @property
    def ini(self) -> str:
        return "ftcheck_" + self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return self.ini.upper()


def _device(text: str) -> str:
    if not re.fullmatch(DEVICE, text):
        raise InvalidValueError("auto, cpu, cuda, cuda:N")
    return text


def _count(text: str) -> int:
    if not (text.strip().isdigit() and int(text) >= 1):
        raise InvalidValueError("a whole number of at least 1")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise InvalidValueError("true, false")
    return text.lower() in TRUE


def _folder(text: str) -> str:
    if not text.strip():
        raise InvalidValueError("a folder")
    return text


OPTIONS = (
    Option(
        "device", "string", _device, "Device that trainings run on; with cpu, tests marked gpu run on the CPU", "DEVICE"
    ),
    Option(
        "require-gpu", "bool", _switch, "Fail, instead of skip, tests marked gpu without one; fail if none was executed"
    ),
    Option("steps", "int", _count, "Horizon in optimizer updates, in place of the recipe's", "N"),
    Option("seeds", "int", _count, "Number of paired seeds, in place of the recipe's", "N"),
    Option("cache-dir", "string", _folder, "Folder in which runs are kept and shared", "DIR"),
    Option("no-cache", "bool", _switch, "Neither read nor keep runs of other sessions"),
)


class Settings(NamedTuple):
    """The values of all options in a session; None where the recipe or a default decides."""

    device: str = "auto"
    require_gpu: bool = False
    steps: int | None = None
    seeds: int | None = None
    cache_dir: str | None = None
    no_cache: bool = False


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("ftcheck", "regression tests for fine-tuning")
    for option in OPTIONS:
        if option.ini_type == "bool":
            group.addoption(option.flag, action="store_const", const="true", default=None, help=option.help)
        else:
            group.addoption(option.flag, default=None, metavar=option.metavar, help=option.help)
        parser.addini(option.ini, f"{option.help} ({option.flag})", type=option.ini_type, default=None)


def settings(config: pytest.Config) -> Settings:
    """The options' values. Raises pytest.UsageError, one line that names where a bad value came from."""
    given = {option.ini.removeprefix("ftcheck_"): _value(option, config) for option in OPTIONS}
    chosen = Settings(**{name: value for name, value in given.items() if value is not None})
    if chosen.require_gpu and chosen.device == "cpu":
        raise pytest.UsageError("--ftcheck-require-gpu with --ftcheck-device=cpu: choose one of them")
    return chosen


def _value(option: Option, config: pytest.Config) -> Any:
    for where, text in _sources(option, config):
        if text is None:
            continue
        try:
            return option.parse(text)
        except InvalidValueError as error:
            raise pytest.UsageError(f"{where} is {text!r}; allowed: {error}") from None
    return None


def _sources(option: Option, config: pytest.Config) -> list[tuple[str, str | None]]:
    """Where a value may come from, first the one that wins, and the text that is there."""
    return [
        (option.flag, config.getoption(option.flag)),
        (f"environment variable {option.variable}", os.environ.get(option.variable)),
        (f"ini option {option.ini}", _ini_text(option, config)),
    ]


def _ini_text(option: Option, config: pytest.Config) -> str | None:
    try:
        value = config.getini(option.ini)
    except (ValueError, TypeError, pytest.UsageError) as error:
        # pytest converts by the declared type, and its own errors name neither the option nor what is allowed.
        raise pytest.UsageError(f"ini option {option.ini} is not of its type {option.ini_type}: {error}") from None
    return None if value is None else str(value)
