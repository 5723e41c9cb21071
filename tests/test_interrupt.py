"""Ctrl-C in the middle of a training, as a terminal sends it: to the whole process group."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from test_crashes import PYTEST, leftovers, session, surroundings

# Without transformers and PEFT, whose imports take longer than all that is looked at.
RECIPE = """
    import time
    import pytest, torch
    from pathlib import Path
    from pytest_ftcheck import Full, Recipe

    HERE = Path(__file__).parent

    def slow(job):
        (job.output_dir / "checkpoint").write_text("half of it")
        (HERE / "training").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
        optimizer = torch.optim.SGD(job.model.parameters(), lr=job.lr)
        for _ in range(job.steps):
            job.model(torch.ones(4, 2)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(
            name="plain", model=lambda: torch.nn.Linear(2, 2), train=slow, train_data=[1, 2, 3, 4], full=Full(lr=1e-2),
            lora=None, steps=3, batch_size=4, threads=1,
        )
"""
TRAINS = """
    def test_one(ft_run): ft_run("full")
    def test_two(ft_run): ft_run("full", seed=1)
"""
PREDICTS = """
    def test_predicted(ft_predict): ft_predict("full")
"""
LIMIT_S = 100


def processes_of(folder: Path) -> list[int]:
    """Those that were started for the session of ``folder``, wherever they have gone since."""
    found, mark = [], f"TMPDIR={folder / 'tmp'}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(what: str, happened: object) -> None:
    end = time.monotonic() + LIMIT_S
    assert callable(happened)
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        (TRAINS, ["--ftcheck-time-limit=200"]),
        (TRAINS, ["-n", "2"]),
        (TRAINS, ["--ftcheck-audit"]),
        (PREDICTS, []),
    ],
    ids=["a run with a limit", "runs of two workers", "an audit", "a prediction"],
)
def test_an_interrupted_session_leaves_nothing_behind_and_the_next_one_works(
    pytester: pytest.Pytester, test: str, arguments: list[str]
) -> None:
    pytester.makeconftest(RECIPE)
    pytester.makepyfile(test_it=test)
    common = ["--ftcheck-device=cpu", "--ftcheck-cache-dir=cache", *arguments]
    process = subprocess.Popen(
        [*PYTEST, *common],
        cwd=pytester.path,
        env=surroundings(pytester.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for("a training", Path("training").exists)
    assert leftovers(pytester.path) != []  # or nothing is shown by what follows
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "KeyboardInterrupt" in output
    wait_for("the end of all processes", lambda: processes_of(pytester.path) == [])
    assert leftovers(pytester.path) == []
    assert [str(path) for path in Path("cache").rglob("*") if path.suffix != ".lock" and path.is_file()] == []
    if "-n" in arguments:
        Path("go").touch()
        status, output = session(pytester, *common)
        assert (status, leftovers(pytester.path)) == (0, []), output
