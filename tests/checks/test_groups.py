from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.update_loops import alarms, loop_recipe

from pytest_ftcheck import Job, LoRA, Recipe
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]

DECAY, RATES = "no-decay-on-norms-and-biases", "lora-rates-agree"


def groups(split: Callable[[Job, dict[str, Any]], list[dict[str, Any]]], **parts: Any) -> Recipe:
    """A recipe whose optimizer has the groups that ``split(job, {name: trainable parameter})`` returns."""

    def build(job: Job) -> torch.optim.Optimizer:
        trainable = {name: p for name, p in job.model.named_parameters() if p.requires_grad}
        return torch.optim.AdamW(split(job, trainable), lr=job.lr, weight_decay=0.0)

    return loop_recipe(loop={"optimizer": build}, **parts)


def by_name(part: str, inside: dict[str, Any], outside: dict[str, Any]) -> Callable[[Job, dict[str, Any]], Any]:
    def split(job: Job, trainable: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"params": [p for name, p in trainable.items() if part in name], **inside},
            {"params": [p for name, p in trainable.items() if part not in name], **outside},
        ]

    return split


def alike(decay: float, **parts: Any) -> Recipe:
    return groups(lambda job, named: [{"params": list(named.values()), "weight_decay": decay}], **parts)


def test_a_name_that_misses_norms_is_found(verdict_on: VerdictOn) -> None:
    recipe = groups(by_name("layernorm", {"weight_decay": 0.0}, {"weight_decay": 0.01}))
    verdict = verdict_on(DECAY, recipe, "full")
    assert verdict.findings[0].summary == "1 of 5 norms and biases are pulled towards 0 by a decay of 0.01"
    assert verdict.findings[0].evidence == ("model.norm.weight",)


def test_groups_that_spare_all_norms_raise_no_alarm(verdict_on: VerdictOn) -> None:
    recipe = groups(by_name("norm", {"weight_decay": 0.0}, {"weight_decay": 0.1}), weight_decay=0.1)
    assert verdict_on(DECAY, recipe, "full").status == "passed"


def test_a_small_decay_of_everything_is_a_finding_only_where_another_is_declared(verdict_on: VerdictOn) -> None:
    assert verdict_on(DECAY, alike(0.01), "full").status == "passed"
    assert verdict_on(DECAY, alike(0.01, weight_decay=0.01), "full").status == "failed"
    assert verdict_on(DECAY, alike(0.1), "full").status == "failed"


def test_adapters_without_vectors_have_nothing_to_spare(verdict_on: VerdictOn) -> None:
    assert verdict_on(DECAY, alike(0.1)).status == "not applicable"


def test_magnitudes_of_dora_may_decay(verdict_on: VerdictOn) -> None:
    method = LoRA(r=2, alpha=4, target_modules=["q_proj"], use_dora=True, lr=5e-3)
    assert verdict_on(DECAY, alike(0.1, lora=method)).status == "not applicable"


def test_lora_plus_with_every_b_raises_no_alarm() -> None:
    assert alarms(groups(by_name("lora_B", {"lr": 16 * 5e-3}, {}))) == []


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("lora_A", "A of every LoRA layer has a rate 16 times that of B"),
        ("q_proj.lora_B", "the rate of B is 16 times that of A in 2 LoRA layers, and 1 times in 6"),
    ],
)
def test_rates_of_lora_plus_in_the_wrong_place_are_found(verdict_on: VerdictOn, part: str, told: str) -> None:
    verdict = verdict_on(RATES, groups(by_name(part, {"lr": 16 * 5e-3}, {})))
    assert verdict.findings[0].summary == told


def test_rates_that_fall_with_depth_raise_no_alarm() -> None:
    def by_depth(job: Job, trainable: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"params": [p], "lr": job.lr * 0.8 ** int("layers.0." in name)} for name, p in trainable.items()]

    assert alarms(groups(by_depth)) == []


def test_an_embedding_in_its_own_group_raises_no_alarm(verdict_on: VerdictOn) -> None:
    method = LoRA(r=2, alpha=4, target_modules=["q_proj", "embed_tokens"], lr=5e-3)
    recipe = groups(by_name("lora_embedding", {"lr": 1e-6}, {}), lora=method)
    assert verdict_on(RATES, recipe).status == "passed"
