from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from casualties import DEVICE, HANGS, TORCH

import pytest_ftcheck.aftermath

assert pytest_ftcheck.aftermath

# Test 4 kills the device, and so says its error; test 7 too, but only the next call tells.
TWELVE = """
    import os, pytest

    @pytest.mark.parametrize("number", range(12))
    def test_it(number, device):
        with open(os.path.join(os.path.dirname(__file__), "executed"), "a") as file:
            file.write(f"{number}\\n")
        device.run()
        if number == 4:
            device.dead = "CUDA error: device-side assert triggered"
            device.run()
        if number == 7:
            device.dead = "CUDA error: an illegal memory access was encountered"
            assert not "an illegal memory access"
"""


# Without other plugins than these workers start in a third of the time.
PYTEST = [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-p", "pytest_ftcheck.plugin", "-p", "no:cacheprovider"]


def surroundings(folder: Path) -> dict[str, str]:
    (folder / "tmp").mkdir(exist_ok=True)
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return given | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(folder / "tmp")}


def leftovers(folder: Path) -> list[str]:
    """What is left of the plugin's temporary files."""
    return [path.name for path in (folder / "tmp").glob("*ftcheck*")]


def session(pytester: pytest.Pytester, *arguments: str, limit_s: float = 120) -> tuple[int, str]:
    """The exit status and the output of a session in a process of its own; its temporary files are in "tmp"."""
    done = subprocess.run(
        [*PYTEST, *arguments],
        cwd=pytester.path,
        env=surroundings(pytester.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("distribution", ["load", "loadfile"])
def test_a_dead_context_ends_the_worker_and_another_one_runs_each_test_that_is_left_once(
    pytester: pytest.Pytester, distribution: str
) -> None:
    pytester.makeconftest(DEVICE)
    pytester.makepyfile(test_it=TWELVE)
    status, output = session(pytester, "-n", "2", f"--dist={distribution}", "-rf")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert Counter(Path("executed").read_text().split()) == Counter(map(str, range(12)))
    assert "2 failed, 10 passed" in output
    assert sorted(re.findall(r"^FAILED test_it.py::test_it\[(\d+)\] - (\w+)", output, re.MULTILINE)) == [
        ("4", "RuntimeError"),
        ("7", "AssertionError"),
    ]
    told = r"^ftcheck: worker gw\d was ended after test_it.py::test_it\[(\d)\]: RuntimeError: CUDA error: .*another one"
    # A worker that has nothing left to run ends as any other.
    assert set(re.findall(told, output, re.MULTILINE)) <= {"4", "7"}
    assert "4" in re.findall(told, output, re.MULTILINE)
    assert "while running" not in output


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the inner conftest sets is put back."""
    for name in ("is_initialized", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))


def test_without_workers_a_dead_context_ends_the_session(pytester: pytest.Pytester, pretended: None) -> None:
    pytester.makeconftest(DEVICE)
    pytester.makepyfile(test_it=TWELVE)
    result = pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:randomly")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=1)
    assert Path("executed").read_text().split() == list("01234")
    result.stdout.fnmatch_lines(
        ["*ftcheck: the CUDA context is dead after test_it.py::test_it?4? (RuntimeError: CUDA error: device-side*"]
    )


HARMLESS = """
    import pytest

    @pytest.mark.parametrize("error", [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: invalid device ordinal"),
        AssertionError("nothing to do with it"),
    ])
    def test_one(error): raise error
    def test_two(): ...
"""


def test_other_errors_end_nothing(pytester: pytest.Pytester, pretended: None) -> None:
    pytester.makeconftest(DEVICE)
    pytester.makepyfile(HARMLESS)
    pytester.runpytest_inprocess().assert_outcomes(passed=1, failed=3)


def test_where_no_device_is_in_use_an_error_that_sounds_like_one_ends_nothing(
    pytester: pytest.Pytester, pretended: None
) -> None:
    pytester.makepyfile(
        "def test_one(): raise RuntimeError('CUDA error: device-side assert triggered')\ndef test_two(): ..."
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1, failed=1)


LIMITED = """
    import ctypes, time
    import pytest
    from conftest import hang
    from pytest_ftcheck import deadline
    from pytest_ftcheck.session import SESSION

    @pytest.fixture
    def limited(pytestconfig):
        pytestconfig.stash[SESSION].runner(lambda: None)  # from now on there are trainings
        deadline.GRACE_S = 0.5
        return deadline.deadline

    def test_before(): ...

    @pytest.mark.parametrize("library", [ctypes.PyDLL, ctypes.CDLL], ids=["with-the-lock", "without-it"])
    def test_hangs(limited, library):
        with limited(0.5, "lora: train(job) of 8 updates"):
            hang(library)

    @pytest.mark.parametrize("number", range(6))
    def test_after(limited, number):
        with limited(60, "lora: train(job) of 8 updates"):
            time.sleep(0.01)

    def test_comes_back(limited):
        with pytest.raises(deadline.TimeLimitError), limited(0.2, "a loop of Python"):
            while True:
                time.sleep(0.01)
"""


def test_what_hangs_in_native_code_on_a_worker_fails_alone_with_its_stack(pytester: pytest.Pytester) -> None:
    """Under loadfile: pytest-xdist by itself gives the test that hung to worker after worker."""
    pytester.makeconftest(TORCH + HANGS)
    pytester.makepyfile(test_it=LIMITED)
    status, output = session(pytester, "-n", "2", "--dist=loadfile")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 8 passed" in output
    for id in ("with-the-lock", "without-it"):
        told = (
            r"ftcheck: lora: train\(job\) of 8 updates took longer than 0\.5 s, and after 0\.5 s more .*\n"
            rf"  in test_it.py::test_hangs\[{id}\] \(call\)\n"
            r"  likely cause: .*\n(.*\n)+?.* in hang\n.* in test_hangs\n"
        )
        assert re.search(told, output), output
    assert leftovers(pytester.path) == []


# What a training imports is there when it begins: on a busy machine that alone would take longer than the limit.
HUNG_RUN = """
    import ctypes, sys
    sys.path.insert(0, {tests!r})
    import peft, pytest, transformers.trainer, torch._dynamo  # takes longer than the run may
    from recipes import tiny_model, tiny_recipe
    from pytest_ftcheck import deadline
    deadline.GRACE_S = 0.5
    tiny_model()

    @pytest.fixture(scope="session")
    def ft_recipe():
        return tiny_recipe(train=lambda job: hang(ctypes.PyDLL))
"""


def test_without_workers_a_run_that_hangs_ends_the_session_and_says_in_which_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HANGS + HUNG_RUN.format(tests=str(Path(__file__).parent)))
    pytester.makepyfile(test_it="def test_trains(ft_lora): ...\ndef test_next(): ...")
    status, output = session(pytester, "--ftcheck-device=cpu", "--ftcheck-time-limit=3", "--ftcheck-no-cache")
    assert status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "ftcheck: lora: the run of 6 updates took longer than 3 s, and after 0.5 s more" in output
    assert "  in test_it.py::test_trains (setup)\n" in output
    assert re.search(r"in hang\n.*conftest.py.*\n.*execution.py", output), output
    assert leftovers(pytester.path) == []


def test_a_run_without_a_given_limit_takes_its_time_and_one_with_a_limit_is_ended(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import pytest
        from recipes import tiny_recipe
        from pytest_ftcheck.training import train

        def slow(job):
            time.sleep(1)
            train(job)

        @pytest.fixture(scope="session")
        def ft_recipe():
            return tiny_recipe(train=slow)
        """
    )
    pytester.makepyfile("def test_trains(ft_lora): ...")
    quick = ("--ftcheck-device=cpu", "--ftcheck-no-cache")
    pytester.runpytest_inprocess(*quick).assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess(*quick, "--ftcheck-time-limit=0.5")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*ftcheck: lora: the run of 6 updates took longer than 0.5 s", "*--ftcheck-time-limit*"]
    )
