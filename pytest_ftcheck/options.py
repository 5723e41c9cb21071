"""The plugin's options: each from the command line, an environment variable, or the configuration file.

In this order of precedence. The command line's defaults are all None, so that "not given" can be told from any value;
the environment variable of ``--ftcheck-steps`` is ``FTCHECK_STEPS``, and its ini twin ``ftcheck_steps``.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import pytest

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# A spread has no meaning for fewer, and little for three.
FEWEST_REPEATS = 3
DEVICE = r"auto|cpu|cuda(:\d+)?"  # what devices.resolve_device understands


class InvalidValueError(ValueError):
    """A value that an option does not take; the text says what is allowed."""


# Named tuples, and patterns compiled when they are needed: together they save every session three milliseconds.
class Option(NamedTuple):
    """One option. ``parse`` turns a text into the value, and raises InvalidValueError.

    ``values``: the flag takes one of these after "=", and alone means the first of them.
    """

    name: str
    ini_type: Literal["string", "int", "bool", "linelist"]
    parse: Callable[[str], Any]
    help: str
    metavar: str | None = None
    values: tuple[str, ...] = ()

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


def _limit(text: str) -> int:
    if not text.strip().isdigit():
        raise InvalidValueError("a whole number of at least 0")
    return int(text)


def _repeats(text: str) -> int:
    if not (text.strip().isdigit() and int(text) >= FEWEST_REPEATS):
        raise InvalidValueError(f"a whole number of at least {FEWEST_REPEATS}")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise InvalidValueError("true, false")
    return text.lower() in TRUE


def _folder(text: str) -> str:
    if not text.strip():
        raise InvalidValueError("a folder")
    return text


def _size(text: str) -> int:
    from .sizes import bytes_of

    size = bytes_of(text)
    if size is None:
        raise InvalidValueError("a size such as 500MB or 2GiB")
    return size


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?", text.strip()) or float(text) <= 0:
        raise InvalidValueError("a number of seconds greater than 0")
    return float(text)


def _reason(text: str) -> str:
    if not text.strip():
        raise InvalidValueError("why, in a few words")
    return " ".join(text.split())


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise InvalidValueError("names with commas between them")
    return names


def _reasons(text: str) -> dict[str, str]:
    return _pairs(text, "check-id: reason")


def _limits(text: str) -> dict[str, str]:
    return _pairs(text, "metric: limit")


def _pairs(text: str, form: str) -> dict[str, str]:
    """Lines ``id: text`` as a dictionary."""
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon and id.strip() and reason.strip() for id, colon, reason in pairs):
        raise InvalidValueError(f"lines of the form '{form}'")
    return {id.strip(): reason.strip() for id, _, reason in pairs}


def _ref(text: str) -> str | None:
    if not text.strip() or text.startswith("-"):
        raise InvalidValueError("a branch, tag or commit of git; off")
    return None if text == "off" else text


def _place(text: str) -> str | None:
    if not text.strip():
        raise InvalidValueError("a folder, or a URL such as s3://bucket/ci; off")
    return None if text == "off" else text


AUDITS = ("recipe", "stack", "off")
SABOTAGES = ("report", "strict", "off")
STALE = ("error", "off")
REPORTS = ("html", "md", "json")
OOM = ("retry", "off")
EXECUTORS = ("local", "ray")
# Options that decide what a training is, and what it is held to.
DECISIVE = ("device", "steps", "seeds", "baseline-dir", "tolerance")


def _reports(text: str) -> dict[str, str | None]:
    """Kinds of report, each with its path where one is given."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        kind, colon, path = line.strip().partition(":")
        if kind not in (*REPORTS, "off") or (colon and not path.strip()) or (kind == "off" and colon):
            raise InvalidValueError(f"{', '.join(REPORTS)}, each with :PATH if you like; off")
        found[kind] = path.strip() or None
    return {} if "off" in found else found


def _one_of(values: tuple[str, ...]) -> Callable[[str], str | None]:
    def parse(text: str) -> str | None:
        if text not in values:
            raise InvalidValueError(", ".join(values))
        return None if text == "off" else text

    return parse


