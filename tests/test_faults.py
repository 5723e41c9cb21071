"""Many processes that want the same runs, and two hundred faults: kills, removed locks, damaged files.

A training is a small computation here that makes a real ``Run``; the runner, the store, the locks and the processes are
the real ones. What happens where is drawn from a seed: each process commits a few faults, each at a point of its own,
and one that has been killed is replaced, as xdist does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from builders import a_run

from pytest_ftcheck import Recipe, Run, execution, store
from pytest_ftcheck.cache_folder import CacheFolder
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and kills what it has forked")

FAULTS, SEED = 200, 7
KEYS, WORKERS = 3, 3
# Faults of one process, and of one round.
EACH, BATCH = 2, 16
# A process has at most three runs of milliseconds to wait for.
STUCK_S = 30.0
KINDS = ("kill", "steal", "truncate", "overwrite")
# Where in a training a process is when its fault strikes. Half-written: between the first and the last byte.
POINTS = ("claimed", "training", "trained", "half-written", "published")


def no_model() -> Any:
    raise AssertionError("nothing here builds a model")


RECIPE = Recipe(model=no_model, train_data=[{}], steps=3)


def expected(method: str, seed: int) -> Run:
    """What training gives: the same in every process."""
    drawn = random.Random(f"{method} {seed}")
    return a_run(method, seed=seed, train=[drawn.random() for _ in range(3)])


REQUESTS = [Request(RECIPE, "full", seed, 3, "cpu") for seed in range(KEYS)]


@dataclass(frozen=True)
class Fault:
    """What a process does, once, when it comes to a point for the first time; ``number`` seeds what is left open."""

    kind: str
    point: str
    number: int


@dataclass
class World:
    """What the processes of a round share: the folder of runs, and the log of what happened, line by line."""

    folder: Path
    keys: dict[str, int] = field(default_factory=dict)

    def note(self, *words: object) -> None:
        handle = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{' '.join(map(str, words))}\n".encode())
        os.close(handle)

    def noted(self) -> list[list[str]]:
        log = self.folder / "log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def store(self) -> RunStore:
        return RunStore(self.folder / "runs")


def commit(fault: Fault, world: World) -> bool:
    """Whether it could be done: there may be nothing yet to steal or to damage."""
    drawn = random.Random(fault.number)
    runs = world.folder / "runs"
    if fault.kind == "kill":
        world.note("fault", fault.number)
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.kind == "steal":
        for lock in one_of(runs.glob("*.lock"), drawn):
            world.note("fault", fault.number)
            lock.unlink(missing_ok=True)
            return True
    else:
        for path in one_of(runs.glob("*.json"), drawn):
            world.note("fault", fault.number)
            damage(path, world.folder / "damaged" / str(fault.number), fault.kind, drawn)
            return True
    return False


def one_of(paths: Iterator[Path], drawn: random.Random) -> list[Path]:
    found = sorted(paths)
    return [drawn.choice(found)] if found else []


def damage(path: Path, link: Path, kind: str, drawn: random.Random) -> None:
    """Spoil the file in place, as a failing disk does. ``link`` is kept, so that it is known which file that was, even
    where another has taken its name meanwhile. Nothing is read here: it would count among what the training has read.
    """
    os.link(path, link)
    place = drawn.randint(0, link.stat().st_size)
    if kind == "truncate":
        os.truncate(link, place)
    else:
        handle = os.open(link, os.O_WRONLY)
        # Within a number a 7 makes another run of it, in sound JSON.
        os.pwrite(handle, b"7", place)
        os.close(handle)


def worker(world: World, faults: list[Fault], number: int) -> None:
    """Ask for every run in an order of one's own; write down what came, or die of a fault."""
    pending = list(faults)

    def reached(point: str) -> None:
        for fault in [one for one in pending if one.point == point]:
            if commit(fault, world):
                pending.remove(fault)

    def train(recipe: Recipe, method: str, seed: int, steps: int, device: str, unfinished: Path | None = None) -> Run:
        reached("claimed")
        world.note("started", seed)
        time.sleep(0.001)
        reached("training")
        run = expected(method, seed)
        world.note("trained", seed)
        reached("trained")
        return run

    execution.execute = train  # type: ignore[assignment]
    _split(json, "dump", lambda: reached("half-written"))
    noting = _noting(world, lambda: reached("published"))
    warnings.simplefilter("ignore")
    order = random.Random(number).sample(REQUESTS, k=len(REQUESTS))
    for run in Runner(noting).runs(order):
        world.note("verdict", number, run.seed, run == expected("full", run.seed))
    # A file may be damaged after all is over, too.
    pending = [fault for fault in pending if fault.kind != "kill"]
    for point in POINTS:
        reached(point)
    world.note("ended", number)


