from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from predict import workloads
from predict.workloads import FULL, tiny_llama
from torch import Tensor, nn
from transformers import (
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
)

from pytest_ftcheck import LoRA
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.predict import Prediction, predict_training
from pytest_ftcheck.predict.workload import Workload

SIZES: dict[str, Any] = dict(num_hidden_layers=1, num_attention_heads=4, hidden_size=32, intermediate_size=64)
GPT2: dict[str, Any] = dict(n_layer=1, n_head=4, n_embd=32, vocab_size=100, n_positions=64)
INSTEAD = r"allowed: .*give batch=, a function \(batch_size, sequence_length\) -> dictionary of CPU tensors"


def bert(architecture: str | None = None, **settings: Any) -> BertConfig:
    named = {"architectures": [architecture]} if architecture else {}
    return BertConfig(vocab_size=100, **SIZES, **named, **settings)


def gpt2(**settings: Any) -> GPT2Config:
    return GPT2Config(**GPT2, bos_token_id=1, eos_token_id=2, **settings)


def of_tiny_llama(**settings: Any) -> Prediction:
    return workloads.predicted(tiny_llama, FULL, batch_size=2, sequence_length=64, **settings)


def predicted(model: Any, **settings: Any) -> Prediction:
    return predict_training(model=model, **{"method": FULL, "batch_size": 2, "sequence_length": 32, **settings})


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("batch_size", 0, "a whole number of at least 1"),
        ("sequence_length", 2.5, "a whole number of at least 1"),
        ("accumulation", True, "a whole number of at least 1"),
        ("method", "lora", r"Full\(\.\.\.\), LoRA\(\.\.\.\), Peft\(\.\.\.\)"),
        ("dtype", "fp32", "float32, bfloat16, float16, float64"),
        ("optimizer", "adamw-8bit", "adamw-foreach, adamw-fused, adamw-loop"),
        ("attention", "flash_attention_2", r"sdpa, eager \(sdpa takes the flash kernel"),
        ("autocast", "float32", "None, bfloat16, float16"),
        ("keep_output", 1, "False, True"),
        ("padded", "yes", "False, True"),
        ("gradient_checkpointing", None, "False, True"),
        ("autocast_adapter_dtype", "float32", "False, True"),
        ("batch", [1], r"a function \(batch_size, sequence_length\), or None"),
    ],
)
def test_an_argument_that_cannot_work_is_named_with_what_is_allowed(option: str, value: Any, allowed: str) -> None:
    with pytest.raises(RecipeError, match=f"^{option} is .*; allowed: {allowed}") as raised:
        Workload(model=None, **{option: value})
    assert "\n" not in str(raised.value)


def test_a_padded_row_has_a_token_besides_its_padding() -> None:
    with pytest.raises(RecipeError, match="sequence_length is 1; allowed: a whole number of at least 2"):
        Workload(model=None, sequence_length=1, padded=True)


def test_predict_training_takes_every_argument_of_a_workload() -> None:
    taken = inspect.signature(predict_training).parameters
    for field in dataclasses.fields(Workload):
        assert field.name in taken
        assert field.name in ("model", "method") or taken[field.name].default == field.default


def test_a_config_may_be_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "gpt2-mini" / "config.json"
    file.parent.mkdir()
    gpt2().save_pretrained(file.parent)
    by_file, by_folder = predicted(file), predicted(str(file.parent))
    assert by_file == by_folder
    assert by_file.recipe == "gpt2-mini"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "a folder with a config.json, or such a file"), ("{", "not a valid JSON"), ("{}", "Unrecognized model")],
)
def test_a_path_without_a_config_is_refused(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=f"^model is '{tmp_path}'; allowed: .*{why}"):
        predicted(tmp_path)


def test_a_checkpoints_own_dtype_is_not_what_counts(tmp_path: Path) -> None:
    # Configurations on disk say in which dtype the checkpoint is; what trains is in the dtype that was asked for.
    tiny_llama().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "bfloat16"}))
    assert predicted(tmp_path, sequence_length=64).memory == of_tiny_llama().memory


