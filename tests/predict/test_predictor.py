"""A prediction is the same wherever and whenever it is made, and says so where it is not for a GPU."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recipes import tiny_recipe
from torch.utils import backend_registration
from transformers import GPT2Config

from pytest_ftcheck import LoRA, Recipe
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.execution import execute
from pytest_ftcheck.predict import Prediction, predict_recipe, predict_training
from pytest_ftcheck.predict.device import has_private_backend
from pytest_ftcheck.predict.process import FRESH, VARIABLE

CONFIG = GPT2Config(
    n_layer=2, n_head=2, n_embd=32, n_positions=64, vocab_size=100, bos_token_id=0, eos_token_id=0
)  # fmt: skip


def gpt2(**arguments: Any) -> Prediction:
    parts: dict[str, Any] = dict(model=CONFIG, method=LoRA(r=2, target_modules=["c_attn"]), batch_size=2)
    return predict_training(**{**parts, "sequence_length": 16, **arguments})


@functools.cache
def in_a_fork() -> Prediction:
    return gpt2()


@pytest.fixture
def plain_loop(repos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """The recipe of a repository under guard, from a conftest that cannot be imported by its name."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(repos / "plain_loop")
    spec = importlib.util.spec_from_file_location("plain_loop_conftest", repos / "plain_loop" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    yield conftest.ft_recipe.__wrapped__()
    for name in set(sys.modules) - before:
        if "plain_" in name:
            del sys.modules[name]


def test_two_forks_predict_the_same_whatever_the_parent_did_between() -> None:
    first = in_a_fork()
    garbage: list[Any] = [[] for _ in range(1000)]
    for one in garbage:
        one.append(garbage)
    del garbage, one
    execute(tiny_recipe(), "full", 0, 6, "cpu")
    assert gpt2() == first
    assert first.backend == "fakegpu"


def test_another_workload_is_predicted_otherwise() -> None:
    assert gpt2(batch_size=3) != in_a_fork()


def test_a_fresh_interpreter_predicts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_a_fork()
    monkeypatch.setenv(VARIABLE, FRESH)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert gpt2() == first


def test_a_repository_is_predicted_the_same_in_a_fresh_interpreter(
    plain_loop: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predict_recipe(plain_loop, "lora")
    monkeypatch.setenv(VARIABLE, FRESH)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert predict_recipe(plain_loop, "lora") == first


def test_without_a_private_backend_the_cpu_is_predicted_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_private_backend()
    monkeypatch.delattr(backend_registration, "_setup_privateuseone_for_python_backend")
    fallen_back = gpt2()
    assert fallen_back.backend == "cpu"
    assert any("CPU's kernels" in note for note in fallen_back.notes)
    assert fallen_back.peak_bytes > 0
    assert fallen_back.flops.forward == in_a_fork().flops.forward


def test_the_cpu_is_predicted_where_it_is_asked_for() -> None:
    prediction = predict_recipe(tiny_recipe(), "lora", device="cpu")
    assert prediction.backend == "cpu"
    assert not any("CPU's kernels" in note for note in prediction.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "h1000"}, "gpu is 'h1000'; allowed: h200, "),
        ({"gpu": ["h100"]}, "gpu is ['h100']; allowed: h200, "),
        ({"device": "cuda"}, "device is 'cuda'; allowed: None, 'cpu'"),
        ({"device": ["cpu"]}, "device is ['cpu']; allowed: None, 'cpu'"),
        ({"method": "lorra"}, "no method 'lorra' in the recipe; allowed: full, lora"),
        ({"recipe": "tiny"}, "recipe is 'tiny'; allowed: a Recipe"),
        ({"time_limit_s": 0}, "time_limit_s is 0; allowed: "),
        ({"memory_limit_bytes": "1GB"}, "memory_limit_bytes is '1GB'; allowed: "),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}") as caught:
        predict_recipe(**{"recipe": tiny_recipe(), **arguments})
    assert "\n" not in str(caught.value)


def test_the_predictor_is_imported_without_what_it_will_need(pytester: pytest.Pytester) -> None:
    code = (
        "import sys; from pytest_ftcheck.predict import predict_training;"
        "heavy = {'torch', 'numpy', 'transformers', 'peft'} & set(sys.modules); print(sorted(heavy))"
    )
    assert pytester.run(sys.executable, "-c", code).stdout.str() == "[]"
