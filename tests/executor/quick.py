"""Recipes for nodes, whose trainings are moments that make a real ``Run``, without torch: what takes the time is what
is tested. Imported from the copy of a project that Ray has put on the node; ``place.json`` says where all may write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from builders import a_run

from pytest_ftcheck import Recipe, Run, execution
from pytest_ftcheck.errors import TrainingError

HERE = Path(__file__).parent
PLACE = Path(json.loads((HERE / "place.json").read_text()))


def note(what: str, run: str) -> None:
    """One line: what, which run, process, node, GPUs that Ray has given out, and where this file lies."""
    node = "-"
    if "ray" in sys.modules and "_ray_pkg_" in str(HERE):
        import ray

        node = ray.get_runtime_context().get_node_id()
    line = f"{what} {run} {os.getpid()} {node} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')} {HERE}\n"
    handle = os.open(PLACE / "trained.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def execute(recipe: Recipe, method: str, seed: int, steps: int, device: str, unfinished: object) -> Run:
    note("started", f"{method}-{seed}")
    end = time.monotonic() + 600
    while (PLACE / f"hold-{method}-{seed}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    if recipe.name == "raises":
        loop()
    if recipe.name == "sleeps":
        time.sleep(100)
    if recipe.name == "hangs":  # in native code, as far as an alarm can tell
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(100)
    drawn = random.Random(f"{(HERE / 'data.txt').read_text()} {method} {seed}")
    run = a_run(method, seed=seed, train=[drawn.random() for _ in range(3)])
    note("finished", f"{method}-{seed}")
    return run


def loop() -> None:
    try:
        raise IndexError("row 7 of 6")
    except IndexError as error:
        raise TrainingError("full: train(job) raised IndexError: row 7 of 6 after 2 of 3 updates") from error


execution.execute = execute
execution.import_what_optimizers_import = lambda: None


def no_model() -> object:
    raise AssertionError("nothing here builds a model")


def recipe(name: str = "sound") -> Recipe:
    return Recipe(model=no_model, train_data=[{}], name=name, steps=3, seeds=2, threads=1)
