"""What is told of a process that has died."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from errands import both_ways, run
from recipes import tiny_model, tiny_recipe

from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.exchange import Exchange
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.process import VARIABLE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc")


class Aborting(torch.nn.Module):
    """Dies in its forward pass, after its parts have been called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_model()

    def forward(self, **batch: Any) -> Any:
        output = self.inner(**batch)
        os.abort()
        return output


def test_an_abort_names_operation_module_phase_and_place() -> None:
    with pytest.raises(PredictionError) as caught:
        predict_recipe(tiny_recipe(model=Aborting, lora=None), "full")
    first, second, *_ = str(caught.value).splitlines()
    assert re.fullmatch(
        r"the prediction's process died \(SIGABRT\) in or after \w+::\w+ in inner[\w.]* \(forward\)", first
    )
    assert re.fullmatch(r"  at .*test_exchange\.py:\d+ in forward", second)


def test_a_healthy_model_of_the_same_kind_is_predicted() -> None:
    assert predict_recipe(tiny_recipe(lora=None), "full").peak_bytes > 0


def test_an_abort_of_torch_itself_is_told_in_its_own_words() -> None:
    def do(journal: Journal) -> str:
        from torch._subclasses.fake_tensor import FakeTensorMode

        journal.note("a backward pass on a fake cuda device")
        with FakeTensorMode(allow_non_fake_inputs=True):
            (torch.empty(2, 2, device="cuda", requires_grad=True) * 2).sum().backward()
        return "survived"

    with pytest.raises(PredictionError, match=r"(?s)died \(SIGABRT\) in or after a backward pass on .*\| .*cuda"):
        run(do)


@both_ways
def test_a_segmentation_fault_is_told_here_and_not_on_the_parents_stderr(
    way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, way)

    def do(journal: Journal) -> str:
        print("about to read address 0")
        return str(ctypes.string_at(0))

    with pytest.raises(PredictionError, match=r"(?s)died \(SIGSEGV\) in or after its start\n.*about to read address 0"):
        run(do)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("last_words", "number", "hint"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", signal.SIGABRT, "memory_limit_bytes"),
        ("", signal.SIGKILL, "ran out of memory"),
    ],
)
def test_a_death_for_want_of_memory_says_so(last_words: str, number: signal.Signals, hint: str) -> None:
    def do(journal: Journal) -> str:
        print(last_words)
        os.kill(os.getpid(), number)
        return "survived"

    with pytest.raises(PredictionError, match=rf"(?s)died \({number.name}\).*{hint}"):
        run(do)


def test_only_the_end_of_a_long_output_is_told() -> None:
    def do(journal: Journal) -> str:
        print("first line\n" + "x" * 10**6 + "\nε is the last line")
        os._exit(3)

    with pytest.raises(PredictionError) as caught:
        run(do)
    assert "first line" not in str(caught.value)
    assert str(caught.value).endswith("  | ε is the last line")
    assert len(str(caught.value)) < 400


def test_who_asked_for_the_prediction_is_not_where_it_died(tmp_path: Path) -> None:
    frames = [(torch.__file__, "f"), ("/repository/train.py", "train"), ("worker.py", "serve"), ("test.py", "test_it")]
    exchange = Exchange(tmp_path)
    for own, place in ((frames, "  at /repository/train.py:1 in train"), (frames[:1] + frames[2:], None)):
        exchange.fault.write_text("".join(f'  File "{file}", line 1 in {name}\n' for file, name in own))
        with pytest.raises(PredictionError) as caught:
            exchange.outcome(-signal.SIGSEGV)
        assert str(caught.value).splitlines()[1:] == ([place] if place else [])
    exchange.journal.close()
