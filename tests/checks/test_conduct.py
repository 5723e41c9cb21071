"""Broken input, of each kind that there is: the verdict says which."""

from __future__ import annotations

import copy
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.conduct import training_completes
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe

VerdictOn = Callable[..., Verdict]


def optimizer_of(job: Job) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)


def loss_of(job: Job) -> torch.Tensor:
    return job.loss(job.model, job.collate([job.train_data[i] for i in range(4)]))


def raises(job: Job) -> None:
    loss_of(job).backward()  # type: ignore[no-untyped-call]
    raise KeyError("labels")


def never_steps(job: Job) -> None:
    for _ in range(job.steps):
        loss_of(job).backward()  # type: ignore[no-untyped-call]


def never_calls_the_model(job: Job) -> None:
    for _ in []:
        loss_of(job)


def never_learns(job: Job) -> None:
    for _ in range(job.steps):
        loss_of(job)


def without_gradients(job: Job) -> None:
    with torch.no_grad():
        never_learns(job)


def trains_a_copy(job: Job) -> Any:
    given, job.model = job.model, copy.deepcopy(job.model)
    try:
        loop.train(job)
        return job.model
    finally:
        job.model = given


def is_a_generator(job: Job) -> Any:
    loop.train(job)
    yield


def exits(job: Job) -> None:
    loop.train(job)
    sys.exit(0)


def ends_with_its_data(job: Job) -> None:
    optimizer = optimizer_of(job)
    for rows in itertools.islice(loop.epochs(job), 3):
        for batch in rows:
            job.loss(job.model, job.collate(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (raises, "train(job) raised KeyError: 'labels' after 0 of 8 updates"),
        (never_steps, "made 0 of 8 updates: 8 backward passes, and no step of an optimizer"),
        (never_calls_the_model, "made 0 of 8 updates: job.model was never called"),
        (never_learns, "made 0 of 8 updates: 8 calls of job.model, and no backward pass"),
        (without_gradients, "made 0 of 8 updates: 8 calls of job.model, all without recording gradients"),
        (trains_a_copy, "made 0 of 8 updates: 8 steps of an optimizer that holds no parameter of job.model"),
        (is_a_generator, "train(job) ran nothing: it returned a generator"),
        (exits, "train(job) called sys.exit(0) after 8 updates"),
        (ends_with_its_data, "3 updates instead of 8"),
    ],
)
def test_a_training_that_does_not_run_says_how_far_it_came(verdict_on: VerdictOn, train: Any, said: str) -> None:
    verdict = verdict_on("training-completes", instruction_recipe(train=train))
    assert verdict.status == "failed"
    assert said in verdict.findings[0].summary
    assert verdict.findings[0].cause


def no_model() -> Any:
    return None


def no_checkpoint() -> Any:
    raise FileNotFoundError("model.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": no_model}, "Recipe.model() returned NoneType; allowed: a torch.nn.Module"),
        ({"model": no_checkpoint}, "Recipe.model() raised FileNotFoundError: model.safetensors"),
        ({"adapt": lambda model, method: None}, "Recipe.adapt() returned NoneType; allowed: a torch.nn.Module"),
        ({"train_data": []}, "Recipe.train_data has 0 rows; allowed: at least one"),
    ],
)
def test_parts_of_a_recipe_that_do_not_fit_are_named(verdict_on: VerdictOn, changes: Any, said: str) -> None:
    verdict = verdict_on("training-completes", instruction_recipe().replace(**changes), "full")
    assert verdict.status == "failed"
    assert verdict.findings[0].summary == said


def test_a_training_that_hangs_is_ended_also_where_it_catches_everything() -> None:
    begun = []

    def hangs(job: Job) -> None:
        begun.append(job)
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # an outer loop that survives whatever a batch does
                continue

    evidence = Evidence(instruction_recipe(train=hangs), "lora", time_limit_s=1.0)
    (finding,) = training_completes(evidence)
    assert finding.summary == "lora: train(job) of 8 updates took longer than 1 s"
    assert "it hangs" in finding.cause
    assert len(begun) == 1, "what hangs on few rows is not tried again on all of them"