OPTIONS = (
    Option(
        "device", "string", _device, "Device that trainings run on; with cpu, tests marked gpu run on the CPU", "DEVICE"
    ),
    Option(
        "require-gpu", "bool", _switch, "Fail, instead of skip, tests marked gpu without one; fail if none was executed"
    ),
    Option("steps", "int", _count, "Horizon in optimizer updates, in place of the recipe's", "N"),
    Option("seeds", "int", _count, "Number of paired seeds, in place of the recipe's", "N"),
    Option("cache-dir", "string", _folder, "Folder or URL in which runs are kept and shared", "DIR"),
    Option("no-cache", "bool", _switch, "Neither read nor keep runs of other sessions"),
    Option("executor", "string", _one_of(EXECUTORS), "What carries out runs: local, or ray (a cluster)", "NAME"),
    Option("cache-size", "string", _size, "What kept runs may take; those used longest ago go first (1GB)", "SIZE"),
    Option("cache-info", "bool", _switch, "Print what is kept, and end"),
    Option("cache-clear", "bool", _switch, "Remove what is kept, but for what is being trained, and end"),
    Option(
        "audit", "string", _one_of(AUDITS), "Run the catalogue of checks on ft_recipe, or on the stack", values=AUDITS
    ),
    Option("list-checks", "bool", _switch, "Print the catalogue of checks and end"),
    Option("checks", "string", _names, "Checks to run, by id or theme, with commas between them", "NAMES"),
    Option("methods", "string", _names, "Methods to run checks on (default: full,lora)", "NAMES"),
    Option("expected-failures", "linelist", _reasons, "A check that an audit may fail, and why", "'ID: REASON'"),
    Option("time-limit", "string", _seconds, "Seconds that a run, or a check's training (300), may take", "SECONDS"),
    Option(
        "sabotage",
        "string",
        _one_of(SABOTAGES),
        "Break the recipe in every way that the catalogue knows, and report what notices",
        values=SABOTAGES,
    ),
    Option("against", "string", _ref, "Compare cost and step time with those of another commit, in turns", "REF"),
    Option("update", "bool", _switch, "Accept what is seen now as what is declared from now on (not in CI)"),
    Option("update-new-only", "bool", _switch, "The same for what nothing is declared of yet; the rest is held to"),
    Option("calibrate", "int", _repeats, "Accept, after N repetitions, with tolerances from their spread", "N"),
    Option("reason", "string", _reason, "Why what is declared changes; whatever accepts it wants this", "TEXT"),
    Option("baseline-dir", "string", _folder, "Folder of all baselines, in place of __ftcheck__ beside tests", "DIR"),
    Option("tolerance", "linelist", _limits, "Tolerance of a metric of baselines: 24 MiB, +0.5 ms", "'METRIC: T'"),
    Option("history", "string", _place, "Add what tests measure to the history in a folder, or at a URL", "PLACE"),
    Option("max-skips", "int", _limit, "Fail if more than N tests that use ftcheck were skipped, or undecided", "N"),
    Option("min-checks", "int", _count, "Fail if fewer than N tests that use ftcheck were executed", "N"),
    Option("report", "linelist", _reports, "Write a report: html, md or json, and where", "KIND[:PATH]"),
    Option("oom", "string", _one_of(OOM), "After out of memory, try once more with half the batch", values=OOM),
    Option("stale", "string", _one_of(STALE), "Fail where what is seen is far better than its baseline", values=STALE),
)


