"""A user's own tests on their recipe, sound and broken, in a process of their own.

One process runs them as often as it is asked to, so that torch is imported once; it can be ended when they hang; and
what a broken training leaves behind stays in it. Run as a module it is that process: it reads a request a line from its
input, runs pytest, and writes the answer as a line to its output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .codec import Record
from .options import decisive_flags

# The user's tests may take this much longer on a broken recipe than on the sound one.
PATIENCE, LEAST_PATIENCE_S = 5.0, 60.0
# How long the first run, which imports torch, may take.
FIRST_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Performance(Record):
    """What became of the tests: node ids. ``refused``: why the recipe could not be broken in that way."""

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    refused: str = ""


class Rehearsal:
    """The tests that pass on the sound recipe, and which of them fail on a broken one.

    ``arguments`` are those of pytest. ``with_checks``: with the items of ``parametrize_with_checks`` among them.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, with_checks: bool) -> None:
        self._arguments, self._folder, self._with_checks = list(arguments), folder, with_checks
        self._process: subprocess.Popen[str] | None = None
        self._sound: tuple[str, ...] | None = None
        self._limit_s = FIRST_LIMIT_S

    @property
    def sound(self) -> tuple[str, ...]:
        """The tests that use the recipe and pass with it as it is: what can notice that it is broken."""
        if self._sound is None:
            start = time.perf_counter()
            answer = self._perform(None, ())
            self._sound = answer.passed if answer else ()
            self._limit_s = max(LEAST_PATIENCE_S, PATIENCE * (time.perf_counter() - start))
        return self._sound

    def first_to_notice(self, sabotage: str) -> str:
        """The node id of the first test that fails on the broken recipe; empty where none does, or where they take too
        long.
        """
        answer = self._perform(sabotage, self.sound) if self.sound else None
        return answer.failed[0] if answer and answer.failed else ""

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _perform(self, sabotage: str | None, only: Sequence[str]) -> Performance | None:
        """None where the process ended, or was ended because it took too long."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"sabotage": sabotage, "only": list(only), "with_checks": self._with_checks}
        timer = threading.Timer(self._limit_s, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({**request, "arguments": self._arguments}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if not answer:
            self.close()
            return None
        return Performance.from_json(answer)

    def _start(self) -> subprocess.Popen[str]:
        # What pytest-xdist leaves in the environment would make the process believe that it is a worker, and what a
        # broken recipe's tests say is not for the summary of a job.
        hidden = ("PYTEST_XDIST", "GITHUB_STEP_SUMMARY")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def arguments_of(config: pytest.Config, paths: Sequence[str]) -> list[str]:
    """How pytest is called for the tests in ``paths``: as for this session, but writing no file and on one worker."""
    arguments = [*paths, "--rootdir", str(config.rootpath)]
    if config.inipath is not None:
        arguments += ["-c", str(config.inipath)]
    if config.option.markexpr:
        arguments += ["-m", config.option.markexpr]
    return [*arguments, *flags_of(config)]


def flags_of(config: pytest.Config) -> list[str]:
    """The options of a session within this one: no files, one worker, the same training, and no audit of its own."""
    flags = ["-p", "no:cacheprovider", "--junitxml="]
    if config.pluginmanager.hasplugin("xdist"):
        flags += ["-n0"]
    flags += decisive_flags(config)
    # What is broken is broken in this process, and so is trained in it.
    flags += ["--ftcheck-executor=local"]
    return [*flags, "--ftcheck-audit=off", "--ftcheck-sabotage=off", "--ftcheck-against=off", "--ftcheck-no-cache"]


class Understudy:
    """The plugin that breaks ``ft_recipe`` in the process's sessions, and takes down which tests notice."""

    def __init__(self, request: dict[str, Any]) -> None:
        from .checks.catalogue import sabotages

        self._sabotage = {known.id: known for known in sabotages()}.get(request["sabotage"])
        self._only, self._with_checks = set(request["only"]), request["with_checks"]
        self.passed: dict[str, bool] = {}
        self.refused = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that can notice; first the checks that have this way to break a recipe as their control."""
        items[:] = [item for item in items if self._may_notice(item)]
        items.sort(key=self._is_no_control_of)

    def _may_notice(self, item: pytest.Item) -> bool:
        names = getattr(item, "fixturenames", ())
        if self._only:
            return item.nodeid in self._only
        return "ft_recipe" in names and (self._with_checks or "ft_check" not in names)

    def _is_no_control_of(self, item: pytest.Item) -> bool:
        from .parametrize import plan_of

        plan = plan_of(item)
        return plan is None or self._sabotage not in plan.check.controls

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Put the broken recipe in place of the sound one."""
        value = yield
        if fixturedef.argname != "ft_recipe" or self._sabotage is None or self.refused:
            return value
        from .errors import NotApplicable

        try:
            value = self._sabotage.apply(value)  # type: ignore[arg-type]
        except NotApplicable as reason:
            self.refused = str(reason)
        assert fixturedef.cached_result is not None
        # What pytest gives to whoever asks for the fixture is this, and not what the hook returns.
        fixturedef.cached_result = (value, fixturedef.cached_result[1], None)
        return value

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that is skipped notices nothing."""
        if report.failed or (report.when == "call" and report.passed):
            self.passed[report.nodeid] = report.passed and self.passed.get(report.nodeid, True)

    def performance(self) -> Performance:
        passed = tuple(nodeid for nodeid, well in self.passed.items() if well)
        return Performance(passed, tuple(self.passed.keys() - set(passed)), self.refused)


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What tests and their libraries print must not come between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        understudy = Understudy(request)
        stop = ["-x"] if request["sabotage"] else []
        pytest.main([*request["arguments"], *stop], plugins=[understudy])
        answers.write(understudy.performance().to_json() + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
