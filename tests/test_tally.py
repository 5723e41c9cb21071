"""No silent green: what became of the tests that use the plugin, and what is promised about it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pytest_ftcheck import devices

QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark")
# One test of every fate that needs no training.
ALL_FATES = """
    import pytest

    @pytest.mark.gpu
    def test_without_a_gpu(): pass
    @pytest.mark.gpu
    @pytest.mark.skip(reason="not now")
    def test_marked_and_skipped(): pass
    def test_passes(ft_device): pass
    def test_fails(ft_device): assert 0
    @pytest.mark.xfail(reason="issue 7")
    def test_is_expected_to_fail(ft_device): assert 0
    @pytest.mark.xfail(reason="issue 7", raises=ZeroDivisionError)
    def test_is_expected_to_fail_in_its_fixture(ft_device, broken): pass
    @pytest.mark.xfail(run=False, reason="hangs")
    def test_is_not_run(ft_device): pass
    def test_skips_itself(ft_device): pytest.skip("no data\\nand a second line")
    def test_has_no_baseline(ft_baseline): ft_baseline.record("bytes", 3)
    def test_has_a_broken_fixture(ft_device, broken): pass
    def test_fails_when_torn_down(ft_device, sticky): pass

    @pytest.fixture
    def broken(): 1 / 0
    @pytest.fixture
    def sticky():
        yield
        1 / 0
    # Not ours, whatever becomes of them.
    def test_plain(): pass
    @pytest.mark.skip
    def test_plain_and_skipped(): pass
"""
COUNTS = (
    "ftcheck: 6 executed: 1 passed, 2 failed, 1 no baseline, 2 expected failure; "
    "4 skipped: no GPU driver on this machine (1), no data (1), not now (1), not run: hangs (1); 1 error in setup"
)
SKIPS = """
    import pytest
    def test_one(ft_device): pytest.skip("no data")
    def test_two(ft_device): pytest.skip("no data")
    def test_three(ft_device): pass
    @pytest.mark.skip
    def test_plain(): pass
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((), "no GPU driver on this machine"))
    # An inner session with workers must not take itself for one of ours.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def lines_of(result: pytest.RunResult) -> list[str]:
    """The lines of the plugin at the end of a session."""
    return [line for line in result.outlines if line.startswith("ftcheck: ") and " no baseline of" not in line]


@pytest.mark.parametrize("plugins", [("-p", "no:xdist"), ("-n", "2")], ids=" ".join)
def test_every_fate_is_counted_with_its_reason(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, plugins: tuple[str, ...]
) -> None:
    pytester.makepyfile(ALL_FATES)
    if plugins[0] == "-n":
        request.getfixturevalue("with_workers")
    if plugins[0] == "-n" and any(map(devices._loads, devices.DRIVERS)):
        pytest.skip("workers are processes, which see the GPU of this machine")
    result = pytester.runpytest_inprocess(*QUIET, *plugins)
    assert lines_of(result) == [COUNTS]
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_session_without_tests_of_ours_has_no_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip()")
    assert "ftcheck: " not in pytester.runpytest_inprocess(*QUIET).stdout.str()


def test_quiet_sessions_have_a_line_only_where_something_did_not_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_well="def test_it(ft_device): pass", test_skips=SKIPS)
    assert lines_of(pytester.runpytest_inprocess(*QUIET, "-q", "test_well.py")) == []
    assert lines_of(pytester.runpytest_inprocess(*QUIET, "test_well.py")) == ["ftcheck: 1 executed: 1 passed"]
    assert lines_of(pytester.runpytest_inprocess(*QUIET, "-q", "test_skips.py")) == [
        "ftcheck: 1 executed: 1 passed; 2 skipped: no data (2)"
    ]


def test_a_test_marked_gpu_is_on_a_gpu_unless_the_session_is_on_the_cpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * 10**9,)))
    pytester.makepyfile("import pytest\n@pytest.mark.gpu\ndef test_a(): pass\ndef test_b(ft_device): pass")
    assert lines_of(pytester.runpytest_inprocess(*QUIET)) == ["ftcheck: 2 executed (2 on GPU): 2 passed"]
    on_cpu = pytester.runpytest_inprocess(*QUIET, "--ftcheck-device=cpu")
    assert lines_of(on_cpu) == ["ftcheck: 2 executed: 2 passed"]


@pytest.mark.parametrize(("most", "code"), [(2, pytest.ExitCode.OK), (1, pytest.ExitCode.TESTS_FAILED)])
def test_more_skips_than_the_budget_fail_the_session(
    pytester: pytest.Pytester, most: int, code: pytest.ExitCode
) -> None:
    pytester.makepyfile(SKIPS)
    result = pytester.runpytest_inprocess(*QUIET, f"--ftcheck-max-skips={most}")
    assert result.ret == code
    told = "ftcheck: 2 of 3 tests decided nothing, at most 1 may (--ftcheck-max-skips=1): 2 skipped: no data (2)"
    assert lines_of(result)[1:] == ([told] if code else [])


