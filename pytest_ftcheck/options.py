"""The plugin's options: each from the command line, an environment variable, or the configuration file.

In this order of precedence. The command line's defaults are all None, so that "not given" can be told from any value;
the environment variable of ``--ftcheck-steps`` is ``FTCHECK_STEPS``, and its ini twin ``ftcheck_steps``.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import pytest

from . import option_values as parse
from .option_values import InvalidValueError


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


AUDITS = ("recipe", "stack", "off")
SABOTAGES = ("report", "strict", "off")
STALE = ("error", "off")
OOM = ("retry", "off")
EXECUTORS = ("local", "ray")
# Options that decide what a training is, and what it is held to.
DECISIVE = ("device", "steps", "seeds", "baseline-dir", "tolerance")

OPTIONS = (
    Option(
        "device",
        "string",
        parse.device,
        "Device that trainings run on; with cpu, tests marked gpu run on the CPU",
        "DEVICE",
    ),
    Option(
        "require-gpu",
        "bool",
        parse.switch,
        "Fail, instead of skip, tests marked gpu without one; fail if none was executed",
    ),
    Option("steps", "int", parse.count, "Horizon in optimizer updates, in place of the recipe's", "N"),
    Option("seeds", "int", parse.count, "Number of paired seeds, in place of the recipe's", "N"),
    Option("cache-dir", "string", parse.folder, "Folder or URL in which runs are kept and shared", "DIR"),
    Option("no-cache", "bool", parse.switch, "Neither read nor keep runs of other sessions"),
    Option("executor", "string", parse.one_of(EXECUTORS), "What carries out runs: local, or ray (a cluster)", "NAME"),
    Option(
        "cache-size", "string", parse.size, "What kept runs may take; those used longest ago go first (1GB)", "SIZE"
    ),
    Option("cache-info", "bool", parse.switch, "Print what is kept, and end"),
    Option("cache-clear", "bool", parse.switch, "Remove what is kept, but for what is being trained, and end"),
    Option(
        "audit",
        "string",
        parse.one_of(AUDITS),
        "Run the catalogue of checks on ft_recipe, or on the stack",
        values=AUDITS,
    ),
    Option("list-checks", "bool", parse.switch, "Print the catalogue of checks and end"),
    Option("checks", "string", parse.names, "Checks to run, by id or theme, with commas between them", "NAMES"),
    Option("methods", "string", parse.names, "Methods to run checks on (default: full,lora)", "NAMES"),
    Option("expected-failures", "linelist", parse.reasons, "A check that an audit may fail, and why", "'ID: REASON'"),
    Option(
        "time-limit", "string", parse.seconds, "Seconds that a run, or a check's training (300), may take", "SECONDS"
    ),
    Option(
        "sabotage",
        "string",
        parse.one_of(SABOTAGES),
        "Break the recipe in every way that the catalogue knows, and report what notices",
        values=SABOTAGES,
    ),
    Option("against", "string", parse.ref, "Compare cost and step time with those of another commit, in turns", "REF"),
    Option("update", "bool", parse.switch, "Accept what is seen now as what is declared from now on (not in CI)"),
    Option(
        "update-new-only", "bool", parse.switch, "The same for what nothing is declared of yet; the rest is held to"
    ),
    Option("calibrate", "int", parse.repeats, "Accept, after N repetitions, with tolerances from their spread", "N"),
    Option("reason", "string", parse.reason, "Why what is declared changes; whatever accepts it wants this", "TEXT"),
    Option(
        "baseline-dir", "string", parse.folder, "Folder of all baselines, in place of __ftcheck__ beside tests", "DIR"
    ),
    Option("tolerance", "linelist", parse.limits, "Tolerance of a metric of baselines: 24 MiB, +0.5 ms", "'METRIC: T'"),
    Option("history", "string", parse.place, "Add what tests measure to the history in a folder, or at a URL", "PLACE"),
    Option(
        "max-skips", "int", parse.limit, "Fail if more than N tests that use ftcheck were skipped, or undecided", "N"
    ),
    Option("min-checks", "int", parse.count, "Fail if fewer than N tests that use ftcheck were executed", "N"),
    Option("report", "linelist", parse.reports, "Write a report: html, md or json, and where", "KIND[:PATH]"),
    Option("oom", "string", parse.one_of(OOM), "After out of memory, try once more with half the batch", values=OOM),
    Option(
        "stale", "string", parse.one_of(STALE), "Fail where what is seen is far better than its baseline", values=STALE
    ),
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
