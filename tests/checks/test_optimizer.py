from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.update_loops import adamw, alarms, loop_recipe

from pytest_ftcheck import Job
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]


def over(choose: Callable[[Job], Any]) -> dict[str, Any]:
    """A loop whose AdamW holds what ``choose(job)`` returns."""
    return {"optimizer": lambda job: torch.optim.AdamW(choose(job), lr=job.lr)}


def without_b(job: Job) -> list[Any]:
    return [p for name, p in job.model.named_parameters() if p.requires_grad and "lora_B" not in name]


def of_a_copy(job: Job) -> list[Any]:
    """What somebody held before the model was copied: one tensor is the model's, the others are not."""
    trainable = [p for p in job.model.parameters() if p.requires_grad]
    return [*trainable[:1], *(copy.deepcopy(p) for p in trainable[1:])]


def test_a_forgotten_group_is_named(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("optimizer-holds-what-trains", loop_recipe(loop=over(without_b)))
    assert verdict.findings[0].summary == "8 of 16 trainable tensors are in no optimizer"
    assert "the parameter group of lora_B was forgotten" in verdict.findings[0].cause


def test_an_optimizer_over_a_copy_of_the_model_is_named(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("optimizer-holds-what-trains", loop_recipe(loop=over(of_a_copy)))
    assert "15 tensors that are not the model's" in verdict.findings[0].cause


def test_an_optimizer_built_before_the_adapter_is_named(verdict_on: VerdictOn) -> None:
    base = over(lambda job: [p for name, p in job.model.named_parameters() if "lora_" not in name])
    verdict = verdict_on("optimizer-holds-what-trains", loop_recipe(loop=base))
    assert [finding.cause.partition(":")[0] for finding in verdict.findings] == [
        "it was built before the adapter was put on",
        "it was given model.parameters() and not only those that require a gradient",
    ]


def test_what_the_base_model_itself_freezes_may_be_in_the_optimizer(verdict_on: VerdictOn) -> None:
    def model() -> Any:
        from pytest_ftcheck.tasks.instruction import tiny_llama

        built = tiny_llama()
        built.register_parameter("table", torch.nn.Parameter(torch.ones(3), requires_grad=False))
        return built

    recipe = loop_recipe(loop=over(lambda job: job.model.parameters()), model=model)
    assert verdict_on("optimizer-holds-what-trains", recipe, "full").status == "passed"


def test_parameters_outside_of_the_model_may_train_with_it(verdict_on: VerdictOn) -> None:
    def with_a_loss(job: Job) -> list[Any]:
        return [*(p for p in job.model.parameters() if p.requires_grad), torch.nn.Parameter(torch.ones(2))]

    assert verdict_on("optimizer-holds-what-trains", loop_recipe(loop=over(with_a_loss))).status == "passed"


def test_another_optimizer_than_the_declared_one_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("optimizer-as-declared", loop_recipe(optimizer="Adam"))
    assert verdict.findings[0].summary == "the updates are made by AdamW; the recipe declares Adam"
    assert verdict_on("optimizer-as-declared", loop_recipe(optimizer="adamw")).status == "passed"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"betas": (0.999, 0.9)}, "AdamW runs with betas (0.999, 0.9)"),
        ({"eps": 0.3}, "Adam's eps is 0.3"),
        ({"weight_decay": 10.0}, "a weight decay of 10"),
        ({"maximize": True}, "maximize=True"),
    ],
)
def test_settings_of_a_slip_are_found(verdict_on: VerdictOn, settings: dict[str, Any], told: str) -> None:
    recipe = loop_recipe(loop={"optimizer": functools.partial(adamw, **settings)})
    assert told in verdict_on("optimizer-settings-are-usual", recipe).findings[0].summary


@pytest.mark.parametrize("settings", [{"betas": (0.9, 0.95)}, {"eps": 1e-6}, {"amsgrad": True}, {"foreach": True}])
def test_usual_settings_are_left_alone(settings: dict[str, Any]) -> None:
    assert alarms(loop_recipe(loop={"optimizer": functools.partial(adamw, **settings)})) == []


def sgd(job: Job, **settings: Any) -> torch.optim.Optimizer:
    rate = settings.pop("lr", job.lr)
    return torch.optim.SGD([p for p in job.model.parameters() if p.requires_grad], lr=rate, **settings)


def test_sgd_at_the_rate_of_adam_is_found_unless_it_is_declared(verdict_on: VerdictOn) -> None:
    check, plain = "rate-fits-the-optimizer", {"optimizer": sgd}
    assert "SGD at a rate of 0.005" in verdict_on(check, loop_recipe(loop=plain)).findings[0].summary
    assert verdict_on(check, loop_recipe(loop=plain, optimizer="SGD")).status == "not applicable"
    with_momentum = {"optimizer": functools.partial(sgd, momentum=0.9)}
    assert verdict_on(check, loop_recipe(loop=with_momentum)).status == "not applicable"


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adagrad", "Adafactor", "RMSprop"])
def test_other_optimizers_of_torch_raise_no_alarm(name: str) -> None:
    def build(job: Job) -> torch.optim.Optimizer:
        return getattr(torch.optim, name)([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)

    assert alarms(loop_recipe(loop={"optimizer": build})) == []
