"""Real trainings compared many times: how often a slower one is found, and how often an equal one is called slower.

    cd tests && python -m comparison.experiment --runs 20 --units 20 21 --busy 1    # 5 % more work, one core kept busy
    cd tests && python -m comparison.experiment --runs 30 --units 20 20             # the same work: A/A

A step is so many units of work, of about a millisecond each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pytest_ftcheck import Full, Job, Recipe
from pytest_ftcheck.comparison.recipes import compare_recipes

WIDTH, ROWS = 192, 64


def model() -> Any:
    from torch import nn

    return nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])


def recipe(units: int) -> Recipe:
    """A training whose step is so many forward and backward passes."""

    def train(job: Job) -> None:
        import torch

        batch = torch.randn(ROWS, WIDTH)
        optimizer = torch.optim.SGD(job.model.parameters(), lr=1e-4)
        for _ in range(job.steps):
            for _ in range(units):
                job.model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    return Recipe(
        name=f"{units} units", model=model, train_data=[{}], train=train, full=Full(lr=1e-4), lora=None, threads=1
    )


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many cores busy."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--units", type=int, nargs=2, default=(20, 21), metavar=("REFERENCE", "CANDIDATE"))
    options.add_argument("--busy", type=int, default=0)
    chosen = options.parse_args()
    reference, candidate = chosen.units
    verdicts: Counter[str] = Counter()
    with busy(chosen.busy):
        for run in range(chosen.runs):
            start = time.monotonic()
            found = compare_recipes(recipe(reference), recipe(candidate), "full", "cpu", seed=run)
            verdicts[found.verdict] += 1
            step = f"{1e3 * found.rounds[0].reference_s[0]:.1f} ms, {len(found.rounds)} rounds"
            took = f"{time.monotonic() - start:.0f} s, load {os.getloadavg()[0]:.1f}"
            print(f"{run}: {found.verdict} {found.ratio:.4f} {found.interval} ({step}, {took})", flush=True)
    print(f"{candidate} units against {reference}, {chosen.busy} cores kept busy: {dict(verdicts)}")


if __name__ == "__main__":
    main()
