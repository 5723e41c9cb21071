"""The same verdicts, counts and records, and no run trained twice, however xdist divides the tests.

What is trained is left out: a run takes a moment and is one of builders.py. So no worker imports torch, and every way
to divide can be tried. test_plugin.py has workers that train.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_ftcheck import execution
from pytest_ftcheck.session import KINDS

CONFTEST = f"""
    import sys, time
    import pytest
    sys.path.append({str(Path(__file__).parent)!r})
    import builders
    from pytest_ftcheck import LoRA, Recipe, execution

    def execute(recipe, method, seed, steps, device, unfinished=None):
        with open("trained.log", "a") as log:
            log.write(f"{{method}} {{seed}}\\n")
        time.sleep(0.2)
        return builders.a_run(method, seed=seed, steps=steps, recipe=recipe.name)

    execution.execute = execute

    def model():
        raise AssertionError("nothing is trained")

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(name="a recipe", model=model, train_data=[1], lora=LoRA(r=2), steps=3, seeds=2)
"""
TESTS = """
    import pytest

    def test_full(ft_full): assert ft_full.method == "full"
    def test_lora(ft_lora): assert ft_lora.method == "lora"
    def test_pair(ft_pair): assert len(ft_pair.fulls) == 2
    def test_fails(ft_lora): assert ft_lora.steps == 4
    @pytest.mark.xfail(strict=True)
    def test_is_expected_to_fail(ft_run): assert ft_run("full", seed=1).seed == 0
    def test_skips_itself(ft_lora): pytest.skip("no data")
    def test_has_no_baseline(ft_full, ft_baseline): ft_baseline.check(ft_full)
    @pytest.mark.gpu(count=99)
    def test_of_a_large_machine(ft_lora): pass
    def test_plain(): pass
"""
QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest", "--ftcheck-no-cache")
MODES: dict[str, tuple[str, ...]] = {
    "no xdist": ("-p", "no:xdist"),
    **{mode: ("-n", "2", "--dist", mode) for mode in ("load", "loadscope", "loadfile", "loadgroup", "worksteal", "no")},
    "each": ("-n", "2", "--dist", "each"),
}


class Session(NamedTuple):
    """What there is to be seen of one from the outside. ``fates``: how often a test had an outcome."""

    code: int
    fates: dict[tuple[str, str, str], int]
    records: dict[str, set[str]]
    line: str
    trained: list[str]


class Witness:
    """Takes down the reports that reach the controller."""

    def __init__(self) -> None:
        self.fates: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self.records: dict[str, set[str]] = {kind: set() for kind in KINDS}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            status = getattr(report, "ftcheck_status", ["", "", ""])[2]
            self.fates[report.nodeid, report.outcome, status] += 1
        for kind, records in self.records.items():
            records.update(getattr(report, f"ftcheck_{kind}", []))


def session(pytester: pytest.Pytester, *arguments: str) -> Session:
    """A session of the project."""
    log, witness = pytester.path / "trained.log", Witness()
    log.write_text("")
    result = pytester.runpytest_inprocess(*QUIET, *arguments, plugins=[witness])
    line = next(line for line in result.outlines if line.startswith("ftcheck: ") and " executed" in line)
    return Session(int(result.ret), dict(witness.fates), witness.records, line, sorted(log.read_text().splitlines()))


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # An inner session must not take itself for one of our workers.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    # The inner conftest.py replaces it, in this process for a session without workers.
    monkeypatch.setattr(execution, "execute", execution.execute)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_one=TESTS, test_two=TESTS)
    return pytester


@pytest.fixture(scope="module")
def alone() -> dict[str, Session]:
    """The session without workers, once it has been made."""
    return {}


@pytest.mark.parametrize("mode", MODES)
def test_verdicts_counts_and_records_are_the_same(
    project: pytest.Pytester, request: pytest.FixtureRequest, alone: dict[str, Session], mode: str
) -> None:
    if "-n" in MODES[mode]:
        request.getfixturevalue("with_workers")
    if not alone:
        alone[""] = session(project, *MODES["no xdist"])
    seen, expected = session(project, *MODES[mode]), alone[""]
    assert seen.trained == ["full 0", "full 1", "lora 0", "lora 1"]
    assert seen.code == expected.code == pytest.ExitCode.TESTS_FAILED
    assert seen.records == expected.records
    assert len(expected.records["runs"]) == 4
    assert len(expected.records["judgements"]) == 2
    times = 2 if mode == "each" else 1
    assert seen.fates == {fate: times * count for fate, count in expected.fates.items()}
    assert len(expected.fates) == 18
    assert seen.line == line(times)


def line(times: int) -> str:
    """What is counted of two files, where every test runs so often."""
    passed, failed, baseline, expected = (f"{2 * times * n}" for n in (3, 1, 1, 1))
    executed = f"{12 * times} executed: {passed} passed, {failed} failed, {baseline} no baseline, "
    skipped = f"{4 * times} skipped: no GPU driver on this machine ({2 * times}), no data ({2 * times})"
    return f"ftcheck: {executed}{expected} expected failure; {skipped}"
