"""What a prediction's process does for its request, and what it keeps away from its parent."""

from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from errands import both_ways, run
from recipes import drawn_model, tiny_model, tiny_recipe

from pytest_ftcheck.errors import FtcheckError, PredictionError, RecipeError, TrainingError
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.process import VARIABLE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc")


def test_memory_beyond_the_limit_is_refused_with_what_to_do() -> None:
    def hungry() -> torch.nn.Module:
        model = drawn_model()
        model.register_buffer("large", torch.ones(2**28))
        return model

    with pytest.raises(
        PredictionError, match=r"more than its memory limit, in or after building the model\n.*meta device"
    ):
        predict_recipe(tiny_recipe(model=hungry, lora=None), "full", memory_limit_bytes=2**29)


def test_memory_that_is_used_up_to_the_last_byte_is_told_all_the_same() -> None:
    def do(journal: Journal) -> str:
        pieces: list[bytearray] = []
        while True:
            pieces.append(bytearray(2**12))

    with pytest.raises(PredictionError, match="more than its memory limit"):
        run(do, memory_bytes=2**27)


def test_the_same_memory_within_the_limit_is_there() -> None:
    assert run(lambda journal: str(torch.ones(2**26).numel()), memory_bytes=2**30) == str(2**26)


def _exits() -> Any:
    sys.exit("no such model")


def test_code_that_exits_is_named_wherever_it_stands() -> None:
    with pytest.raises(PredictionError, match=r"called sys\.exit\('no such model'\), in or after building the model"):
        predict_recipe(tiny_recipe(model=_exits, lora=None), "full")
    with pytest.raises(TrainingError, match=r"full: train\(job\) called sys\.exit\(3\) after 0 updates"):
        predict_recipe(tiny_recipe(train=lambda job: sys.exit(3), lora=None), "full")
    with pytest.raises(PredictionError, match=r"died \(exit status 0\)"):
        run(lambda journal: os._exit(0))


class OwnError(TrainingError):
    """One that the parent does not know."""


@pytest.mark.parametrize("error", [RecipeError, TrainingError, PredictionError, OwnError])
def test_our_errors_arrive_as_they_are(error: type[FtcheckError]) -> None:
    def do(journal: Journal) -> str:
        raise error("first line\n  second line: ε")

    with pytest.raises(FtcheckError) as caught:
        run(do)
    assert type(caught.value) is (TrainingError if error is OwnError else error)
    assert str(caught.value) == "first line\n  second line: ε"


def test_other_errors_are_told_in_one_line_and_then_where() -> None:
    def do(journal: Journal) -> str:
        raise KeyError("one\ntwo")

    with pytest.raises(PredictionError) as caught:
        run(do)
    first, *frames = str(caught.value).splitlines()
    assert first == "the prediction raised KeyError: 'one\\ntwo', in or after its start"
    assert re.fullmatch(r"  at .*test_worker\.py:\d+ in do", frames[-1])
    assert len(frames) <= 6


@both_ways
def test_what_is_printed_stays_out_of_the_parents_output_and_is_told(
    way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, way)

    def do(journal: Journal) -> str:
        print("by print")
        os.write(1, b"by the system\n")
        ctypes.CDLL(None).puts(b"by the C library")
        ctypes.CDLL(None).fflush(None)
        print("on stderr", file=sys.stderr)
        os._exit(7)

    with pytest.raises(PredictionError, match="exit status 7") as caught:
        run(do)
    assert all(text in str(caught.value) for text in ("by print", "by the system", "by the C library", "on stderr"))
    assert capfd.readouterr() == ("", "")


def test_a_log_that_the_parent_keeps_has_nothing_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("errand")
    log.addHandler(kept := logging.StreamHandler(sys.stderr))
    logging.root.addHandler(file := logging.FileHandler(tmp_path / "log"))
    try:
        assert run(lambda journal: log.warning("of the process") or "logged") == "logged"
        log.warning("of the parent")
    finally:
        log.removeHandler(kept)
        logging.root.removeHandler(file)
        file.close()
    assert (tmp_path / "log").read_text() == capfd.readouterr().err == "of the parent\n"


def test_what_the_parent_has_in_a_buffer_is_written_once(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        file.write("once")
        assert run(lambda journal: str(file.closed)) == "False"
        assert not (tmp_path / "file").read_text()
    assert (tmp_path / "file").read_text() == "once"


def test_the_parents_garbage_is_left_to_the_parent(tmp_path: Path) -> None:
    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            (tmp_path / "finalized").write_text("by somebody")

    gc.disable()
    try:
        Garbage()
        assert run(lambda journal: str(gc.collect() >= 0)) == "True"
        assert not (tmp_path / "finalized").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "finalized").exists()


def test_what_the_parent_does_at_its_exit_the_process_does_not(tmp_path: Path) -> None:
    note = tmp_path / "note"

    def leave_a_note() -> None:
        note.write_text("done")

    atexit.register(leave_a_note)
    try:
        assert run(lambda journal: "done") == "done"
    finally:
        atexit.unregister(leave_a_note)
    assert not note.exists()


def test_threads_and_backward_passes_of_the_parent_do_no_harm() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        weight = torch.randn(600, 600, requires_grad=True)
        (weight @ weight).exp().sum().backward()
        recipe = tiny_recipe(threads=2, lora=None, model=_model_made_with_threads)
        assert predict_recipe(recipe, "full", time_limit_s=30).peak_bytes > 0
    finally:
        torch.set_num_threads(threads)


def _model_made_with_threads() -> torch.nn.Module:
    large = torch.randn(600, 600)
    assert (large @ large).exp().shape == (600, 600)
    return tiny_model()


def test_handlers_of_the_parent_do_not_run_in_the_process() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(PredictionError, match=r"died \(SIGTERM\)"):
            run(lambda journal: os.kill(os.getpid(), signal.SIGTERM) or "survived")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_question_to_the_user_does_not_wait() -> None:
    with pytest.raises(PredictionError, match="EOFError"):
        run(lambda journal: input("continue? "))


def test_the_parents_standard_input_is_not_read() -> None:
    (reading, writing), before = os.pipe(), os.dup(0)
    os.write(writing, b"for the parent")
    os.dup2(reading, 0)
    try:
        assert run(lambda journal: os.read(0, 99).decode() or "nothing") == "nothing"
        assert os.read(0, 99) == b"for the parent"
    finally:
        os.dup2(before, 0)
        for descriptor in (reading, writing, before):
            os.close(descriptor)


def test_warnings_that_are_errors_end_no_prediction() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert predict_recipe(tiny_recipe(lora=None, train=_warning_train), "full").peak_bytes > 0


def _warning_train(job: Any) -> None:
    from pytest_ftcheck.training import train

    warnings.warn("of no consequence", stacklevel=1)
    train(job)


def test_the_parents_tracer_does_not_follow() -> None:
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert run(lambda journal: str(sys.gettrace())) == "None"
    finally:
        sys.settrace(before)
