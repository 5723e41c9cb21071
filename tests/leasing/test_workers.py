"""Sessions with workers on a machine whose GPUs are pretended: ``nvidia-smi`` is a script, and torch sees what the
environment shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pretended_gpus import Machine

from pytest_ftcheck import devices
from pytest_ftcheck.leasing.workers import wants_gpus
from pytest_ftcheck.options import Settings

CONFTEST = """
    import json, os, pytest
    from pathlib import Path
    from pytest_ftcheck import devices

    # When a project's own code is imported first, the environment is already what the worker owns.
    AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")
    NAMES = [name for name in (AT_IMPORT or "").split(",") if name]
    devices.usable_gpus = lambda: devices.Gpus((80 * 10**9,) * len(NAMES), "" if NAMES else "none is shown")
    devices.crowd = lambda number, exclusive=False: None

    @pytest.fixture
    def here(request):
        line = [request.node.name, os.environ.get("PYTEST_XDIST_WORKER"), AT_IMPORT]
        with open(Path(__file__).with_name("seen"), "a") as file:
            file.write(json.dumps(line) + "\\n")
"""
TESTS = """
    import os, time, pytest

    @pytest.mark.gpu
    @pytest.mark.parametrize("number", range(6))
    def test_gpu(here, number):
        time.sleep(0.1)

    @pytest.mark.gpu
    def test_dies(here):
        os._exit(1)
