"""The recipes of docs/ci.md are what GitHub, GitLab, Slurm, the shell and this plugin understand."""

from __future__ import annotations

import re
import subprocess

import pytest
from ci_page import GITHUB, GITLAB, PAGES, SCRIPTS, SLURM, TESTING, all_commands, commands, unknown_options

from pytest_ftcheck.options import OPTIONS, settings

KNOWN = {option.flag for option in OPTIONS}
# The newest major versions in July 2026.
ACTIONS = {"actions/checkout@v7", "actions/setup-python@v7", "actions/cache@v5", "actions/upload-artifact@v7"}
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
GITHUB_JOB = {"runs-on", "steps", "if", "env", "timeout-minutes"}
# https://docs.gitlab.com/ci/yaml/
GITLAB_JOB = {"artifacts", "cache", "extends", "image", "resource_group", "script", "tags", "timeout", "variables"}
# https://slurm.schedmd.com/sbatch.html
SBATCH = {"job-name", "nodes", "ntasks", "cpus-per-task", "gres", "mem", "time", "signal", "output"}
PROMISES = {"--ftcheck-max-skips", "--ftcheck-min-checks", "--ftcheck-time-limit", "--ftcheck-cache-dir", "--junitxml"}


def test_the_github_workflow_has_jobs_of_steps_that_use_known_actions_or_run_something() -> None:
    assert set(GITHUB) == {"name", True, "jobs"}  # YAML takes "on" for a truth value; GitHub does not
    assert set(GITHUB[True]) == {"push", "pull_request"}
    for job in GITHUB["jobs"].values():
        assert {"runs-on", "steps", "timeout-minutes"} <= set(job) <= GITHUB_JOB
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all(set(step) <= {"name", "uses", "with", "run", "if"} for step in job["steps"])
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert set(uses) <= ACTIONS
        assert uses[0].startswith("actions/checkout@")
    assert GITHUB["jobs"]["gpu"]["runs-on"][0] == "self-hosted"


def test_each_gitlab_job_has_a_script_and_what_it_extends_exists() -> None:
    for name, job in GITLAB.items():
        assert set(job) <= GITLAB_JOB
        assert name.startswith(".") or (isinstance(job["script"], list) and job["extends"] in GITLAB)
    assert GITLAB[".fine-tuning"]["artifacts"]["reports"] == {"junit": "report.xml"}


def test_the_orders_to_slurm_stand_before_the_first_command() -> None:
    first, *lines = SLURM.splitlines()
    assert first.startswith("#!/bin/")
    begin = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    orders = [line for line in lines if line.startswith("#SBATCH")]
    assert orders
    assert orders == [line for line in lines[:begin] if line.startswith("#SBATCH")]
    assert {re.fullmatch(r"#SBATCH --([\w-]+)=\S+", order)[1] for order in orders} == SBATCH  # type: ignore[index]


def accepted_by_bash(script: str) -> bool:
    return subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_every_script(name: str) -> None:
    script = re.sub(r"\$\{\{.*?\}\}", "value", SCRIPTS[name])  # which GitHub has replaced by then
    assert accepted_by_bash(script)
    assert not accepted_by_bash(script + "\nif true; then"), "bash -n notices nothing"


@pytest.mark.parametrize("name", TESTING)
def test_every_call_of_pytest_keeps_what_the_page_promises(name: str) -> None:
    (command,) = commands(TESTING[name])
    given = {word.partition("=")[0] for word in command}
    assert given >= PROMISES
    assert ("--ftcheck-require-gpu" in given) != ("--ftcheck-device" in given)
    assert command[:4] == ["-m", "gpu", "-n", "auto"]


def test_a_report_is_uploaded_where_it_was_written_and_runs_are_kept_where_the_cache_is() -> None:
    for job in GITHUB["jobs"].values():
        text = "".join(step.get("run", "") for step in job["steps"])
        kept = [step["with"]["path"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache@")]
        (uploaded,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@"))
        assert f"--junitxml={uploaded['with']['path']}" in text
        assert all(f"--ftcheck-cache-dir={path} " in text for path in kept)
        assert "cancelled" in uploaded["if"]
    assert len({step["with"]["name"] for job in GITHUB["jobs"].values() for step in job["steps"][-1:]}) == 2
    for job in (GITLAB["cpu"], GITLAB["gpu"]):
        (path,) = GITLAB[".fine-tuning"]["cache"]["paths"]
        assert f"--ftcheck-cache-dir={path} " in job["script"][-1]


@pytest.mark.parametrize("page", PAGES)
def test_every_option_on_a_page_is_one(page: str) -> None:
    assert not unknown_options(PAGES[page], KNOWN)
    assert unknown_options(f"{PAGES[page]} `--ftcheck-max-skip`", KNOWN) >= {"--ftcheck-max-skip"}


@pytest.mark.parametrize("typed", all_commands())
def test_every_call_of_pytest_on_a_page_is_understood(pytester: pytest.Pytester, typed: str) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (pytester.path / "tests").mkdir()
    (pytester.path / "tests" / "test_finetuning.py").touch()
    settings(pytester.parseconfig("-p", "no:cacheprovider", *all_commands()[typed]))


@pytest.mark.parametrize("wrong", ["--ftcheck-max-skip=0", "--ftcheck-max-skips=none", "--ftcheck-time-limit=10m"])
def test_an_option_or_a_value_that_is_wrong_would_be_noticed(pytester: pytest.Pytester, wrong: str) -> None:
    with pytest.raises(pytest.UsageError):
        settings(pytester.parseconfig("-p", "no:cacheprovider", wrong))
