"""``python -m pytest_ftcheck.predict`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

from pytest_ftcheck import LoRA
from pytest_ftcheck.predict import __main__ as program
from pytest_ftcheck.predict import predict_training
from pytest_ftcheck.predict.comparison import Comparison
from pytest_ftcheck.predict.workload import Workload

from .synthetic import Synthetic, unpredictable
from .workloads import tiny_llama

QUICK = ("--no-batch-search", "--no-switches")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder called ``tiny`` with a config.json."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    config = tiny_llama()
    config.num_hidden_layers = 1
    config.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _verbosity() -> Iterator[None]:
    """The program quiets transformers, in what is otherwise a process of its own."""
    before = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(before)


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Lets predictions take no time; what was asked for."""
    asked: list[Workload] = []

    def live(workload: Workload) -> int:
        asked.append(workload)
        return 10**9 + 10**8 * workload.batch_size

    monkeypatch.setattr(program, "Predictions", lambda gpu, **options: Synthetic(gpu, live))
    return asked


def test_json_is_one_object_that_holds_the_same_predictions_as_the_library(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest_ftcheck.predict", "--model", str(folder / "config.json"), "--json", *QUICK]
    done = subprocess.run([*command, "--rank", "4", "--gpu", "t4"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    comparison = Comparison.from_json(done.stdout)
    assert [arm.title for arm in comparison.arms] == ["full", "full ckpt", "LoRA r=4", "LoRA r=4 ckpt"]
    lora = LoRA(r=4, target_modules="all-linear")
    training: dict[str, Any] = dict(model=folder, method=lora, dtype="float16", sequence_length=2048, gpu="t4")
    assert comparison.asked.prediction == predict_training(**training)


def test_the_text_has_every_part(folder: Path, synthetic: list[Workload], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--model", str(folder), "--gpu-memory", "2GB"]) == 0
    said = capsys.readouterr()
    assert not said.err
    for part in ("LoRA r=16 fits, with", "largest batch", "switches, each alone", "not yet validated on a GPU"):
        assert part in said.out
    assert synthetic


def test_json_comes_alone(folder: Path, synthetic: list[Workload], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--model", str(folder), "--json"]) == 0
    said = capsys.readouterr()
    assert not said.err
    assert json.loads(said.out)["switches"]
    assert said.out.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "allowed: a folder with a config.json"),
        ("not json", "not a valid JSON file"),
        ('{"model_type": "nosuch"}', "nosuch"),
        ('{"hidden_size": 8}', "model_type"),
        ('{"model_type": "llama", "num_hidden_layers": "two"}', "num_hidden_layers"),
        ('{"model_type": "gpt2", "n_embd": 10, "n_head": 3}', "divisible"),
        ('{"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}', "quantization_config"),
        ('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}', "custom code"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused_in_one_line(
    config: str | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    if config is not None:
        path.write_text(config)
    assert program.main(["--model", str(path)]) == 2
    printed = capfd.readouterr()
    assert not printed.out
    assert len(printed.err.splitlines()) == 1
    assert str(path) in printed.err
    assert said in printed.err


def test_targets_that_the_model_has_not_are_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--model", str(folder), "--target-modules", "c_attn", *QUICK]) == 2
    assert "names no module of this model: 'c_attn'" in capfd.readouterr().err


def test_what_cannot_be_predicted_has_a_status_of_its_own_and_no_half_of_a_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "Predictions", lambda gpu, **options: Synthetic(gpu, unpredictable))
    assert program.main(["--model", str(folder)]) == 1
    printed = capfd.readouterr()
    assert not printed.out
    assert "no sdpa attention\n  what to do: another" in printed.err


def test_an_interruption_leaves_no_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "compare", interrupted)
    assert program.main(["--model", str(folder)]) == 130
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_to_a_terminal_and_wiped_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = Workload("a model", batch_size=7)
    program._Progress().tell(workload, 2)
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = program._Progress()
    progress.tell(workload, 2)
    assert "prediction 3: full, batch 7" in capsys.readouterr().err
    progress.end()
    assert capsys.readouterr().err == program.CLEAR
