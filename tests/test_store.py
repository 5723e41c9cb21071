"""Stored runs: what is given back, what is not believed, and who may train."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import a_run

from pytest_ftcheck.reads import recorded_reads
from pytest_ftcheck.store import RunStore, default_folder

RUN = a_run("lora", seed=3, train=(0.1 + 0.2, 1 / 3), evals={2: 5e-324})


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "cache" / "runs")


@pytest.fixture
def stored(store: RunStore) -> RunStore:
    """A store with RUN in it under "key", which depends on no file."""
    store.write("key", RUN, {})
    return store


@pytest.fixture(autouse=True)
def _no_other_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def file_of(store: RunStore) -> Path:
    return store.folder / "key.json"


def test_a_stored_run_comes_back_equal(stored: RunStore) -> None:
    assert stored.read("key") == RUN
    assert RunStore(stored.folder).read("key") == RUN


def test_there_is_no_run_under_another_key(stored: RunStore) -> None:
    assert stored.read("another key") is None


def test_an_empty_store_is_read_without_making_its_folder(store: RunStore) -> None:
    assert store.read("key") is None
    assert not store.folder.exists()


def test_a_run_that_is_written_again_takes_the_place_of_the_first(stored: RunStore) -> None:
    stored.write("key", a_run(seed=4), {})
    found = stored.read("key")
    assert found is not None
    assert found.seed == 4
    assert len(list(stored.folder.iterdir())) == 1


@pytest.mark.parametrize(("text", "believed"), [("rows", True), ("other rows", False), (None, False)])
def test_a_run_is_believed_only_while_its_data_is_what_it_was(
    store: RunStore, tmp_path: Path, text: str | None, believed: bool
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("rows")
    with recorded_reads() as reads:
        data.read_text()
    store.write("key", RUN, reads)
    data.unlink()
    if text is not None:
        data.write_text(text)
    assert store.read("key") == (RUN if believed else None)


def truncated(text: bytes) -> bytes:
    return text[: len(text) // 2]


def another_seed(text: bytes) -> bytes:
    changed = text.replace(b'\\"seed\\":3', b'\\"seed\\":4')
    assert changed != text
    return changed


def edited(**changes: Any) -> Any:
    def edit(text: bytes) -> bytes:
        data = {**json.loads(text), **changes}
        return json.dumps({name: value for name, value in data.items() if value is not ...}).encode()

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncated, id="truncated"),
        pytest.param(lambda text: b"", id="empty"),
        pytest.param(lambda text: b"\x00" * len(text), id="zeros"),
        pytest.param(lambda text: b"\xff\xfe\x80" + text, id="not text"),
        pytest.param(lambda text: b"[]", id="a list"),
        pytest.param(lambda text: b"3", id="a number"),
        pytest.param(lambda text: b"[" * 100_000, id="nested without end"),
        pytest.param(another_seed, id="another seed"),
        pytest.param(edited(digest="0" * 32), id="another digest"),
        pytest.param(edited(digest=...), id="no digest"),
        pytest.param(edited(schema=0), id="another schema than was stored"),
        pytest.param(edited(reads={"/data.txt": "0"}), id="another file"),
        pytest.param(edited(reads=[]), id="files as a list"),
        pytest.param(edited(run=None), id="no run"),
        pytest.param(edited(run=3), id="a number for a run"),
        pytest.param(edited(run="{}"), id="an empty run"),
    ],
)
def test_a_damaged_run_is_not_believed_and_said_to_be_damaged(stored: RunStore, damage: Any) -> None:
    path = file_of(stored)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert stored.read("key") is None
    (warning,) = caught
    assert str(warning.message).startswith(f"ftcheck: stored run {path} is damaged (")
    assert str(warning.message).endswith("); training again")


def test_a_run_of_an_older_release_is_trained_again_without_a_word(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("pytest_ftcheck.store.SCHEMA", 1)
        store.write("key", RUN, {})
    assert store.read("key") is None
    store.write("key", RUN, {})
    assert store.read("key") == RUN


def test_a_removed_input_file_makes_an_edited_run_no_more_believable(store: RunStore, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    store.write("key", RUN, {str(data): "what it was"})
    file_of(store).write_bytes(edited(reads={})(file_of(store).read_bytes()))
    with pytest.warns(UserWarning, match="its digest does not fit its content"):
        assert store.read("key") is None


def test_a_damaged_run_is_replaced_by_the_next_one(stored: RunStore) -> None:
    file_of(stored).write_bytes(b"")
    stored.write("key", RUN, {})
    assert stored.read("key") == RUN


def failing(*arguments: Any, **named: Any) -> Any:
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("function", ["tempfile.mkstemp", "os.replace", "json.dump", "pathlib.Path.mkdir"])
def test_a_folder_that_cannot_be_written_is_a_warning(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(function, failing)
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        store.write("key", RUN, {})
    monkeypatch.undo()
    (warning,) = caught
    assert str(warning.message).startswith(f"ftcheck: {store.folder} cannot be written (")
    assert "Read-only file system" in str(warning.message)
    assert str(warning.message).endswith("); the run is not stored")
    assert store.read("key") is None


@pytest.mark.parametrize("function", ["os.replace", "json.dump"])
def test_a_write_that_fails_leaves_no_file_and_the_run_that_was_there(
    stored: RunStore, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(function, failing)
    with pytest.warns(UserWarning, match="cannot be written"):
        stored.write("key", a_run(seed=4), {})
    monkeypatch.undo()
    assert [path.name for path in stored.folder.iterdir()] == ["key.json"]
    assert stored.read("key") == RUN


def test_a_file_in_the_place_of_the_folder_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    store = RunStore(tmp_path / "runs")
    with pytest.warns(UserWarning, match="cannot be written"):
        store.write("key", RUN, {})
    assert store.read("key") is None
    assert (tmp_path / "runs").read_text() == "not a folder"


def test_where_there_can_be_no_lock_everybody_may_train(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    store = RunStore(tmp_path / "runs")
    with store.claim("key") as first, store.claim("key") as second:
        assert (first, second) == (True, True)


def test_a_claim_excludes_others_until_it_ends(store: RunStore) -> None:
    with store.claim("key") as first:
        start = time.perf_counter()
        with RunStore(store.folder).claim("key") as second:
            assert (first, second) == (True, False)
        assert time.perf_counter() - start < 0.9, "a claim must not wait"
        with RunStore(store.folder).claim("key") as third:
            assert third is False, "the second claim's end must not free the first"
    with store.claim("key") as fourth:
        assert fourth is True


def test_a_claim_is_for_one_key(store: RunStore) -> None:
    with store.claim("key") as first, store.claim("another key") as second:
        assert (first, second) == (True, True)


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError, KeyboardInterrupt])
def test_a_claim_ends_where_its_training_fails(store: RunStore, error: type[BaseException]) -> None:
    with pytest.raises(error), store.claim("key"):
        raise error
    with store.claim("key") as again:
        assert again is True


def test_a_claim_leaves_no_run(store: RunStore) -> None:
    with store.claim("key"):
        assert store.read("key") is None
    assert store.read("key") is None


HOLDER = """
import sys, time
from pathlib import Path
from pytest_ftcheck.store import RunStore