class Settings(NamedTuple):
    """The values of all options in a session; None where the recipe or a default decides."""

    device: str = "auto"
    require_gpu: bool = False
    steps: int | None = None
    seeds: int | None = None
    cache_dir: str | None = None
    no_cache: bool = False
    executor: Literal["local", "ray"] = "local"
    cache_size: int | None = None
    cache_info: bool = False
    cache_clear: bool = False
    audit: Literal["recipe", "stack"] | None = None
    list_checks: bool = False
    checks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    expected_failures: Mapping[str, str] | None = None
    time_limit: float | None = None
    sabotage: Literal["report", "strict"] | None = None
    against: str | None = None
    update: bool = False
    update_new_only: bool = False
    calibrate: int | None = None
    reason: str | None = None
    baseline_dir: str | None = None
    tolerance: Mapping[str, str] | None = None
    history: str | None = None
    max_skips: int | None = None
    min_checks: int | None = None
    stale: Literal["error"] | None = None
    oom: Literal["retry"] | None = None
    report: Mapping[str, str | None] | None = None

    @property
    def accepting(self) -> str | None:
        """The flag by which what is seen may become what is declared; None without one."""
        flags = {"calibrate": self.calibrate, "update": self.update, "update-new-only": self.update_new_only}
        return next((f"--ftcheck-{name}" for name, given in flags.items() if given), None)


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("ftcheck", "regression tests for fine-tuning")
    for option in OPTIONS:
        if option.values:
            _add_values(group, option)
        elif option.ini_type == "bool":
            group.addoption(option.flag, action="store_const", const="true", default=None, help=option.help)
        elif option.ini_type == "linelist":
            group.addoption(option.flag, action="append", default=None, metavar=option.metavar, help=option.help)
        else:
            group.addoption(option.flag, default=None, metavar=option.metavar, help=option.help)
        parser.addini(option.ini, f"{option.help} ({option.flag})", type=option.ini_type, default=None)


def _add_values(group: pytest.OptionGroup, option: Option) -> None:
    """Each value is a flag of its own: an optional value would swallow the path in ``--ftcheck-audit some_folder``."""
    for value in option.values:
        flags = [f"{option.flag}={value}"]
        if value == option.values[0]:
            flags.insert(0, option.flag)
        group.addoption(*flags, action="store_const", const=value, default=None, dest=option.ini, help=option.help)


def settings(config: pytest.Config) -> Settings:
    """The options' values. Raises pytest.UsageError, one line that names where a bad value came from."""
    given = {option.ini.removeprefix("ftcheck_"): _value(option, config) for option in OPTIONS}
    chosen = Settings(**{name: value for name, value in given.items() if value is not None})
    if chosen.require_gpu and chosen.device == "cpu":
        raise pytest.UsageError("--ftcheck-require-gpu with --ftcheck-device=cpu: choose one of them")
    if chosen.executor != "local" and ":" in chosen.device:
        raise pytest.UsageError(
            f"--ftcheck-device={chosen.device} with --ftcheck-executor=ray, which chooses the GPU itself: say cuda"
        )
    if chosen.audit == "stack" and chosen.sabotage:
        raise pytest.UsageError("--ftcheck-sabotage with --ftcheck-audit=stack: choose one of them")
    if chosen.cache_info and chosen.cache_clear:
        raise pytest.UsageError("--ftcheck-cache-info with --ftcheck-cache-clear: choose one of them")
    if chosen.against and (chosen.audit or chosen.sabotage):
        other = "--ftcheck-audit" if chosen.audit else "--ftcheck-sabotage"
        raise pytest.UsageError(f"--ftcheck-against with {other}: choose one of them")
    if chosen.sabotage and chosen.accepting:
        raise pytest.UsageError(f"--ftcheck-sabotage with {chosen.accepting}: choose one of them")
    return chosen


def decisive_flags(config: pytest.Config) -> list[str]:
    """Flags of this session's command line without which another session would see something else."""
    given = [(f"--ftcheck-{name}", config.getoption(f"--ftcheck-{name}")) for name in DECISIVE]
    return [f"{flag}={v}" for flag, value in given for v in (value if isinstance(value, list) else [value]) if v]


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
        (option.flag, _text(config.getoption(option.flag))),
        (f"environment variable {option.variable}", os.environ.get(option.variable)),
        (f"ini option {option.ini}", _ini_text(option, config)),
    ]


def _ini_text(option: Option, config: pytest.Config) -> str | None:
    try:
        value = config.getini(option.ini)
    except (ValueError, TypeError, pytest.UsageError) as error:
        # pytest converts by the declared type, and its own errors name neither the option nor what is allowed.
        raise pytest.UsageError(f"ini option {option.ini} is not of its type {option.ini_type}: {error}") from None
    return _text(value)


def _text(value: Any) -> str | None:
    """What was given, as one text; several lines for an option that is given several times."""
    return "\n".join(value) if isinstance(value, list) else None if value is None else str(value)
