"""The folder of stored runs: what goes when it is full or cleared, and what never does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from builders import a_run

from pytest_ftcheck.cache_folder import LEFT_BEHIND_S, UNFINISHED_KEPT_S, CacheFolder
from pytest_ftcheck.report.cache import cleared, information
from pytest_ftcheck.store import RunStore

if sys.platform == "win32":
    pytest.skip("an open file cannot be removed there", allow_module_level=True)
import fcntl

RUN = a_run()
KEYS = [f"{number:032x}" for number in range(4)]
# No file of ours, and every one of them beside ours.
FOREIGN = ("notes.json", "notes.lock", f"{KEYS[0]}.txt", f"{KEYS[0]}.json.bak", f"{KEYS[0].upper()}x.json", ".partial")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def one_bytes(tmp_path: Path) -> int:
    """What one stored run takes."""
    RunStore(tmp_path / "other").write(KEYS[0], RUN, {})
    return (tmp_path / "other" / f"{KEYS[0]}.json").stat().st_size


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def runs(folder: Path) -> list[str]:
    return [entry.path.stem for entry in CacheFolder(folder).entries()]


def used(folder: Path, key: str, seconds_ago: float) -> None:
    at = time.time() - seconds_ago
    os.utime(folder / f"{key}.json", (at, at))


def fill(folder: Path, *keys: str) -> RunStore:
    """A store with these runs, the first of which was used longest ago, and hours ago."""
    store = RunStore(folder)
    for number, key in enumerate(keys):
        store.write(key, RUN, {})
        used(folder, key, 7200 - number)
    return store


def test_a_folder_that_is_full_loses_what_was_used_longest_ago(folder: Path, one_bytes: int) -> None:
    fill(folder, *KEYS[:3])
    RunStore(folder, limit_bytes=3 * one_bytes).write(KEYS[3], RUN, {})
    assert runs(folder) == KEYS[1:]


def test_a_folder_within_its_limit_loses_nothing(folder: Path, one_bytes: int) -> None:
    fill(folder, *KEYS[:3])
    RunStore(folder, limit_bytes=4 * one_bytes).write(KEYS[3], RUN, {})
    assert runs(folder) == KEYS


def test_reading_a_run_keeps_it_and_leaves_the_time_of_its_training(folder: Path, one_bytes: int) -> None:
    store = fill(folder, *KEYS[:3])
    trained = (folder / f"{KEYS[0]}.json").stat().st_mtime_ns
    assert store.read(KEYS[0]) == RUN
    assert (folder / f"{KEYS[0]}.json").stat().st_mtime_ns == trained
    RunStore(folder, limit_bytes=2 * one_bytes).write(KEYS[3], RUN, {})
    assert runs(folder) == [KEYS[0], KEYS[3]]


def test_the_run_that_was_just_stored_stays_whatever_the_limit(folder: Path) -> None:
    fill(folder, *KEYS[:3])
    RunStore(folder, limit_bytes=0).write(KEYS[3], RUN, {})
    assert runs(folder) == [KEYS[3]]


def test_a_run_that_is_being_trained_anew_is_not_removed(folder: Path) -> None:
    store = fill(folder, *KEYS[:2])
    with store.claim(KEYS[0]) as ours:
        assert ours
        RunStore(folder, limit_bytes=0).write(KEYS[3], RUN, {})
        assert runs(folder) == [KEYS[0], KEYS[3]]
        assert CacheFolder(folder).clear().in_training == (KEYS[0],)
        assert runs(folder) == [KEYS[0]]
        with RunStore(folder).claim(KEYS[0]) as theirs:
            assert not theirs, "its lock was removed"
    assert CacheFolder(folder).clear().runs == 1
    assert names(folder) == []


def test_clearing_removes_runs_and_locks_and_says_how_much(folder: Path, one_bytes: int) -> None:
    store = fill(folder, *KEYS[:2])
    with store.claim(KEYS[2]):
        pass
    assert f"{KEYS[2]}.lock" in names(folder)
    removed = CacheFolder(folder).clear()
    assert (removed.runs, removed.size_bytes, removed.in_training) == (2, 2 * one_bytes, ())
    assert names(folder) == []


def test_clearing_leaves_what_is_not_ours(folder: Path, tmp_path: Path) -> None:
    fill(folder, KEYS[0])
    for name in FOREIGN:
        (folder / name).write_text("somebody else's")
    (folder / f"{KEYS[1]}.json").mkdir()
    outside = tmp_path / "outside.json"
    outside.write_text("somebody else's")
    (folder / f"{KEYS[2]}.json").symlink_to(outside)
    CacheFolder(folder).clear()
    assert names(folder) == sorted([*FOREIGN, f"{KEYS[1]}.json", f"{KEYS[2]}.json"])
    assert outside.read_text() == "somebody else's"


def test_a_folder_that_is_not_there_is_empty_and_not_made(folder: Path) -> None:
    cache = CacheFolder(folder)
    assert (cache.entries(), cache.in_training(), cache.clear().runs) == ([], [], 0)
    assert not folder.exists()


def test_what_dead_processes_left_is_swept_with_the_next_run(folder: Path) -> None:
    store = fill(folder, KEYS[0])
    with store.claim(KEYS[1]):
        pass
    for name in (".partial-abc_1.json", ".partial-abc_2.json", f"{KEYS[2]}.lock"):
        (folder / name).write_text("{")
    long_ago = time.time() - LEFT_BEHIND_S - 1
    for name in (".partial-abc_1.json", f"{KEYS[1]}.lock", f"{KEYS[2]}.lock"):
        os.utime(folder / name, (long_ago, long_ago))
    with store.claim(KEYS[2]) as held:
        assert held
        os.utime(folder / f"{KEYS[2]}.lock", (long_ago, long_ago))
        store.write(KEYS[3], RUN, {})
        # What may still be at work stays: a young file, and a lock that is held, whatever its age.
        assert names(folder) == [
            ".partial-abc_2.json",
            f"{KEYS[0]}.json",
            f"{KEYS[2]}.lock",
            f"{KEYS[3]}.json",
        ]


def test_a_lock_file_that_is_removed_while_it_is_being_taken_excludes_nobody_and_is_not_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(folder, KEYS[0])
    flock = fcntl.flock

    def late(handle: int, operation: int) -> None:
        """The file has been opened; before it is locked, somebody clears the folder."""
        monkeypatch.setattr(fcntl, "flock", flock)
        CacheFolder(folder).clear()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with store.claim(KEYS[0]) as first, RunStore(folder).claim(KEYS[0]) as second:
        assert (first, second) == (False, True)


SESSION = ("-p", "no:cacheprovider")


def test_the_information_says_how_much_is_kept_and_ends_the_session(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "cache" / "runs"
    store = fill(folder, *KEYS[:2])
    pytester.makepyfile("def test_it(): raise SystemExit('ran')")
    with store.claim(KEYS[2]):
        result = pytester.runpytest_inprocess(
            "--ftcheck-cache-info", "--ftcheck-cache-dir=cache", "--ftcheck-cache-size=1MB", *SESSION
        )
    assert result.ret == pytest.ExitCode.OK
    first, size, last_used, training = result.outlines
    assert first == f"ftcheck: 2 runs in {folder.relative_to(pytester.path)}"
    assert size.endswith("kB of at most 1 MB (--ftcheck-cache-size)")
    assert "(the first to go)" in last_used
    assert training == "  being trained now: 1"
    assert runs(folder) == KEYS[:2]


def test_an_empty_cache_has_nothing_to_tell(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--ftcheck-cache-info", f"--ftcheck-cache-dir=file://{pytester.path}/cache")
    assert result.outlines == [
        f"ftcheck: 0 runs in {pytester.path}/cache/runs",
        "  size: 0 B of at most 1 GB (--ftcheck-cache-size)",
    ]


def test_clearing_from_the_command_line_ends_the_session(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "cache" / "runs"
    store = fill(folder, *KEYS[:2])
    with store.claim(KEYS[1]):
        result = pytester.runpytest_inprocess("--ftcheck-cache-clear", "--ftcheck-cache-dir=cache", *SESSION)
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[0].startswith("ftcheck: 1 run (")
    assert result.outlines[1:] == ["  left: 1 that a live process is training"]
    assert runs(folder) == [KEYS[1]]


@pytest.mark.parametrize("flag", ["--ftcheck-cache-info", "--ftcheck-cache-clear"])
def test_a_place_that_is_no_folder_is_not_looked_after(pytester: pytest.Pytester, flag: str) -> None:
    result = pytester.runpytest_inprocess(flag, "--ftcheck-cache-dir=memory://ci")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        f"ERROR: {flag} with --ftcheck-cache-dir=memory://ci; allowed: a folder of this machine"
    ]


def test_to_look_and_to_clear_are_not_done_at_once(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--ftcheck-cache-info", "--ftcheck-cache-clear")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ftcheck-cache-info with --ftcheck-cache-clear: choose one of them"])


def unfinished(folder: Path, key: str, seconds_ago: float = 0.0) -> Path:
    """What is left of a run that was interrupted: 1 kB."""
    left = RunStore(folder).unfinished(key)
    (left / "output" / "checkpoint-5").mkdir(parents=True)
    (left / "output" / "checkpoint-5" / "weights").write_bytes(b"0" * 1000)
    for path in (left, *left.rglob("*")):
        os.utime(path, (time.time() - seconds_ago,) * 2)
    return left


def test_what_an_interrupted_run_has_left_does_not_count_and_does_not_go_for_want_of_room(
    folder: Path, one_bytes: int
) -> None:
    left = unfinished(folder, KEYS[2], UNFINISHED_KEPT_S - 60)
    RunStore(folder, one_bytes).write(KEYS[0], RUN, {})
    assert runs(folder) == [KEYS[0]]
    assert left.exists()


def test_what_an_interrupted_run_has_left_goes_after_a_week(folder: Path) -> None:
    left, busy = (unfinished(folder, key, UNFINISHED_KEPT_S + 60) for key in KEYS[2:4])
    with RunStore(folder).claim(KEYS[3]):
        RunStore(folder).write(KEYS[0], RUN, {})
    assert (left.exists(), busy.exists()) == (False, True)


def test_what_interrupted_runs_have_left_is_told_and_cleared_but_for_one_that_goes_on(folder: Path) -> None:
    left, busy = unfinished(folder, KEYS[0]), unfinished(folder, KEYS[1])
    (folder / "notes.unfinished").mkdir()
    (folder / f"{KEYS[2]}.unfinished").symlink_to(folder / "notes.unfinished")
    with RunStore(folder).claim(KEYS[1]):
        assert information(folder, None)[2] == "  interrupted, with checkpoints to go on from: 1 run, 1 kB besides"
        assert (
            cleared(folder)[0]
            == f"ftcheck: 0 runs and checkpoints of 1 that were interrupted (1 kB) removed from {folder}"
        )
    assert (left.exists(), busy.exists()) == (False, True)
    assert (folder / "notes.unfinished").exists()
    assert (folder / f"{KEYS[2]}.unfinished").is_symlink()