def _split(module: Any, name: str, between: Callable[[], None]) -> None:
    """Write in two halves, with a point between them."""

    def dump(data: Any, file: Any) -> None:
        text = json.dumps(data)
        file.write(text[: len(text) // 2])
        file.flush()
        between()
        file.write(text[len(text) // 2 :])

    setattr(module, name, dump)


def _noting(world: World, published: Callable[[], None]) -> RunStore:
    class Noting(RunStore):
        def write(self, key: str, run: Run, reads: Any) -> None:
            super().write(key, run, reads)
            world.note("published", run.seed)
            published()

    Noting.poll_s = 0.002
    return Noting(world.folder / "runs")


def forked(body: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        _run_and_exit(body)
    return pid


def _run_and_exit(body: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def round_of(world: World, faults: list[Fault], number: int) -> list[Fault]:
    """Let processes want the same runs, a fault each, until all of them that were not killed have ended. Returns the
    faults that found no occasion.
    """
    alive: dict[int, list[Fault]] = {}
    left = list(faults)
    started, end = 0, time.monotonic() + STUCK_S
    while alive or left:
        while len(alive) < WORKERS and (left or not alive):
            own, left = left[:EACH], left[EACH:]
            name = number * 1000 + started
            alive[forked(lambda own=own, name=name: worker(world, own, name))] = own  # type: ignore[misc]
            started += 1
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            may_die = any(fault.kind == "kill" for fault in alive.pop(pid))
            code = os.waitstatus_to_exitcode(status)
            assert code == 0 or (code == -signal.SIGKILL and may_die), code
        elif time.monotonic() > end:
            for one in alive:
                os.kill(one, signal.SIGKILL)
                os.waitpid(one, 0)
            pytest.fail(f"{len(alive)} of the processes were stuck for {STUCK_S} s")
        else:
            time.sleep(0.001)
    done = {int(words[1]) for words in world.noted() if words[0] == "fault"}
    return [fault for fault in faults if fault.number not in done]


def judge(world: World) -> None:
    """No wrong verdict; and nothing is lost that was finished, unless it was damaged afterwards."""
    log = world.noted()
    assert all(words[3] == "True" for words in log if words[0] == "verdict"), "a verdict is wrong"
    damaged = {path.stat().st_ino for path in (world.folder / "damaged").iterdir()}
    published = {int(words[1]) for words in log if words[0] == "published"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, seed in world.keys.items():
            run = world.store.read(key)
            assert run in (None, expected("full", seed)), f"seed {seed} was believed, and is wrong"
            path = world.folder / "runs" / f"{key}.json"
            if seed in published and not (path.exists() and path.stat().st_ino in damaged):
                assert run is not None, f"the finished run of seed {seed} was lost"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Made once: it takes longer than all that a process does here."""
    found = {request.key() or "": request.seed for request in REQUESTS}
    by_seed = {seed: key for key, seed in found.items()}
    monkeypatch.setattr(Request, "key", lambda self: by_seed[self.seed])
    assert len(by_seed) == KEYS
    assert "" not in found
    return found


def worlds(tmp_path: Path, keys: dict[str, int]) -> Iterator[World]:
    for number in range(100):
        folder = tmp_path / f"{number}"
        (folder / "damaged").mkdir(parents=True)
        yield World(folder, keys)


def suffer(tmp_path: Path, keys: dict[str, int], faults: list[Fault]) -> tuple[Counter[str], int]:
    """Commit all of them, judging after each round. Returns how many of each kind were committed, and the trainings."""
    committed: Counter[str] = Counter()
    trained = 0
    for number, world in enumerate(worlds(tmp_path, keys)):
        batch, faults = faults[:BATCH], faults[BATCH:]
        put_off = round_of(world, batch, number)
        judge(world)
        committed.update(fault.kind for fault in batch if fault not in put_off)
        trained += sum(words[0] == "trained" for words in world.noted())
        faults += put_off
        if not faults:
            break
    return committed, trained


def test_two_hundred_faults_give_no_wrong_verdict_no_stuck_process_and_lose_no_finished_run(
    tmp_path: Path, keys: dict[str, int]
) -> None:
    drawn = random.Random(SEED)
    start = time.monotonic()
    faults = [Fault(drawn.choice(KINDS), drawn.choice(POINTS), number) for number in range(FAULTS)]
    committed, trained = suffer(tmp_path, keys, faults)
    print(f"\n{FAULTS} faults ({dict(committed)}), {trained} trainings, {time.monotonic() - start:.1f} s")
    assert sum(committed.values()) == FAULTS
    assert min(committed[kind] for kind in KINDS) >= FAULTS // 8


def test_a_store_that_believes_whatever_can_be_read_is_found_out(
    tmp_path: Path, keys: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_digest", lambda data: "the same for all")
    with pytest.raises(AssertionError, match="is wrong"):
        suffer(tmp_path, keys, [Fault("overwrite", "published", number) for number in range(FAULTS)])


def test_a_store_that_loses_what_was_finished_is_found_out(
    tmp_path: Path, keys: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(cache: CacheFolder, limit_bytes: int, newest: str) -> None:
        for entry in cache.entries():
            entry.path.unlink()

    monkeypatch.setattr(CacheFolder, "keep_within", forget)
    with pytest.raises(AssertionError, match="was lost"):
        suffer(tmp_path, keys, [Fault("steal", "training", 0)])


def test_without_faults_each_run_is_trained_once(tmp_path: Path, keys: dict[str, int]) -> None:
    for number, world in zip(range(5), worlds(tmp_path, keys), strict=False):
        pids = [forked(lambda name=name, world=world: worker(world, [], name)) for name in range(WORKERS)]  # type: ignore[misc]
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * WORKERS
        log = world.noted()
        assert sum(words[0] == "trained" for words in log) == KEYS, number
        assert sum(words[0] == "verdict" for words in log) == KEYS * WORKERS
        judge(world)
