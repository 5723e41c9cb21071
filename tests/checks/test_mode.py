from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama

VerdictOn = Callable[..., Verdict]
QUIET = functools.partial(tiny_llama, attention_dropout=0.0)


def evaluating(job: Job, *, mode: bool = True, back: bool = True, recorded: bool = False, asked: bool = False) -> None:
    """A loop that evaluates after every third update (``asked``: only where the job asks for it), well or badly."""
    torch.manual_seed(job.seed)
    optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
    windows = loop.epochs(job)
    job.model.train()
    for update in range(1, job.steps + 1):
        for rows in next(windows):
            job.loss(job.model, job.collate(rows)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        every = (job.eval_steps or job.steps + 1) if asked else 3
        if update % every == 0:
            job.model.train(not mode)
            with torch.set_grad_enabled(recorded):
                job.loss(job.model, job.collate([job.eval_data[i] for i in range(4)]))
            job.model.train(back)


def loop_with(**changes: bool) -> Recipe:
    return instruction_recipe(train=functools.partial(evaluating, **changes))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_loop_that_evaluates_well_is_silent(verdict_on: VerdictOn, method: str, asked: bool) -> None:
    sound = loop_with(asked=asked)
    for id in ("training-mode-in-training", "evaluation-mode-in-evaluation", "evaluation-records-no-graph"):
        assert verdict_on(id, sound, method).status == "passed", id


@pytest.mark.parametrize("asked", [False, True])
def test_a_model_left_in_evaluation_mode_is_found(verdict_on: VerdictOn, asked: bool) -> None:
    verdict = verdict_on("training-mode-in-training", loop_with(back=False, asked=asked), "full")
    assert "2 modules with dropout were in evaluation mode" in str(verdict)
    assert "nothing called model.train() after it" in str(verdict)


@pytest.mark.parametrize("asked", [False, True])
def test_dropout_that_stays_on_in_evaluations_is_found(verdict_on: VerdictOn, asked: bool) -> None:
    verdict = verdict_on("evaluation-mode-in-evaluation", loop_with(mode=False, asked=asked), "full")
    assert "dropout was on in" in verdict.findings[0].summary


def test_without_dropout_the_mode_does_not_matter(verdict_on: VerdictOn) -> None:
    """An equivalent mutant: it changes nothing."""
    quiet = loop_with(back=False, mode=False).replace(model=QUIET)
    for id in ("training-mode-in-training", "evaluation-mode-in-evaluation"):
        assert verdict_on(id, quiet, "full").status == "not applicable"


@pytest.mark.parametrize("asked", [False, True])
def test_evaluations_that_record_are_found_and_are_no_training_passes(verdict_on: VerdictOn, asked: bool) -> None:
    recording = loop_with(recorded=True, asked=asked)
    verdict = verdict_on("evaluation-records-no-graph", recording, "full")
    assert "evaluation passes recorded gradients" in verdict.findings[0].summary
    assert verdict_on("training-mode-in-training", recording, "full").status == "passed"


def test_a_loaded_model_that_is_never_put_into_training_mode_is_found(verdict_on: VerdictOn) -> None:
    """``from_pretrained`` returns it in evaluation mode; the adapter's own dropout is on all the same."""

    def train(job: Job) -> None:
        job.model.train = lambda mode=True: job.model  # type: ignore[method-assign]
        loop.train(job)

    verdict = verdict_on("training-mode-in-training", instruction_recipe(lambda: tiny_llama().eval(), train=train))
    assert "2 modules with dropout were in evaluation mode in 14 of 14 training passes" in str(verdict)
    assert "a loaded model is in evaluation mode" in verdict.findings[0].cause


class WithTower(nn.Module):
    """A model on top of a frozen part that is in evaluation mode on purpose, as its batch statistics are."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Embedding(64, 8), nn.Linear(8, 8), nn.Dropout(0.2))
        self.norm, self.drop, self.head = nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 64)

    def train(self, mode: bool = True) -> WithTower:
        super().train(mode)
        self.tower.eval()
        self.norm.eval()
        return self

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.tower(input_ids).transpose(1, 2)).transpose(1, 2)
        return self.head(self.drop(hidden))  # type: ignore[no-any-return]


def token_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    logits, labels = model(batch["input_ids"]), batch["labels"]
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def test_a_frozen_tower_and_batch_statistics_held_still_are_silent(verdict_on: VerdictOn) -> None:
    with_tower = instruction_recipe(WithTower, loss=token_loss, full=Full(frozen=["tower"]), lora=None)
    assert verdict_on("training-mode-in-training", with_tower, "full").status == "passed"
    whole = with_tower.replace(full=Full())
    assert "1 modules with dropout" in str(verdict_on("training-mode-in-training", whole, "full"))


def test_a_reference_pass_without_gradients_is_no_evaluation(verdict_on: VerdictOn) -> None:
    def with_reference(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.no_grad():
            reference = model(**batch).logits
        output = model(**batch)
        return output.loss + 1e-3 * (output.logits - reference).square().mean()  # type: ignore[no-any-return]

    with_passes = instruction_recipe(loss=with_reference)
    assert verdict_on("evaluation-mode-in-evaluation", with_passes).status == "passed"


# Dropout as declared.


def test_another_lora_dropout_than_the_declared_one_is_found(verdict_on: VerdictOn) -> None:
    from peft import LoraConfig, get_peft_model

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        return get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj"], lora_dropout=0.5))

    declared = LoRA(r=4, alpha=16, target_modules=["q_proj"], dropout=0.05)
    verdict = verdict_on("dropout-as-declared", instruction_recipe(lora=declared, adapt=adapt))
    assert "lora_dropout is 0.5; the recipe declares 0.05" in str(verdict)


def test_dropout_that_a_trainer_turns_off_altogether_is_silent(verdict_on: VerdictOn) -> None:
    """Preference trainers do: they compare two passes of the model, and want them alike."""

    def train(job: Job) -> None:
        for module in job.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loop.train(job)

    assert verdict_on("dropout-as-declared", instruction_recipe(train=train)).status == "passed"


def test_a_base_dropout_changed_by_the_training_is_found(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        for module in job.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
        loop.train(job)

    verdict = verdict_on("dropout-as-declared", instruction_recipe(train=train))
    assert "2 of 2 dropouts of the base model were changed (model.layers.0.self_attn: 0.1 -> 0)" in str(verdict)


def test_a_model_that_needs_labels_is_evaluated_with_those_of_the_training(verdict_on: VerdictOn) -> None:
    class OwnLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(64, 8), nn.Linear(8, 64)

        def forward(
            self, input_ids: torch.Tensor, attention_mask: Any, labels: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            logits = self.head(self.embed(input_ids))
            return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}

    assert verdict_on("evaluation-is-deterministic", instruction_recipe(OwnLoss, lora=None), "full").status == "passed"
