"""The calls of pytest in docs/ci.md do what the page says, where GPUs, nvidia-smi and srun are pretended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ci_page import GITHUB, SLURM, TESTING
from pretended_gpus import Machine, machine

__all__ = ["machine"]

pytestmark = [
    pytest.mark.usefixtures("with_workers"),
    pytest.mark.skipif(sys.platform != "linux", reason="the recipes are for runners on Linux"),
]
# No training, and no torch: what is tried is the session. The environment says what a worker sees when it is imported.
CONFTEST = """
import json, os
import pytest
from builders import a_run
from pytest_ftcheck import Recipe, devices, execution, runner

NAMES = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
devices.usable_gpus = lambda: devices.Gpus((80 * 10**9,) * len(NAMES), "" if NAMES else "there is no GPU")
devices.crowd = lambda number, exclusive=False: None
runner.environment_key = lambda device, threads, gpu_names: {"device": device}

def execute(recipe, method, seed, steps, device, unfinished=None):
    with open("trained.log", "a") as log:
        log.write(f"{method} {seed} {device} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
    return a_run(method, seed=seed, recipe=recipe.name)

execution.execute = execute

def no_model():
    raise AssertionError("nothing is built")

@pytest.fixture(scope="session")
def ft_recipe():
    return Recipe(model=no_model, train_data=[{}], name="a recipe", steps=3, seeds=2)
"""
TESTS = """
import time
import pytest
pytestmark = pytest.mark.gpu

def test_full(ft_full): assert ft_full.method == "full"
def test_lora(ft_lora): assert ft_lora.method == "lora"
def test_pair(ft_pair): assert len(ft_pair.fulls) == 2
def test_another(ft_run): assert ft_run("lora", seed=1).seed == 1
"""
HANGS = """
def test_hangs(ft_device):
    open("hangs", "w").close()
    time.sleep(1000)
"""
# Slurm sends its signals to what srun started, and not to the script: so it has a process group of its own.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
echo $$ > srun.pid
exec setsid "$@"
"""
GPU = [name for name in TESTING if not name.startswith(("github cpu", "gitlab cpu"))]
LIMIT_S = 120


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def job(pytester: pytest.Pytester, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job on a machine of two GPUs, as its system has prepared it."""
    machine("GPU-a, 81559, 4", "GPU-b, 81559, 4")
    here, tools = pytester.path, pytester.path / "tools"
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_finetuning=TESTS)
    calls = f'#!/bin/bash\nexec "{sys.executable}" -m pytest "$@"\n'
    for place in (tools / "pytest", here / ".venv/bin/pytest", here / "temporary/venv/bin/pytest"):
        write_script(place, calls)
    write_script(tools / "srun", SRUN)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    for name, value in {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(here),
        "RUNNER_TEMP": str(here / "temporary"),
        "SLURM_SUBMIT_DIR": str(here),
        "SLURM_CPUS_PER_TASK": "8",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "xdist.plugin,pytest_ftcheck.plugin",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PYTEST_XDIST_WORKER", "FTCHECK_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return here


def start(script: str, **variables: str) -> subprocess.Popen[str]:
    # GitHub's shell for "run"; GitLab's ends at the first error, too.
    return subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcome(script: str, **variables: str) -> tuple[int, str]:
    process = start(script, **variables)
    output, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, output


def trained(job: Path) -> list[str]:
    return sorted((job / "trained.log").read_text().splitlines())


@pytest.mark.parametrize("name", TESTING)
def test_a_job_passes_on_its_devices_and_writes_its_report(job: Path, name: str) -> None:
    code, output = outcome(TESTING[name])
    assert code == 0, output
    assert len(ElementTree.parse(job / "report.xml").findall(".//testcase")) == 4
    on_gpu = name in GPU
    assert {line.split()[2] for line in trained(job)} == {"cuda:0" if on_gpu else "cpu"}
    assert ("ftcheck: GPUs of workers: gw0: GPU-a, gw1: GPU-b" in output) == on_gpu


def test_the_next_job_trains_nothing(job: Path) -> None:
    for _ in range(2):
        assert outcome(SLURM)[0] == 0
        assert len(trained(job)) == len({line.rpartition(" ")[0] for line in trained(job)}) == 4


def test_under_slurm_the_gpus_are_those_of_the_job(job: Path) -> None:
    code, output = outcome(SLURM, CUDA_VISIBLE_DEVICES="1")
    assert code == 0, output
    assert "ftcheck: GPUs of workers: gw0: 1\n" in output
    assert {line.split()[3] for line in trained(job)} == {"1"}


def test_a_test_that_is_renamed_fails_a_job_as_the_page_says(job: Path) -> None:
    file = job / "test_finetuning.py"
    file.write_text(TESTS.replace("def test_pair", "def check_pair"))
    (script,) = (step["run"] for step in GITHUB["jobs"]["cpu"]["steps"] if "--ftcheck-" in step.get("run", ""))
    code, output = outcome(script)
    assert code == 1
    assert "3 tests were executed, at least 4 must be (--ftcheck-min-checks=4)" in output


@pytest.mark.usefixtures("interruptible")
def test_the_signal_before_the_end_of_a_slurm_job_leaves_a_report_and_a_summary(job: Path) -> None:
    (signalled,) = re.findall(r"--signal=(\w+)@\d+", SLURM)
    (job / "test_finetuning.py").write_text(TESTS + HANGS)
    process = start(SLURM, CUDA_VISIBLE_DEVICES="0,1")
    end = time.monotonic() + LIMIT_S
    while not (job / "hangs").exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)  # the reports of the other tests are on their way
    group = int((job / "srun.pid").read_text())
    try:
        os.killpg(group, getattr(signal, f"SIG{signalled}"))
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "ftcheck: 4 executed (4 on GPU): 4 passed; 1 not reached" in output
    assert len(ElementTree.parse(job / "report.xml").findall(".//testcase")) >= 4
