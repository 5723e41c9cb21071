"""Sessions of two workers on a machine without a GPU."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

TESTS = """
    import os, time, pytest
    from pathlib import Path

    @pytest.fixture
    def ft_full(request, log): pass
    @pytest.fixture
    def ft_lora(request, log): pass
    @pytest.fixture
    def ft_compare(request, log): pass

    @pytest.fixture
    def log(request):
        def write(what):
            with open(Path(__file__).with_name("log"), "a") as file:
                file.write(f"{what} {request.node.name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
        write("begins")
        yield
        time.sleep(0.1)
        write("ends")

    def test_timed(ft_compare): pass
    def test_full_1(ft_full): pass
    def test_lora_1(ft_lora): pass
    def test_full_2(ft_full): time.sleep(0.3)
    def test_lora_2(ft_lora): pass
    def test_plain(log): pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,pytest_ftcheck.plugin")
    pytester.makepyfile(test_it=TESTS)
    return pytester


def lines(project: pytest.Pytester) -> list[list[str]]:
    path = project.path / "log"
    found = [line.split() for line in path.read_text().splitlines()]
    path.unlink()
    return found


def test_tests_of_one_run_stay_together_what_is_timed_comes_last_and_next_time_the_longest_comes_first(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for session in range(2):
        project.runpytest_inprocess("-n", "2").assert_outcomes(passed=6)
        seen = lines(project)
        worker = {name: worker for _, name, worker in seen}
        assert worker["test_full_1"] == worker["test_full_2"] != worker["test_lora_1"] == worker["test_lora_2"], session
        assert [(what, name) for what, name, _ in seen[-2:]] == [("begins", "test_timed"), ("ends", "test_timed")]
    # Where nothing is known, trainings come before what needs none; now test_full_2 is known to take longest.
    took = json.loads((project.path / ".pytest_cache/v/ftcheck/seconds").read_text())
    assert max(took, key=took.__getitem__) == "test_it.py::test_full_2"
    assert not list(tmp_path.glob("ftcheck-*"))


def test_a_distribution_that_the_user_chooses_is_left_alone(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("-n", "2", "--dist=loadfile").assert_outcomes(passed=6)
    assert len({worker for _, _, worker in lines(project)}) == 1
    assert not (project.path / ".pytest_cache/v/ftcheck").exists()


def test_where_no_test_is_a_matter_of_ours_the_distribution_is_pytest_xdists(project: pytest.Pytester) -> None:
    (project.path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_it(n): pass\n"
    )
    result = project.runpytest_inprocess("-n", "2", "-v")
    result.assert_outcomes(passed=9)
    # It begins with two tests for each worker.
    worker = {name: gateway for gateway, name in re.findall(r"\[(gw\d)\].*PASSED \S+(\[\d\])", result.stdout.str())}
    assert worker["[0]"] == worker["[1]"] != worker["[2]"] == worker["[3]"]
    assert not (project.path / ".pytest_cache/v/ftcheck").exists()


def test_workers_that_collect_different_tests_are_told_so(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import os, pytest
        @pytest.mark.parametrize("worker", [os.environ["PYTEST_XDIST_WORKER"]])
        def test_it(worker, ft_run): pass
    """
    )
    result = project.runpytest_inprocess("-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*Different tests were collected between gw*"])