def test_a_factory_may_build_on_the_meta_device_or_ignore_it() -> None:
    def on_the_cpu() -> nn.Module:
        with torch.device("cpu"):
            return GPT2LMHeadModel(gpt2())

    def on_meta() -> nn.Module:
        return GPT2LMHeadModel(gpt2())

    assert predicted(on_the_cpu).memory == predicted(on_meta).memory


class Regression(nn.Module):
    """No model of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(128, 128)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        return ((self.layer(features) - targets) ** 2).mean()


def points(batch_size: int, length: int) -> dict[str, Tensor]:
    return {name: torch.zeros(batch_size, length, 128) for name in ("features", "targets")}


def test_a_batch_of_ones_own_makes_any_model_predictable() -> None:
    prediction = predicted(Regression, batch=points)
    assert prediction.flops.forward == 2 * 2 * 32 * 128 * 128
    assert prediction.activations_per_token != prediction.activations_per_token, "there are no tokens: NaN"


def test_a_model_that_cannot_checkpoint_is_named() -> None:
    with pytest.raises(RecipeError, match="gradient_checkpointing is True; allowed for Regression: False"):
        predicted(Regression, batch=points, gradient_checkpointing=True)


def test_a_batch_that_is_no_dictionary_is_named() -> None:
    with pytest.raises(RecipeError, match=r"batch\(\) returned list; allowed: a dictionary of CPU tensors"):
        predicted(Regression, batch=lambda rows, length: [1])


@pytest.mark.parametrize(
    "config",
    [
        bert(),
        bert("BertForSequenceClassification"),
        bert("BertForSequenceClassification", num_labels=1),
        bert("BertForQuestionAnswering"),
        gpt2(architectures=["GPT2ForSequenceClassification"]),
        T5Config(d_model=32, d_ff=64, num_layers=1, num_heads=4, d_kv=8, vocab_size=100, decoder_start_token_id=0),
    ],
    ids=["masked", "classes", "regression", "spans", "decoder-classes", "encoder-decoder"],
)
def test_every_kind_of_text_model_gets_a_batch_that_it_has_a_loss_for(config: Any) -> None:
    assert predicted(config, padded=True).flops.backward > 0


def test_an_encoder_takes_an_adapter_with_its_task_type() -> None:
    adapter = LoRA(r=4, target_modules=["query"], task_type="SEQ_CLS")
    assert predicted(bert("BertForSequenceClassification"), method=adapter).memory.gradients_bytes > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (bert("BertModel"), f"model is BertModel; {INSTEAD}"),
        (ViTConfig(architectures=["ViTForImageClassification"], **SIZES), f"which takes pixel_values; {INSTEAD}"),
        (bert("BertForNothing"), "architecture 'BertForNothing'; allowed: a class of transformers"),
        (WhisperConfig(), "model is a WhisperConfig without architectures; allowed: one that names its class"),
        (gpt2(architectures=["MambaForCausalLM"]), "attention is 'sdpa'; allowed for MambaForCausalLM: eager"),
    ],
    ids=["no-head", "images", "unknown-class", "no-usual-class", "no-sdpa"],
)
def test_a_model_without_a_known_batch_is_named_with_what_to_do(config: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        predicted(config)


def test_positions_that_a_model_has_not_are_refused() -> None:
    with pytest.raises(RecipeError, match="sequence_length is 65; allowed: at most the model's 64 positions"):
        predicted(gpt2(), sequence_length=65)


def test_rotary_positions_have_no_end() -> None:
    config = LlamaConfig(**{**SIZES, "num_key_value_heads": 4}, vocab_size=100, max_position_embeddings=16)
    assert predicted(config).tokens == 64


def test_a_padded_batch_needs_another_mask() -> None:
    full, padded = of_tiny_llama(), of_tiny_llama(padded=True)
    assert padded.moment("saved").held != full.moment("saved").held
    assert padded.flops == full.flops
