from __future__ import annotations

import torch

from pytest_ftcheck.execution import execute
from pytest_ftcheck.tasks import PretrainedText, TextTask, text_recipe
from pytest_ftcheck.training import collate, model_loss

TASK = TextTask(part="narrow", block_size=32)


def general_loss(model: torch.nn.Module) -> float:
    blocks = TextTask(part="general", block_size=32).eval_data()
    with torch.no_grad():
        return float(model_loss(model, collate([blocks[i] for i in range(64)])))


def test_the_base_has_learned_from_the_general_text() -> None:
    untrained = general_loss(PretrainedText(TASK, pretraining_steps=0).model())
    trained = general_loss(PretrainedText(TASK, pretraining_steps=40).model())
    assert untrained > 5.3  # log(256) is 5.55
    assert trained < 0.75 * untrained


def test_each_run_gets_a_base_of_its_own() -> None:
    text = PretrainedText(TASK, pretraining_steps=0)
    first, second = text.model(), text.model()
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_the_recipe_trains_on_text_both_ways() -> None:
    recipe = text_recipe(TASK, pretraining_steps=0)
    for method in ("full", "lora"):
        run = execute(recipe, method, seed=0, steps=12, device="cpu")
        assert not run.deviations
        assert run.loss.supervised_tokens == (8 * 31,) * 12
        assert run.loss.final < run.loss.train[0]
