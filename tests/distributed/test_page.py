"""docs/distributed.md is true: its example runs, and what it shows of ranks that hang is what is said."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pytest_ftcheck.checks.catalogue import chosen

PAGE = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
# Each begins with a comment that is the name of a file.
FILES = {block.split("\n", 1)[0][2:]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
(HUNG,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark")
# What the page says of its lines 9 and 10 is of this file.
STUCK = """import time

import torch.distributed as dist


def train(job):
    print(f"rank {job.rank}: loading the data", flush=True)
    if job.rank == 1:
        time.sleep(1000)
    dist.barrier()
"""
OF_RANKS_THAT_HANG = """
import finetune
import pytest

@pytest.fixture(scope="module")
def ft_recipe(ft_recipe):
    return ft_recipe.replace(train=finetune.train)

def test_hangs(ft_distributed):
    ft_distributed("lora")

def test_next():
    pass
"""


@pytest.fixture(autouse=True)
def _files(pytester: pytest.Pytester) -> None:
    assert set(FILES) == {"conftest.py", "test_ranks.py"}
    for name, content in FILES.items():
        (pytester.path / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_commands_of_the_page_pass_on_its_example(pytester: pytest.Pytester, command: list[str]) -> None:
    assert command[0] == "pytest"
    result = pytester.runpytest_inprocess(*QUIET, *command[1:])
    result.assert_outcomes(passed=8 if "--ftcheck-audit" in command else 2)


def test_the_tests_of_the_page_notice_a_rank_that_trains_by_itself(pytester: pytest.Pytester) -> None:
    alone = FILES["conftest.py"].replace('strategy="ddp"', "strategy=lambda model: model")
    assert alone != FILES["conftest.py"]
    (pytester.path / "conftest.py").write_text(alone, encoding="utf-8")
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-device=cpu", "test_ranks.py", "-k", "both_ranks")
    result.assert_outcomes(failed=1)


def test_ranks_that_hang_are_told_as_the_page_shows_and_the_session_goes_on(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(finetune=STUCK, test_stuck=OF_RANKS_THAT_HANG)
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-device=cpu", "--ftcheck-time-limit=5", "test_stuck.py")
    result.assert_outcomes(failed=1, passed=1)
    said = [line.removeprefix("E").strip().replace(f"{pytester.path}/", "") for line in result.outlines]
    assert [line.strip() for line in HUNG.splitlines() if line.strip() not in "\n".join(said)] == []


def test_every_check_of_the_theme_is_on_the_page() -> None:
    section = PAGE.partition("## The eight checks")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert sorted(named) == sorted(check.id for check in chosen(["distributed"]))
