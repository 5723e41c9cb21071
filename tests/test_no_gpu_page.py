"""docs/no-gpu.md: its example runs, its commands are understood, and what it says of its checks is so."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ci_page import OPTION, blocks, commands, unknown_options
from recipes import tiny_recipe

from pytest_ftcheck import LoRA
from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.options import OPTIONS

(EXAMPLE,) = blocks("no-gpu.md", "python")
(CHEAP,) = blocks("no-gpu.md", "sh")
(NIGHTLY,) = blocks("no-gpu.md", "yaml")
WORKFLOW: dict[Any, Any] = yaml.safe_load(NIGHTLY)
KNOWN = {option.flag for option in OPTIONS}
CONFTEST = """
import pytest
from recipes import tiny_recipe

@pytest.fixture(scope="session")
def ft_recipe():
    return tiny_recipe(seeds=2)
"""


def test_its_example_passes_on_a_cpu(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_on_the_cpu=EXAMPLE)
    pytester.runpytest_inprocess("--ftcheck-device=cpu", "-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_its_example_notices_an_adapter_that_is_not_the_declared_one(pytester: pytest.Pytester) -> None:
    assert tiny_recipe().lora == LoRA(r=2, alpha=4, target_modules=["c_attn"], lr=1e-2)
    wrong = CONFTEST.replace("seeds=2", "seeds=2, adapt=lambda model, method: model.requires_grad_(True)")
    pytester.makeconftest(wrong)
    pytester.makepyfile(test_on_the_cpu=EXAMPLE)
    arguments = ("--ftcheck-device=cpu", "-p", "no:cacheprovider", "-k", "declared")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(failed=1)


def test_the_checks_that_it_calls_cheap_mostly_read_one_training() -> None:
    (command,) = commands(CHEAP)
    (themes,) = (word.partition("=")[2].split(",") for word in command if word.startswith("--ftcheck-checks="))
    costs = [check.cost for check in chosen(themes)]
    assert costs.count("training") == 0
    assert costs.count("reading") > 5 * costs.count("model")


def test_the_nightly_workflow_is_one_that_github_reads() -> None:
    assert set(WORKFLOW) == {"name", True, "jobs"}  # YAML takes "on" for a truth value; GitHub does not
    assert set(WORKFLOW[True]) == {"schedule", "workflow_dispatch"}
    (job,) = WORKFLOW["jobs"].values()
    assert set(job) == {"runs-on", "timeout-minutes", "steps"}
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_every_option_and_theme_of_it_is_known(pytestconfig: pytest.Config) -> None:
    scripts = [step["run"] for step in WORKFLOW["jobs"]["gpu"]["steps"] if "run" in step]
    called = [command for script in [CHEAP, *scripts] for command in commands(script)]
    assert len(called) == 5
    for command in called:
        pytestconfig._parser.parse_known_args(command)
    text = "\n".join([CHEAP, NIGHTLY])
    assert len(OPTION.findall(text)) > 10
    assert not unknown_options(text, KNOWN)
    assert re.findall(r"--ftcheck-audit=(\w+)", text) == ["stack"]