def test_all_other_checks_are_blocked_by_the_same_words(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("finite-throughout", instruction_recipe(train=never_steps))
    assert verdict.status == "blocked"
    assert "no step of an optimizer" in verdict.reason


# What an update is made of.


def test_two_steps_for_one_backward_pass_are_found(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        optimizer = optimizer_of(job)
        for _ in range(job.steps // 2):
            loss_of(job).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.step()
            optimizer.zero_grad()

    verdict = verdict_on("backward-before-every-update", instruction_recipe(train=train))
    assert "4 of 8 updates follow no backward pass (update 2, 4, 6, 8)" in str(verdict)


def test_gradients_made_without_backward_are_no_alarm(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        optimizer = optimizer_of(job)
        trainable = [p for p in job.model.parameters() if p.requires_grad]
        for _ in range(job.steps):
            for parameter, gradient in zip(trainable, torch.autograd.grad(loss_of(job), trainable), strict=True):
                parameter.grad = gradient
            optimizer.step()

    verdict = verdict_on("backward-before-every-update", instruction_recipe(train=train))
    assert verdict.status == "not applicable"


def test_a_loss_that_is_no_number_is_found_in_the_update_where_it_begins(verdict_on: VerdictOn) -> None:
    calls = itertools.count(1)

    def loss(model: Any, batch: Any) -> torch.Tensor:
        value = model(**batch).loss
        return value * float("nan") if next(calls) == 7 else value  # type: ignore[no-any-return]

    verdict = verdict_on("finite-throughout", instruction_recipe(loss=loss))
    assert "the loss is nan in update 4 of 8" in verdict.findings[0].summary


def test_gradients_that_are_not_finite_behind_a_finite_loss_are_found(verdict_on: VerdictOn) -> None:
    """The square root's derivative at 0 is infinite, and its value is not."""

    def loss(model: Any, batch: Any) -> torch.Tensor:
        first = next(p for p in model.parameters() if p.requires_grad)
        return model(**batch).loss + (first - first.detach()).sum().sqrt()  # type: ignore[no-any-return]

    verdict = verdict_on("finite-throughout", instruction_recipe(loss=loss))
    assert "1 gradients hold NaN or infinity" in verdict.findings[0].summary
    assert "in update 1 of 8" in verdict.findings[0].summary


# What is left behind.


def leaves_no_gradients(job: Job) -> None:
    loop.train(job)
    torch.set_grad_enabled(False)


def leaves_the_folder(job: Job) -> None:
    loop.train(job)
    os.chdir(job.output_dir)


def leaves_anomaly_detection(job: Job) -> None:
    torch.autograd.set_detect_anomaly(True)
    loop.train(job)


def leaves_autocast(job: Job) -> None:
    loop.train(job)
    torch.set_autocast_enabled("cpu", True)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (leaves_no_gradients, "gradient recording: True before train(job), False after it"),
        (leaves_the_folder, "working directory: "),
        (leaves_anomaly_detection, "anomaly detection: False before train(job), True after it"),
        (leaves_autocast, "autocast on the CPU: False before train(job), True after it"),
    ],
)
def test_a_setting_left_behind_is_named_and_set_back(verdict_on: VerdictOn, train: Any, said: str) -> None:
    folder = Path.cwd()
    verdict = verdict_on("global-state-untouched", instruction_recipe(train=train))
    assert said in verdict.findings[0].summary
    assert Path.cwd() == folder
    assert torch.is_grad_enabled()
    assert not torch.is_anomaly_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_seeds_and_deterministic_algorithms_are_a_training_s_own_choice(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.manual_seed(1234)
        loop.train(job)

    assert verdict_on("global-state-untouched", deterministic(train)).status == "passed"
    assert not torch.are_deterministic_algorithms_enabled()


def deterministic(train: Callable[[Job], None]) -> Recipe:
    return instruction_recipe(train=train)
