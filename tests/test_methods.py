"""How a model is fine-tuned: what may be declared, what is refused and how, and what it is called."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from pytest_ftcheck import Full, LoRA, Peft
from pytest_ftcheck.errors import RecipeError


class Configuration:
    """Stands for a configuration of the peft library."""

    peft_type = "IA3"

    def __repr__(self) -> str:
        return "Configuration()"


POSITIVE = "a finite number greater than 0"
WHOLE = "a whole number greater than 0"
NAMES = "a list of module names"
SHARE = "a number from 0 up to, not including, 1"
NOTHING: list[Any] = ["", [], ()]


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        *(
            (kind, "lr", lr, POSITIVE)
            for kind in (Full, LoRA)
            for lr in (0, -1e-3, math.nan, math.inf, "1e-3", None, True)
        ),
        *((LoRA, "r", r, WHOLE) for r in (0, -8, 8.0, "8", None, True)),
        *((LoRA, "alpha", alpha, POSITIVE) for alpha in (0, -16, math.nan, math.inf, "16", None, True)),
        *((LoRA, "dropout", dropout, SHARE) for dropout in (-0.1, 1, 1.0, math.nan, "0.1", None)),
        *((LoRA, "bias", bias, "none, lora_only, all") for bias in ("", "None", None, True)),
        *((LoRA, "modules_to_save", saved, NAMES) for saved in ("lm_head", None, [1], {"lm_head"})),
        *((Full, "frozen", frozen, NAMES) for frozen in ("wte", None, [1], {"wte"})),
        *((LoRA, "target_modules", targets, NAMES) for targets in ([1], {"c_attn"}, 3)),
        *((LoRA, "target_modules", nothing, "at least one module name") for nothing in NOTHING),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_one_line(kind: Any, field: str, value: Any, allowed: str) -> None:
    with pytest.raises(RecipeError) as caught:
        kind(**{field: value})
    shown = () if value == [] else value
    assert str(caught.value) == f"{kind.__name__}.{field} is {shown!r}; allowed: {allowed}"


@pytest.mark.parametrize("rank", [0, -1, 2.0, "2", True])
def test_a_rank_pattern_is_refused_by_the_pattern(rank: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        LoRA(rank_pattern={"c_attn": 4, "c_proj": rank})
    assert str(caught.value) == f"LoRA.rank_pattern['c_proj'] is {rank!r}; allowed: {WHOLE}"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Full, {"lr": 5e-324}),
        (Full, {"lr": 1}),
        (Full, {"frozen": ["wte", "h.0"]}),
        (LoRA, {"r": 1}),
        (LoRA, {"alpha": 0.5}),
        (LoRA, {"dropout": 0}),
        (LoRA, {"dropout": 0.999}),
        (LoRA, {"bias": "all"}),
        (LoRA, {"bias": "lora_only"}),
        (LoRA, {"target_modules": "all-linear"}),
        (LoRA, {"target_modules": ["c_attn"]}),
        (LoRA, {"target_modules": None}),
        (LoRA, {"rank_pattern": {"c_attn": 1}}),
    ],
)
def test_a_value_within_the_limits_is_kept(kind: Any, settings: dict[str, Any]) -> None:
    method = kind(**settings)
    for name, value in settings.items():
        assert getattr(method, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("config", [None, "IA3", {"peft_type": "IA3"}])
def test_peft_wants_a_configuration_of_peft(config: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        Peft(config)
    assert str(caught.value) == f"Peft.config is {config!r}; allowed: a configuration of the peft library"


def test_peft_wants_a_learning_rate_too() -> None:
    with pytest.raises(RecipeError, match=rf"^Peft\.lr is 0; allowed: {POSITIVE}$"):
        Peft(Configuration(), lr=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "title", "label"),
    [
        (Full(), "full", "Full(lr=0.001)"),
        (Full(lr=3e-5, frozen=["wte"]), "full", "Full(lr=3e-05, frozen=['wte'])"),
        (LoRA(), "LoRA r=8", "LoRA(r=8, alpha=16, default targets, lr=0.01)"),
        (LoRA(r=4, target_modules="all-linear"), "LoRA r=4", "LoRA(r=4, alpha=16, all-linear, lr=0.01)"),
        (LoRA(target_modules=["q", "v"], alpha=0.5), "LoRA r=8", "LoRA(r=8, alpha=0.5, q+v, lr=0.01)"),
        (
            LoRA(target_modules=["q"], use_dora=True, use_rslora=True, modules_to_save=["lm_head"]),
            "LoRA r=8",
            "LoRA(r=8, alpha=16, q, lr=0.01, use_rslora, use_dora, modules_to_save=['lm_head'])",
        ),
        (Peft(Configuration()), "Configuration", "Peft(Configuration, lr=0.01)"),  # type: ignore[arg-type]
    ],
)
def test_a_method_says_in_short_and_in_full_what_it_declares(method: Any, title: str, label: str) -> None:
    assert method.title == title
    assert method.label == label


def test_a_list_that_is_changed_afterwards_does_not_change_the_declaration() -> None:
    targets, frozen = ["c_attn"], ["wte"]
    lora, full = LoRA(target_modules=targets, modules_to_save=frozen), Full(frozen=frozen)
    targets.append("c_fc")
    frozen.append("wpe")
    assert (lora.target_modules, lora.modules_to_save, full.frozen) == (("c_attn",), ("wte",), ("wte",))


def test_lora_means_this_configuration_of_peft() -> None:
    config: Any = LoRA(
        r=4,
        alpha=32,
        target_modules=["c_attn"],
        dropout=0.25,
        bias="lora_only",
        modules_to_save=["lm_head"],
        rank_pattern={"c_attn": 2},
        alpha_pattern={"c_attn": 8},
        use_rslora=True,
        use_dora=True,
        init="gaussian",
        task_type="CAUSAL_LM",
        options={"fan_in_fan_out": True},
    ).to_peft()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (4, 32, 0.25, "lora_only")
    assert config.target_modules == {"c_attn"}
    assert config.modules_to_save == ["lm_head"]
    assert (config.rank_pattern, config.alpha_pattern) == ({"c_attn": 2}, {"c_attn": 8})
    assert (config.use_rslora, config.use_dora, config.init_lora_weights) == (True, True, "gaussian")
    assert (config.task_type, config.fan_in_fan_out) == ("CAUSAL_LM", True)


def test_lora_leaves_to_peft_what_is_not_declared() -> None:
    config: Any = LoRA().to_peft()
    assert (config.target_modules, config.modules_to_save, config.task_type) == (None, None, None)
    assert (config.use_rslora, config.use_dora) == (False, False)
    assert config.init_lora_weights is True


@pytest.mark.parametrize("kind", [Full, LoRA, Peft])
def test_a_declaration_cannot_be_changed(kind: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        object.__new__(kind).lr = 1.0


def test_peft_trains_by_the_very_configuration_that_was_given() -> None:
    config: Any = Configuration()
    assert Peft(config).to_peft() is config
