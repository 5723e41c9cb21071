"""Runs at a URL of fsspec: what comes back, who may train, and what becomes of the lease of somebody who has died."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from builders import a_run
from fsspec.implementations.memory import MemoryFileSystem

from pytest_ftcheck import remote_store
from pytest_ftcheck.errors import CacheError
from pytest_ftcheck.remote_store import RemoteStore
from pytest_ftcheck.store import RunStore, open_store

RUN = a_run("lora", seed=3)


@pytest.fixture(params=["memory", "dir"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(RemoteStore, "poll_s", 0.01)
    yield f"memory://{tmp_path.name}/ci" if request.param == "memory" else f"dir::file://{tmp_path}/ci"
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def store(where: str) -> RemoteStore:
    return RemoteStore(where)


def names(store: RemoteStore) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in store._files.ls(store._root, detail=False))


def test_a_stored_run_comes_back_equal_and_alone(store: RemoteStore, where: str) -> None:
    assert store.read("key") is None
    store.write("key", RUN, {})
    store.write("key", RUN, {})
    assert RemoteStore(where).read("key") == RUN
    assert RemoteStore(where).read("another key") is None
    assert names(store) == ["key.json"]


def test_a_run_is_believed_only_while_its_data_is_what_it_was(store: RemoteStore, tmp_path: Path) -> None:
    store.write("key", RUN, {str(tmp_path / "data.txt"): "what it was"})
    assert store.read("key") is None


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data.replace(b"lora", b"Lora")]
)
def test_a_damaged_run_is_not_believed_and_said_to_be_damaged(store: RemoteStore, damage: Any) -> None:
    store.write("key", RUN, {})
    path = store._path("key", "json")
    store._files.pipe_file(path, damage(store._files.cat_file(path)))
    with pytest.warns(
        UserWarning, match=rf"^ftcheck: stored run key in {store.where} is damaged \(.*; training again$"
    ):
        assert store.read("key") is None


def test_a_claim_excludes_others_until_it_ends(store: RemoteStore, where: str) -> None:
    with store.claim("key") as first:
        with RemoteStore(where).claim("key") as second, RemoteStore(where).claim("another") as other:
            assert (first, second, other) == (True, False, True)
        with RemoteStore(where).claim("key") as third:
            assert third is False, "the second claim's end must not free the first"
    with store.claim("key") as fourth:
        assert fourth is True
    assert names(store) == []


def abandoned(store: RemoteStore, data: bytes = b'{"owner": "one that died", "renewals": 3}') -> None:
    store._make_folder()
    store._files.pipe_file(store._path("key", "lease"), data)


@pytest.mark.parametrize("data", [b'{"owner": "one that died", "renewals": 3}', b"", b"\xff", b"[]"])
def test_a_lease_that_nobody_renews_is_taken_over_after_its_time(
    store: RemoteStore, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "LEASE_S", 0.2)
    abandoned(store, data)
    start = time.monotonic()
    while True:
        with store.claim("key") as ours:
            if ours:
                break
        assert time.monotonic() - start < 10
        time.sleep(0.01)
    assert time.monotonic() - start >= 0.2, "it was taken from somebody who may have been alive"
    assert names(store) == []


def test_a_lease_that_is_renewed_stays_with_its_owner(
    store: RemoteStore, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "LEASE_S", 0.2)
    other = RemoteStore(where)
    with store.claim("key") as ours:
        assert ours
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            with other.claim("key") as theirs:
                assert not theirs
            time.sleep(0.02)


def test_of_several_that_take_over_at_once_the_last_stands(
    store: RemoteStore, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteStore, "poll_s", 0.3)
    abandoned(store)
    lease, won = store._path("key", "lease"), []
    takers = [
        threading.Thread(target=lambda name=name: won.append((name, RemoteStore(where)._take_over(lease, name))))
        # Of one length, as owners are: two of a folder's writers at once leave what one of them wrote.
        for name in ("one", "two", "six")
    ]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(ours for _, ours in won) == [False, False, True]


def failing(*arguments: Any, **named: Any) -> Any:
    raise PermissionError(13, "Forbidden")


def test_a_place_that_cannot_be_written_is_a_warning_and_everybody_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", failing)
    store = RemoteStore("memory://forbidden")
    with store.claim("key") as first, store.claim("key") as second:
        assert (first, second) == (True, True)
    with pytest.warns(UserWarning, match=r"^ftcheck: cache 'memory://forbidden' cannot be written \(PermissionError: "):
        store.write("key", RUN, {})


def test_a_place_that_cannot_be_read_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    with pytest.warns(UserWarning, match=r"^ftcheck: cache 'memory://forbidden' cannot be read \(PermissionError: "):
        assert RemoteStore("memory://forbidden").read("key") is None


@pytest.mark.parametrize("where", ["nosuch://bucket/ci", "s3://"])
def test_a_url_that_cannot_be_opened_ends_the_session_with_a_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)  # as where it is not installed
    with pytest.raises(CacheError, match=f"^cache '{where}' cannot be opened: "):
        RemoteStore(where)
    result = pytester.runpytest_inprocess(f"--ftcheck-cache-dir={where}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --ftcheck-cache-dir: cache '{where}' cannot be opened: *"])


def test_what_is_a_folder_is_one_however_it_is_written(tmp_path: Path) -> None:
    for where in (str(tmp_path), f"file://{tmp_path}"):
        store = open_store(where)
        assert isinstance(store, RunStore)
        assert store.folder == tmp_path / "runs"
    assert isinstance(open_store("memory://ci"), RemoteStore)
    assert isinstance(open_store(f"dir::file://{tmp_path}"), RemoteStore)
