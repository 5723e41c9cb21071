from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest
import torch
from casualties import POOL

import pytest_ftcheck.aftermath
import pytest_ftcheck.budget
from pytest_ftcheck import devices

assert pytest_ftcheck.aftermath
assert pytest_ftcheck.budget

THIRTY = """
    import pytest
    pytestmark = pytest.mark.gpu
    EXHAUSTED = (11, 14, 17)

    @pytest.mark.parametrize("number", range(30))
    def test_it(number, take):
        held = take(60)
        if number in EXHAUSTED:
            more = take(60)
        if number % 7 == 3:
            pytest.skip("for a reason of its own")
        assert number % 9, "fails alone too"
"""
ON_CPU = ("--ftcheck-device=cpu", "-p", "no:cacheprovider")


def verdicts(pytester: pytest.Pytester, *arguments: str) -> dict[str, str]:
    result = pytester.runpytest_inprocess("-v", "-p", "no:randomly", *ON_CPU, *arguments)
    words = [line.split() for line in result.outlines if "test_it.py::" in line and "%]" in line]
    if "-n" in arguments:  # [gw0] [ 3%] PASSED test_it.py::test_it[0]
        return {line[-1]: line[-2] for line in words}
    return {line[0]: line[1] for line in words}


@pytest.fixture
def thirty(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(POOL)
    pytester.makepyfile(test_it=THIRTY)
    return pytester


def alone() -> dict[str, str]:
    """What the tests that do not run out of memory are by themselves."""

    def verdict(number: int) -> str:
        return "SKIPPED" if number % 7 == 3 else "PASSED" if number % 9 else "FAILED"

    return {f"test_it.py::test_it[{number}]": verdict(number) for number in range(30) if number not in (11, 14, 17)}


EXHAUSTED = {f"test_it.py::test_it[{number}]": "FAILED" for number in (11, 14, 17)}


@pytest.mark.parametrize("workers", [("-p", "no:xdist"), ("-n", "2")], ids=" ".join)
def test_tests_that_run_out_of_memory_change_no_other_verdict(
    thirty: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    assert verdicts(thirty, *workers) == alone() | EXHAUSTED


def test_without_what_frees_the_memory_the_next_one_fails_too(
    thirty: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest_ftcheck.aftermath, "clear_locals", lambda error: None)
    assert verdicts(thirty, "-p", "no:xdist", "-k", "11 or 12")["test_it.py::test_it[12]"] == "FAILED"


HELD = """
    import sys, weakref
    import pytest, torch

    ALIVE = weakref.WeakSet()

    def batch():
        made = torch.ones(2**20)
        ALIVE.add(made)
        return made

    class Loop:
        def step(self):
            activations = batch()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def from_another():
        mine = batch()
        try:
            Loop().step()
        except RuntimeError as error:
            other = batch()
            raise ValueError("the step failed") from error

    def while_handling():
        mine = batch()
        try:
            Loop().step()
        except RuntimeError:
            raise KeyError("in the handler")

    def hidden():
        try:
            Loop().step()
        except RuntimeError:
            raise KeyError("in the handler") from None

    def grouped():
        errors = []
        for _ in range(2):
            try:
                Loop().step()
            except RuntimeError as error:
                errors.append(error)
        raise ExceptionGroup("of two ranks", errors)

    def on_the_cpu():
        held = batch()
        torch.empty(2**55)
"""


def test_after_out_of_memory_no_tensor_of_its_frames_is_left(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HELD)
    pytester.makepyfile(
        """
        import sys
        import pytest
        from conftest import *

        FAILING = [Loop().step, from_another, while_handling, hidden, on_the_cpu]
        FAILING += [grouped] if sys.version_info >= (3, 11) else []

        @pytest.fixture
        def kept():
            return getattr(sys, "last_value", None)  # pytest keeps the error until a test is called, for a debugger

        @pytest.mark.parametrize("what", ["fails", "is free"])
        @pytest.mark.parametrize("fail", FAILING, ids=lambda function: function.__name__)
        def test_it(fail, what, kept):
            if what == "is free":
                assert kept is not None
                assert len(ALIVE) == 0
            else:
                mine = batch()
                fail()
        """
    )
    result = pytester.runpytest_inprocess(*ON_CPU, "--showlocals", "-p", "no:randomly")
    failing = 6 if sys.version_info >= (3, 11) else 5
    result.assert_outcomes(passed=failing, failed=failing)
    result.stdout.fnmatch_lines(["mine * = tensor(*", "*- ftcheck: out of memory -*", "*were freed"])


def test_a_fixture_that_runs_out_of_memory_keeps_nothing_for_its_module(pytester: pytest.Pytester) -> None:
    """pytest remembers the error of a fixture for as long as the fixture would live."""
    pytester.makeconftest(HELD)
    pytester.makepyfile(
        """
        import pytest
        from conftest import *

        @pytest.fixture(scope="module")
        def trained():
            mine = batch()
            Loop().step()

        def test_one(trained): ...
        def test_two(trained): ...
        def test_three(): assert len(ALIVE) == 0
        """
    )
    pytester.runpytest_inprocess(*ON_CPU).assert_outcomes(passed=1, errors=2)


def test_under_a_debugger_the_frames_stay(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeconftest(HELD)
    pytester.makepyfile(
        """
        from conftest import *
        def test_one():
            mine = batch()
            Loop().step()
        def test_two(): assert len(ALIVE) == 2
        """
    )
    pytester.makepyfile(
        quiet="import pdb\nclass Quiet(pdb.Pdb):\n    def interaction(self, *_): ...\n    setup = interaction"
    )
    monkeypatch.syspath_prepend(pytester.path)
    result = pytester.runpytest_inprocess(*ON_CPU, "--pdb", "--pdbcls=quiet:Quiet")
    result.assert_outcomes(passed=1, failed=1)


def test_an_ordinary_failure_of_an_ordinary_test_is_left_to_pytest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HELD)
    pytester.makepyfile(
        """
        from conftest import *
        def test_one():
            mine = batch()
            assert not "a defect"
        def test_two(): assert len(ALIVE) == 1
        """
    )
    result = pytester.runpytest_inprocess(*ON_CPU)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*out of memory*")


# A GPU of 80 GB on which what is allocated is pretended too.
PRETENDED_GPU = """
    import pytest, torch

    CALLS = []

    @pytest.fixture(autouse=True)
    def calls():
        return CALLS

    def pytest_configure():
        torch.cuda.set_per_process_memory_fraction = lambda fraction, device: CALLS.append((fraction, device))
"""


@pytest.fixture
def gpus(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", None)  # put back after the session's own

    def pretend(count: int) -> None:
        monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * 10**9,) * count))
        monkeypatch.setattr(pytest_ftcheck.budget, "usable_gpus", lambda: devices.Gpus((80 * 10**9,) * count))
        pytester.makeconftest(PRETENDED_GPU)

    return pretend