"""
FOUR = tuple(f"GPU-{letter}, 81559, 4" for letter in "abcd")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    # Only the plugins that this is about: each of their workers loads the others, too.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,pytest_ftcheck.plugin")
    for name in ("usable_gpus", "crowd"):  # which the session's conftest replaces
        monkeypatch.setattr(devices, name, getattr(devices, name))
    pytester.makeconftest(CONFTEST)
    return pytester


def seen(project: pytest.Pytester) -> list[list[str]]:
    path = project.path / "seen"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_auto_is_a_worker_for_each_gpu_that_is_shown_and_one_that_dies_leaves_its_gpu_to_its_successor(
    project: pytest.Pytester, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(*FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-d")
    project.makepyfile(TESTS)
    result = project.runpytest_inprocess("-m", "gpu", "-n", "auto")
    result.assert_outcomes(passed=6, failed=1)
    died = next(worker for name, worker, _ in seen(project) if name == "test_dies")
    owners = {"gw0": "1", "gw1": "GPU-d"}
    told = ", ".join(f"{worker}: {names}" for worker, names in {**owners, "gw2": owners[died]}.items())
    result.stdout.fnmatch_lines([f"ftcheck: GPUs of workers: {told}"])
    assert {(worker, names) for _, worker, names in seen(project)} <= {*owners.items(), ("gw2", owners[died])}
    assert {names for _, _, names in seen(project)} == set(owners.values())


def test_a_gpu_in_use_by_others_is_left_out_and_named(project: pytest.Pytester, machine: Machine) -> None:
    machine("GPU-a, 81559, 4", "GPU-b, 81559, 70000", processes="GPU-b, 4711, python, 69900\n")
    project.makepyfile(TESTS)
    result = project.runpytest_inprocess("-m", "gpu", "-n", "auto", "-k", "test_gpu")
    result.assert_outcomes(passed=6)
    assert {(worker, names) for _, worker, names in seen(project)} == {("gw0", "GPU-a")}
    result.stdout.fnmatch_lines(["ftcheck: not used: GPU GPU-b: 73.4 GB of 85.5 GB in use by python (pid 4711) *"])


def test_where_all_gpus_are_in_use_tests_are_skipped_with_the_numbers_and_fail_where_one_was_promised(
    project: pytest.Pytester, machine: Machine
) -> None:
    machine("GPU-b, 81559, 70000")
    project.makepyfile(TESTS)
    arguments = ("-m", "gpu", "-n", "1", "-k", "test_gpu", "-rs")
    result = project.runpytest_inprocess(*arguments)
    result.assert_outcomes(skipped=6)
    result.stdout.fnmatch_lines(["SKIPPED [[]6]*ftcheck: GPU GPU-b: 73.4 GB of 85.5 GB in use; allowed: 21.4 GB*"])
    project.runpytest_inprocess(*arguments, "--ftcheck-require-gpu").assert_outcomes(errors=6)


def test_tests_go_to_workers_that_own_enough_and_others_go_anywhere(project: pytest.Pytester, machine: Machine) -> None:
    machine(*FOUR[:3])
    project.makepyfile("""
        import pytest, time

        @pytest.mark.gpu(count=2)
        def test_two(here): time.sleep(0.2)

        @pytest.mark.gpu(count=3)
        def test_three(here): pass

        @pytest.mark.gpu
        def test_one(here): time.sleep(0.2)

        @pytest.mark.parametrize("number", range(8))
        def test_none(here, number): time.sleep(0.1)
    """)
    result = project.runpytest_inprocess("--ftcheck-device=cuda", "-n", "2")
    result.assert_outcomes(passed=10, errors=1)
    names = {name: names for name, _, names in seen(project)}
    assert names["test_two"] == "GPU-a,GPU-b"
    assert names["test_one"] in ("GPU-c", "GPU-a,GPU-b")
    result.stdout.fnmatch_lines(
        ["*ftcheck: gw? owns ? of 3 GPUs, the test needs 3", "*pytest -n 1 gives each worker 3;*"]
    )


def test_workers_beyond_the_gpus_run_what_needs_none(project: pytest.Pytester, machine: Machine) -> None:
    machine(FOUR[0])
    project.makepyfile(
        TESTS + "\n    @pytest.mark.parametrize('n', range(9))\n    def test_none(here, n): time.sleep(.1)\n"
    )
    result = project.runpytest_inprocess("--ftcheck-device=cuda", "-n", "2", "-k", "not dies")
    result.assert_outcomes(passed=15)
    assert {names for name, _, names in seen(project) if "gpu" in name} == {"GPU-a"}
    assert {names for name, _, names in seen(project) if "none" in name} >= {""}


def test_a_distribution_that_takes_a_test_to_a_worker_without_its_gpu_fails_it(
    project: pytest.Pytester, machine: Machine
) -> None:
    machine(FOUR[0])
    for name in ("one", "two"):
        project.makepyfile(**{f"test_{name}": "import pytest\n@pytest.mark.gpu\ndef test_it(here): pass"})
    result = project.runpytest_inprocess("-m", "gpu", "-n", "2", "--dist=loadfile")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ftcheck: gw? owns 0 of 1 GPUs, the test needs 1"])


@pytest.mark.parametrize("arguments", [(), ("-m", "not gpu"), ("-m", "gpu", "--ftcheck-device=cpu")])
def test_a_session_that_asks_for_no_gpu_keeps_its_environment(
    project: pytest.Pytester, machine: Machine, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    machine(*FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    project.makepyfile("import pytest\n@pytest.mark.gpu\ndef test_g(here): pass\ndef test_it(here): pass")
    project.runpytest_inprocess("-n", "2", *arguments)
    assert {names for _, _, names in seen(project)} == {"3,1"}


@pytest.mark.parametrize(
    ("expression", "options", "wanted"),
    [
        ("gpu", {}, True),
        ("gpu and not slow", {}, True),
        ("not slow and (gpu or tpu)", {}, True),
        ("not gpu", {}, False),
        ("not (gpu)", {}, False),
        ("gpus", {}, False),
        ("", {}, False),
        ("", {"require_gpu": True}, True),
        ("", {"device": "cuda"}, True),
        ("gpu", {"device": "cpu"}, False),
        ("gpu", {"device": "cuda:1"}, False),
    ],
)
def test_gpus_are_asked_for_by_the_marker_or_an_option(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, expression: str, options: dict, wanted: bool
) -> None:
    monkeypatch.setattr(pytestconfig.option, "markexpr", expression)
    assert wants_gpus(pytestconfig, Settings(**options)) is wanted


def test_nothing_is_left_behind(project: pytest.Pytester, machine: Machine) -> None:
    temporary = machine(*FOUR).parent
    before = {path.name for path in temporary.iterdir()}
    project.makepyfile(TESTS)
    project.runpytest_inprocess("-m", "gpu", "-n", "2", "-k", "test_gpu")
    left = {path.name for path in temporary.iterdir()} - before
    assert [name for name in left if name.startswith("ftcheck-")] == []
    assert Path(temporary).exists()
