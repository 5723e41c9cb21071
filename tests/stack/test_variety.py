"""The variety of models, adapters, texts and recipes can be made by the installed releases."""

from __future__ import annotations

import pytest
import torch

from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.stack import adapters, data, models
from pytest_ftcheck.stack.recipes import entries, recipes
from pytest_ftcheck.stack.tokenizer import ASSISTANT, WORDS, tokenizer


def test_a_model_is_the_same_at_every_call_and_another_for_another_seed() -> None:
    one, same, other = (models.build("gpt2", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_an_architecture_that_the_release_lacks_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="has no NoSuchForCausalLM"):
        models.from_transformers("NoSuchForCausalLM")


def test_moved_models_have_no_parameter_at_its_initial_value_and_stay_tied() -> None:
    before = models.build("llama-tied").state_dict()
    model = models.moved(models.build("llama-tied"))
    assert not any(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("name", ["llama", "t5", "bert-classifier", "bert-masked"])
def test_rows_of_every_task_are_taken_by_its_models(name: str) -> None:
    rows = data.ROWS[models.ARCHITECTURES[name].task](4)
    loss = models.build(name)(**data.collate(rows)).loss
    assert torch.isfinite(loss)
    assert len({len(row["input_ids"]) for row in rows}) > 1 or name == "t5"


def test_an_adapter_that_was_trained_differs_from_the_base() -> None:
    base = adapters.logits(adapters.base_of("lora"), "lora")
    assert (adapters.logits(adapters.trained("lora"), "lora") - base).abs().max() > 0.01


def test_alpha_is_never_r() -> None:
    plain = [v for v in adapters.VARIANTS.values() if v.is_lora]
    assert all(variant.settings["lora_alpha"] != variant.settings["r"] for variant in plain)


def test_the_chat_template_opens_the_answer_with_the_header_of_the_assistant() -> None:
    words = tokenizer()
    ids = words.apply_chat_template([{"role": "user", "content": "w1 w2"}], add_generation_prompt=True)
    ids = ids["input_ids"] if hasattr(ids, "keys") else ids
    assert [WORDS[i] for i in ids] == ["<|user|>", "w1", "w2", "<|end|>", "<|assistant|>"]
    assert ids[-1] == ASSISTANT


def test_recipes_have_unique_names_and_themes_that_exist() -> None:
    ids = [entry.id for entry in entries()]
    assert len(ids) == len(set(ids)) > 30
    for entry in entries():
        assert chosen(entry.themes)


def test_the_installed_releases_make_every_recipe() -> None:
    assert set(recipes()) == {entry.id for entry in entries()}
