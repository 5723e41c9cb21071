"""Twelve tests that need four runs between them, with real trainings: two workers against one process.

Two workers import torch, transformers and PEFT twice, which takes each 10 s and more: runs that are shorter gain less.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ALLOWED = 0.65
CONFTEST = """
import pytest
from pytest_ftcheck.tasks import NARROW, planted_recipe
from pytest_ftcheck.training import train

def counting(job):
    train(job)
    with open("trained.log", "a") as log:
        log.write(f"{job.steps}\\n")

@pytest.fixture(scope="session")
def ft_recipe():
    return planted_recipe(NARROW, "narrow").replace(train=counting, steps=1600, eval_steps=(1600,))
"""
TEST = """
import pytest

@pytest.mark.parametrize("number", range(12))
def test_it(ft_run, number):
    assert ft_run(("full", "lora")[number % 2], seed=number // 2 % 2).loss.finite
"""


def wall_s(folder: Path, workers: int) -> float:
    """Seconds of a whole session in an empty cache."""
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TEST)
    start = time.perf_counter()
    arguments = ["-q", "-n", str(workers), "--ftcheck-device=cpu", "--ftcheck-cache-dir=cache"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.perf_counter() - start
    assert "12 passed" in done.stdout, done.stdout
    horizons = (folder / "trained.log").read_text().split()
    assert horizons.count("1600") == 4
    return took_s


def test_two_workers_take_at_most_two_thirds_of_the_time_of_one_process(tmp_path: Path) -> None:
    alone, two = wall_s(tmp_path / "alone", 0), wall_s(tmp_path / "two", 2)
    print(f"\n12 tests, 4 runs: {alone:.1f} s in one process, {two:.1f} s on two workers: {two / alone:.2f}")
    assert two / alone <= ALLOWED
