"""The loss that is told, against the loss that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from language_models import gpt2_recipe, t5_recipe, trainer_recipe

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama

VerdictOn = Callable[..., Verdict]
CHECK = "reported-loss-is-the-loss"


def test_a_model_whose_loss_is_off_is_found(verdict_on: VerdictOn) -> None:
    def model() -> Any:
        made: Any = tiny_llama()
        own = made.loss_function
        made.loss_function = lambda logits, labels, vocab_size, **others: own(
            logits, labels.roll(-1, dims=1), vocab_size, **others
        )
        return made

    verdict = verdict_on(CHECK, instruction_recipe(model), "full")
    assert "are not the cross-entropy of its logits" in str(verdict)


def test_the_losses_of_sound_models_are_recognised(verdict_on: VerdictOn) -> None:
    for recipe in (gpt2_recipe(), t5_recipe(), trainer_recipe()):
        assert verdict_on(CHECK, recipe, "full").status == "passed"


def test_a_trainer_that_logs_another_loss_is_found(verdict_on: VerdictOn) -> None:
    recipe = trainer_recipe()
    loop: Any = recipe.train.__self__  # type: ignore[union-attr]
    make = loop.make_trainer

    def make_trainer(job: Any) -> Any:
        trainer = make(job)
        step = trainer.training_step
        trainer.training_step = lambda *args, **kwargs: step(*args, **kwargs) / 2
        return trainer

    loop.make_trainer = make_trainer
    verdict = verdict_on(CHECK, recipe, "full")
    assert "0.5 times as much" in str(verdict)
