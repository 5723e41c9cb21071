"""Every declaration that is drawn is one that PEFT takes."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given
from peft import get_peft_model

from pytest_ftcheck.lora import lora_configs
from pytest_ftcheck.lora.adapter import FEATURES
from pytest_ftcheck.lora.networks.network import ARCHITECTURES, Network
from pytest_ftcheck.methods import LoRA

LINEAR = {
    "Llama": ARCHITECTURES["Llama"].targets,
    "GPT-2": ("c_attn", "c_fc", "attn.c_proj"),
    "BERT": ("query", "value", "intermediate.dense"),
    "T5": ARCHITECTURES["T5"].targets,
    "Mixtral": ARCHITECTURES["Mixtral"].targets,
}
# On GPT-2's Conv1D, PEFT's is wrong: docs/peft-findings.md.
WITHOUT_OLORA = tuple(feature for feature in FEATURES if feature != "olora")
USUAL = hypothesis.settings(derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize("architecture", LINEAR)
@pytest.mark.filterwarnings("ignore")
def test_every_declaration_is_accepted_on_a_model_that_fits(architecture: str) -> None:
    network = Network(architecture, layers=2)
    features = WITHOUT_OLORA if architecture == "GPT-2" else FEATURES
    saved = ARCHITECTURES[architecture].saved
    drawing = lora_configs(features=features, targets=LINEAR[architecture], saved=saved, layers=2)

    @hypothesis.settings(USUAL, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(drawing)
    def accept(config: LoRA) -> None:
        model: Any = get_peft_model(network.build(torch.float32, 0), config.to_peft())
        assert network.output(model(*network.inputs(2, torch.float32, 0))).isfinite().all()

    accept()


def test_every_setting_is_in_200_draws() -> None:
    seen: set[Any] = set()

    @hypothesis.settings(USUAL, max_examples=200, phases=[Phase.generate])
    @given(lora_configs(targets=("q_proj", "v_proj"), saved=("lm_head",), layers=2))
    def note(config: LoRA) -> None:
        seen.update(config.options, [("bias", config.bias), ("init", config.init), ("dropout", config.dropout)])
        named = ("use_rslora", "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern")
        seen.update(name for name in named if getattr(config, name))
        seen.update(tuple(config.target_modules or ()), [("r", config.r)])

    note()
    expected = {"lora_bias", "layers_to_transform", "use_rslora", "use_dora", "modules_to_save", "rank_pattern"}
    expected |= {"alpha_pattern", "q_proj", "v_proj"}
    assert expected <= seen
    assert {("bias", one) for one in ("none", "lora_only", "all")} <= seen
    assert {("init", one) for one in (True, "gaussian", "pissa", "olora")} <= seen
    assert {("r", rank) for rank in range(1, 9)} <= seen


def test_only_the_features_that_are_named_are_drawn() -> None:
    @hypothesis.settings(USUAL, max_examples=100)
    @given(lora_configs(features=("rslora",), multiple_of=3, most=9))
    def hold(config: LoRA) -> None:
        assert config.r in (3, 6, 9)
        told = (config.dropout, config.use_dora, config.bias, config.init, dict(config.options), config.target_modules)
        assert told == (0.0, False, "none", True, {}, None)

    hold()


def test_a_declaration_shrinks_to_the_plainest() -> None:
    settings = hypothesis.settings(USUAL, max_examples=1000)
    found = hypothesis.find(
        lora_configs(targets=("q", "v"), layers=2), lambda config: config.use_dora, settings=settings
    )
    assert found == LoRA(r=1, alpha=1.0, use_dora=True, target_modules=("q",))
