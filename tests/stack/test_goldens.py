"""The golden checkpoints: small, without pickles, and noticed when they load to other numbers."""

from __future__ import annotations

import pytest

from pytest_ftcheck.stack import goldens
from pytest_ftcheck.stack.probes import goldens as probes


def test_they_are_small_and_hold_no_pickles() -> None:
    files = [path for path in goldens.FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) < 600_000


def test_every_golden_that_is_declared_is_there() -> None:
    assert {path.name for path in goldens.FOLDER.iterdir()} == set(goldens.names())


def test_inputs_are_padded_on_the_right() -> None:
    mask = goldens.read("llama").inputs["attention_mask"]
    assert (mask.diff(dim=1) <= 0).all()
    assert mask.min() == 0


@pytest.mark.parametrize("name", ["llama", "t5-untied", "llama-lora-and-head"])
def test_the_installed_release_loads_it_to_the_same_numbers(name: str) -> None:
    assert probes.loads_to_the_same.examine_case(name).status == "passed"


@pytest.mark.parametrize("name", ["llama", "llama-lora-and-head"])
def test_a_weight_that_is_drawn_anew_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    load = goldens.load

    def drawn(name: str) -> torch.nn.Module:
        model = load(name)
        head = next(p for key, p in model.named_parameters() if "lm_head" in key and "original" not in key)
        torch.nn.init.normal_(head, std=0.02)
        return model

    monkeypatch.setattr(probes, "load", drawn)
    verdict = probes.loads_to_the_same.examine_case(name)
    assert verdict.status == "failed"
    assert "logits differ" in verdict.findings[0].summary
    assert "written by transformers 4.45.2" in verdict.findings[0].evidence[0]
