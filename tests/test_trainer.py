from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import tiny_model, tiny_recipe, tiny_rows
from transformers import Trainer, TrainingArguments

from pytest_ftcheck import Full, Job, LoRA, Recipe, Run
from pytest_ftcheck.errors import RecipeError, TrainingError
from pytest_ftcheck.execution import execute
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore
from pytest_ftcheck.training import collate


def a_trainer(job: Job, trainer: type[Trainer] = Trainer, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = dict(
        output_dir=str(job.output_dir),
        max_steps=job.steps,
        learning_rate=job.lr,
        seed=job.seed,
        per_device_train_batch_size=job.batch_size,
        gradient_accumulation_steps=job.accumulation,
        use_cpu=job.device == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    return trainer(
        model=job.model,
        args=TrainingArguments(**{**settings, **arguments}),
        train_dataset=job.train_data,
        eval_dataset=job.eval_data,
        data_collator=collate,
    )


def trainer_recipe(make_trainer: Any = a_trainer, **changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        model=tiny_model,
        train_data=tiny_rows(),
        eval_data=tiny_rows(8),
        full=Full(lr=1e-2),
        lora=LoRA(r=2, target_modules=["c_attn"], lr=1e-2),
        steps=6,
        batch_size=4,
        threads=1,
    )
    return Recipe.from_trainer(make_trainer, **{**parts, **changes})


def run_of(recipe: Recipe, method: str = "full") -> Run:
    return execute(recipe, method, 0, 6, "cpu")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_both_arms_of_a_trainer_see_the_same_batches(accumulation: int) -> None:
    recipe = trainer_recipe(accumulation=accumulation)
    full, lora = run_of(recipe), run_of(recipe, "lora")
    assert full.loss.batches == lora.loss.batches != ""
    assert not full.deviations
    assert not lora.deviations
    assert full.loss.supervised_tokens == (4 * 5 * accumulation,) * 6


def test_a_trainers_evaluation_loss_is_its_own_compute_loss() -> None:
    class Doubled(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().compute_loss(model, inputs, *args, **kwargs)

    # Without training, so that both see the same weights: a rate too small to matter.
    plain = run_of(trainer_recipe(full=Full(lr=1e-30)))
    doubled = run_of(trainer_recipe(lambda job: a_trainer(job, Doubled), full=Full(lr=1e-30)))
    assert doubled.loss.final == pytest.approx(2 * plain.loss.final, rel=1e-5)
    assert doubled.loss.train[0] == pytest.approx(2 * plain.loss.train[0], rel=1e-5)


def test_a_trainer_equals_the_plain_loop_on_evaluation() -> None:
    untrained = {"full": Full(lr=1e-30)}
    by_trainer, plainly = run_of(trainer_recipe(**untrained)), run_of(tiny_recipe(**untrained))
    assert by_trainer.loss.final == pytest.approx(plainly.loss.final, rel=1e-5)


def test_a_trainer_that_does_not_take_the_horizon_is_refused_with_what_to_do() -> None:
    with pytest.raises(TrainingError, match=r"made 3 updates; the recipe's horizon is 6\n.*max_steps=job.steps"):
        run_of(trainer_recipe(lambda job: a_trainer(job, max_steps=job.steps // 2)))


def test_a_trainer_that_adapts_the_model_itself_is_watched_all_the_same() -> None:
    from peft import LoraConfig, get_peft_model

    class Unwrapped(Trainer):
        """Like TRL's trainers: it is given the base model, and trains a model of its own making."""

        def __init__(self, model: Any, **kwargs: Any) -> None:
            config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
            super().__init__(model=get_peft_model(model, config), **kwargs)

    recipe = trainer_recipe(lambda job: a_trainer(job, Unwrapped), adapt=lambda model, method: model)
    run = run_of(recipe, "lora")
    assert run.parameters.trainable == 2 * (8 + 24)
    assert not run.deviations


def test_what_is_no_trainer_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"make_trainer\(job\) returned None; allowed: a transformers.Trainer"):
        run_of(trainer_recipe(lambda job: None))


def test_evaluation_data_without_labels_is_refused() -> None:
    with pytest.raises(RecipeError, match="eval_data gives no evaluation batch with a label"):
        run_of(trainer_recipe(eval_data=tiny_rows(8, labelled=False)))


def test_a_trainer_is_let_go_after_its_training() -> None:
    recipe = trainer_recipe()
    run_of(recipe)
    assert recipe.train is not None
    assert recipe.train.__self__._trainer is None  # type: ignore[attr-defined]


def test_the_generators_of_a_trainer_do_not_see_the_evaluations() -> None:
    often, once = trainer_recipe(eval_steps=(1, 2, 3, 4, 5, 6)), trainer_recipe(eval_steps=())
    assert run_of(often).loss.train == run_of(once).loss.train
    assert torch.isfinite(torch.tensor(run_of(often).loss.train)).all()


def test_a_trainer_writes_checkpoints_evaluates_and_goes_on_where_a_check_asks_for_it(tmp_path: Any) -> None:
    from pytest_ftcheck.evidence.training import Variation, carry_out

    recipe = trainer_recipe(accumulation=2)
    made = carry_out(recipe, "lora", "cpu", 0, Variation(steps=4, save_steps=2, eval_steps=3))
    assert made.states is not None
    assert sorted(made.states.kept()) == [2, 4]
    # Releases from 5.0 on evaluate once more at the end.
    assert 3 in {updates for updates, _, _ in made.trace.evaluations} <= {3, 4}
    rest = carry_out(recipe, "lora", "cpu", 0, Variation(steps=4, save_steps=2, resume_from=made.states.kept()[2]))
    assert len(rest.trace.updates) == 2
    assert all(torch.equal(value, made.final[name]) for name, value in rest.final.items())


class Power:
    """Fails in one update of a training."""

    fails_in: int | None = None
    steps = 0


class Stopping(Trainer):
    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        Power.steps += 1
        if Power.steps == Power.fails_in:
            raise KeyboardInterrupt
        return super().training_step(*args, **kwargs)


def stopping(job: Job) -> Trainer:
    return a_trainer(job, Stopping, logging_strategy="steps", logging_steps=1)


def test_a_run_of_a_trainer_that_is_interrupted_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = trainer_recipe(stopping, save_steps=2)
    request = Request(recipe, "lora", 0, 6, "cpu")
    whole = Runner(RunStore(tmp_path / "other")).run(request)
    monkeypatch.setattr(Power, "fails_in", 6)
    monkeypatch.setattr(Power, "steps", 0)
    with pytest.raises(KeyboardInterrupt):
        Runner(RunStore(tmp_path)).run(request)
    run = Runner(RunStore(tmp_path)).run(request)
    # Two that were left, and the two in which memory is measured.
    assert (run.resumed, Power.steps) == ((4,), 6 + 2 + 2)
    assert (run.loss, run.parameters, run.optimizers) == (whole.loss, whole.parameters, whole.optimizers)