@pytest.mark.parametrize(("least", "code"), [(1, pytest.ExitCode.OK), (2, pytest.ExitCode.TESTS_FAILED)])
def test_fewer_checks_than_the_minimum_fail_the_session(
    pytester: pytest.Pytester, least: int, code: pytest.ExitCode
) -> None:
    pytester.makepyfile(SKIPS)
    result = pytester.runpytest_inprocess(*QUIET, f"--ftcheck-min-checks={least}")
    assert result.ret == code
    told = "ftcheck: 1 tests were executed, at least 2 must be (--ftcheck-min-checks=2): 2 skipped: no data (2)"
    assert lines_of(result)[1:] == ([told] if code else [])


def test_what_is_deselected_is_no_skip_and_no_check(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SKIPS)
    only_three = ("-k", "three", "--ftcheck-max-skips=0")
    assert pytester.runpytest_inprocess(*QUIET, *only_three).ret == pytest.ExitCode.OK
    assert pytester.runpytest_inprocess(*QUIET, *only_three, "--ftcheck-min-checks=2").ret == 1
    nothing = pytester.runpytest_inprocess(*QUIET, "-k", "nothing", "--ftcheck-min-checks=1")
    assert lines_of(nothing) == [
        "ftcheck: 0 tests were executed, at least 1 must be (--ftcheck-min-checks=1): no other test uses ftcheck"
    ]
    assert nothing.ret == pytest.ExitCode.TESTS_FAILED


def test_collecting_breaks_no_promise(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SKIPS)
    result = pytester.runpytest_inprocess(*QUIET, "--collect-only", "--ftcheck-min-checks=9", "--ftcheck-max-skips=0")
    assert (result.ret, lines_of(result)) == (pytest.ExitCode.OK, [])


def test_a_session_that_was_cut_short_says_what_it_did_not_reach(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(ft_device): pass\ndef test_b(ft_device): assert 0\ndef test_c(ft_device): pass")
    result = pytester.runpytest_inprocess(*QUIET, "-x", "--ftcheck-max-skips=0", "--ftcheck-min-checks=2")
    # It failed by its own failure; what came after is no skip.
    assert lines_of(result) == ["ftcheck: 2 executed: 1 passed, 1 failed; 1 not reached"]


def test_a_session_that_a_test_ends_as_if_all_were_well_has_failed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_a(ft_device): pass
        def test_b(ft_device): pytest.exit("enough", returncode=0)
        def test_c(ft_device): pass
        """
    )
    assert pytester.runpytest_inprocess(*QUIET).ret == pytest.ExitCode.OK
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-max-skips=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert lines_of(result)[-1] == (
        "ftcheck: 2 of 3 tests decided nothing, at most 0 may (--ftcheck-max-skips=0): 2 not reached"
    )


def test_an_error_of_collection_keeps_its_exit_code(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_a="import no_such_module", test_b=SKIPS)
    options = ("--ftcheck-max-skips=0", "--ftcheck-min-checks=9")
    assert pytester.runpytest_inprocess(*QUIET, *options).ret == pytest.ExitCode.INTERRUPTED
    result = pytester.runpytest_inprocess(*QUIET, *options, "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert lines_of(result)[0] == "ftcheck: 1 executed: 1 passed; 2 skipped: no data (2)"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
@pytest.mark.usefixtures("with_workers")
def test_tests_in_which_a_worker_died_were_not_executed(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """In a fixture, of which there is no report at all; and a test of somebody else's, which is none of ours."""
    pytester.makepyfile(
        """
        import os, pytest
        @pytest.fixture
        def dying(): os.kill(os.getpid(), 9)
        def test_a(ft_device, dying): pass
        def test_plain(dying): pass
        def test_c(ft_device): pass
        """
    )
    result = pytester.runpytest_inprocess(*QUIET, "-n", "1", "--ftcheck-min-checks=2")
    assert lines_of(result) == [
        "ftcheck: 1 executed: 1 passed; 1 crashed: worker 'gw0' crashed (1)",
        "ftcheck: 1 tests were executed, at least 2 must be (--ftcheck-min-checks=2): "
        "1 crashed: worker 'gw0' crashed (1)",
    ]


def test_a_check_that_finds_nothing_to_look_at_is_no_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\ndef test_a(ft_device): pytest.skip('not applicable: no adapter')")
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-max-skips=0")
    assert result.ret == pytest.ExitCode.OK
    assert lines_of(result) == ["ftcheck: 0 executed; 1 not applicable: no adapter (1)"]


def test_the_stack_audit_is_ours_though_it_takes_no_fixture(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_ftcheck import stack

    class Subject:
        id = "a-subject"

        def examine(self, seed: int) -> list[object]:
            return []

    monkeypatch.setattr(stack, "subjects", lambda: [Subject()])
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-audit=stack")
    assert lines_of(result)[0] == "ftcheck: 0 executed; 1 not applicable: no check was run (1)"