with RunStore(Path(sys.argv[1])).claim("key") as ours:
    print("held" if ours else "not held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no signal that kills without warning")
def test_a_claim_of_a_killed_process_is_free_again(store: RunStore) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with store.claim("key") as ours:
                assert ours is False, "another process holds it"
        finally:
            os.kill(holder.pid, signal.SIGKILL)
        assert holder.wait() == -signal.SIGKILL
    with store.claim("key") as ours:
        assert ours is True


WRITER = """
import json, os, signal, sys
from pathlib import Path
from pytest_ftcheck import Run
from pytest_ftcheck.store import RunStore

run = Run.from_json(sys.stdin.read())
json.dump = lambda data, file: (file.write("{"), file.flush(), os.kill(os.getpid(), signal.SIGKILL))
RunStore(Path(sys.argv[1])).write("key", run, {})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no signal that kills without warning")
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_to_believe(store: RunStore) -> None:
    command = [sys.executable, "-c", WRITER, str(store.folder)]
    done = subprocess.run(command, input=RUN.to_json(), text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(store.folder.glob(".partial-*"))) == 1, "the process did not come as far as writing"
    assert store.read("key") is None
    store.write("key", RUN, {})
    assert store.read("key") == RUN


def test_the_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path / name)
    assert default_folder() == tmp_path / "pytest-ftcheck" / "runs"