@pytest.mark.parametrize(
    ("marker", "capped"),
    [
        ("gpu(memory='20GB')", [(0.25, 0)]),
        ("gpu(memory='20GB', count=2)", [(0.25, 0), (0.25, 1)]),
        ("gpu", []),
    ],
)
def test_a_test_gets_the_memory_that_its_marker_names_and_the_next_one_all(
    pytester: pytest.Pytester, gpus: Callable[[int], None], marker: str, capped: list[tuple[float, int]]
) -> None:
    gpus(2)
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.{marker}
        def test_one(calls): assert calls == {capped}
        def test_two(calls): assert calls == {capped + [(1.0, device) for _, device in capped]}
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_test_that_needs_more_than_its_marker_says_fails_with_numbers(
    pytester: pytest.Pytester, gpus: Callable[[int], None]
) -> None:
    gpus(1)
    pytester.makepyfile(
        """
        import pytest, torch
        @pytest.mark.gpu(memory="20GB")
        def test_one(): raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*CUDA out of memory. Tried to allocate 1.00 GiB", "the test may take 20 GB of cuda:0, by its marker gpu(*"]
    )


def test_on_the_cpu_nothing_is_held_to_the_marker(pytester: pytest.Pytester, gpus: Callable[[int], None]) -> None:
    gpus(1)
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.gpu(memory="20GB")
        def test_one(calls): assert calls == []
        """
    )
    pytester.runpytest_inprocess(*ON_CPU).assert_outcomes(passed=1)


def test_on_a_gpu_the_report_says_how_much_the_traceback_had_held(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache: list[str] = []
    held = lambda: sum(one.nbytes for one in sys.modules["conftest"].ALIVE)  # noqa: E731
    pretended = {
        "is_initialized": lambda: True,
        "synchronize": lambda: None,
        "device_count": lambda: 1,
        "memory_reserved": lambda _: 50 * 10**6,
        "memory_allocated": lambda _: 10**6 + held(),
        "get_device_properties": lambda _: types.SimpleNamespace(total_memory=80 * 10**9),
        "empty_cache": lambda: cache.append("emptied"),
    }
    for name, function in pretended.items():
        monkeypatch.setattr(torch.cuda, name, function)
    pytester.makeconftest(HELD)
    pytester.makepyfile("import conftest\nfrom conftest import *\ndef test_one(): Loop().step()")
    result = pytester.runpytest_inprocess(*ON_CPU)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["cuda:0: 5.19 MB in tensors, 50 MB reserved, of 80 GB; 4.19 MB of it was held by the traceback, and freed"]
    )
    assert cache == ["emptied"]
