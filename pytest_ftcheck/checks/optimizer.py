"""Checks of the optimizer: what it holds, which one it is, and how it is set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.accumulation import Window, windows
from ..evidence.names import base_parameters, first_few_of, in_base
from ..evidence.windows import norm
from .check import Finding, check
from .sabotages.optimizer import (
    ADAM_EPSILON_LARGE,
    ANOTHER_OPTIMIZER,
    BETAS_SWAPPED,
    GROUP_FORGOTTEN,
    HELD_TWICE,
    HOLDS_FROZEN,
    HOLDS_STALE_COPIES,
    MAXIMIZES,
    PLAIN_SGD,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.update import Group

# Optimizers that divide by the root of a second moment plus eps, and take (beta1, beta2).
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")
# Adam's eps is 1e-8 where it was published, and at most 1e-6 in what is known to train language models.
LARGE_EPSILON = 1e-6
# A decay that halves the weights within 1/(rate · decay) updates; published fine-tuning uses 0 to 0.3.
LARGE_DECAY = 1.0
# The largest rate at which SGD without momentum is taken for a mistake, unless the horizon would move the weights by
# their own size. Measured on tiny models at Adam's rates, 12 to 60 updates: SGD 0.02 to 9 %, Adam 50 % and more.
SMALL_RATE, MOVES = 1e-2, 1.0


@check(
    "optimizer-holds-what-trains",
    "optimizer",
    "the optimizer holds exactly the trainable parameters, each once",
    controls=[GROUP_FORGOTTEN, HOLDS_FROZEN, HELD_TWICE, HOLDS_STALE_COPIES],
    catches=[
        "https://github.com/adapter-hub/adapters/issues/260",
        "https://github.com/karpathy/llama2.c/pull/187",
    ],
)
def optimizer_holds_what_trains(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    # At the last update all optimizers of the training are known.
    held = Counter(name for group in trace.updates[-1].groups for name in group.names)
    trains = [name for name, on in trace.trainable.items() if on]
    missing = [name for name in trains if name not in held]
    if missing:
        yield _missing(evidence, missing, len(trains), foreign=held[None])
    frozen = [name for name in held if name is not None and not trace.trainable.get(name, True)]
    if frozen and _frozen_by_the_method(evidence, frozen):
        count = sum(trace.initial[name].numel() for name in frozen)
        yield Finding(
            summary=f"{len(frozen)} frozen tensors ({count:,} parameters) are in the optimizer",
            cause="it was given model.parameters() and not only those that require a gradient: where one of the others "
            "ever gets one, it is moved, decayed, and kept a state for",
            remedy="give it [p for p in model.parameters() if p.requires_grad], after the adapter has been put on",
            evidence=(first_few_of(frozen),),
        )
    twice = [name for name, count in held.items() if name is not None and count > 1]
    if twice:
        yield Finding(
            summary=f"{len(twice)} of {len(trains)} tensors are in the optimizer twice, and move twice an update",
            cause="parameters are collected from overlapping modules (a model and its head), or for two optimizers",
            remedy="collect parameters from model.parameters(), which names each once",
            evidence=(first_few_of(twice),),
        )


def _missing(evidence: Evidence, missing: list[str], trains: int, foreign: int) -> Finding:
    lora_only = {part for part in ("lora_A", "lora_B") if all(part in name for name in missing)}
    if foreign >= len(missing):
        cause = f"it holds {foreign} tensors that are not the model's: it was built before a copy or a resize"
    elif len(missing) == trains:
        cause = "it was built before the adapter was put on"
    elif lora_only:
        cause = f"the parameter group of {lora_only.pop()} was forgotten"
    else:
        cause = "a parameter group was forgotten, or the parameters began to train after it was built"
    return Finding(
        summary=f"{len(missing)} of {trains} trainable tensors are in no optimizer",
        cause=cause,
        remedy="build the optimizer last, from the parameters of the model that trains that require a gradient",
        evidence=(first_few_of(missing),),
    )


def _frozen_by_the_method(evidence: Evidence, frozen: list[str]) -> bool:
    """Whether any was frozen by the method, and not by the base model's own code (fixed position tables, say)."""
    if not evidence.is_full:
        return True
    try:
        base = base_parameters(evidence)
    except NotApplicable:
        return False
    return any((home := in_base(name, base)) is not None and base[home].requires_grad for name in frozen)


@check(
    "optimizer-as-declared",
    "optimizer",
    "the updates are made by the optimizer that the recipe declares",
    controls=[ANOTHER_OPTIMIZER],
)
def optimizer_as_declared(evidence: Evidence) -> Iterator[Finding]:
    declared = evidence.recipe.optimizer
    if declared is None:
        raise NotApplicable("the recipe declares no optimizer")
    names = {group.optimizer for group in evidence.trace.updates[-1].groups}
    if declared.lower() not in {name.lower() for name in names}:
        yield Finding(
            summary=f"the updates are made by {', '.join(sorted(names))}; the recipe declares {declared}",
            cause="another class is built, or a configuration's name (optim=...) means another one than is thought",
            remedy=f"build {declared}, or declare what is meant (Recipe.optimizer)",
        )


@check(
    "optimizer-settings-are-usual",
    "optimizer",
    "betas in their order, an eps below the gradients, a decay below 1, and the loss is minimised",
    controls=[ADAM_EPSILON_LARGE, BETAS_SWAPPED, MAXIMIZES],
)
def optimizer_settings_are_usual(evidence: Evidence) -> Iterator[Finding]:
    groups = [group for group in evidence.trace.updates[-1].groups if group.names]
    if any(group.settings.get("maximize") for group in groups):
        yield Finding(
            summary="the optimizer is built with maximize=True: it makes the loss rise",
            cause="a setting for objectives that are to grow",
            remedy="leave maximize out",
        )
    largest = max((float(group.settings.get("weight_decay") or 0) for group in groups), default=0.0)
    if largest >= LARGE_DECAY:
        yield Finding(
            summary=f"a weight decay of {largest:g}",
            cause="a decay that was given as a rate or in percent, or an argument in the wrong place",
            remedy="0 to 0.1 is usual in fine-tuning",
        )
    yield from _betas(groups)
    yield from _epsilon(evidence, groups)


def _betas(groups: list[Group]) -> Iterator[Finding]:
    for group in groups:
        betas = group.settings.get("betas")
        if group.optimizer in ADAMS and isinstance(betas, (tuple, list)) and len(betas) == 2:
            first, second = (float(beta) for beta in betas)
            if first > second or first >= 0.99 or second < 0.8:
                yield Finding(
                    summary=f"{group.optimizer} runs with betas ({first:g}, {second:g})",
                    cause="the two are swapped, or one is another optimizer's",
                    remedy="(0.9, 0.999) or (0.9, 0.95): the second moment must remember longer than the first",
                )
                return


def _epsilon(evidence: Evidence, groups: list[Group]) -> Iterator[Finding]:
    """An eps above most of the gradients that Adam is given: it then divides by eps, and makes steps like SGD's."""
    import torch

    epsilon = max((float(group.settings.get("eps") or 0) for group in groups if group.optimizer in ADAMS), default=0.0)
    if not epsilon > LARGE_EPSILON:
        return
    sizes = [torch.cat([g.abs().flatten().float() for g in w.stepped.values()]) for w in windows(evidence) if w.stepped]
    medians = [float(size[size > 0].median()) for size in sizes if bool((size > 0).any())]
    if medians and max(medians) < epsilon:
        yield Finding(
            summary=f"Adam's eps is {epsilon:g}, and half of the gradients are below {max(medians):.2g}",
            cause="an eps of 1e-8 was meant: this one shrinks every update by the gradient's size over it",
            remedy="eps=1e-8, the default",
        )


@check(
    "rate-fits-the-optimizer",
    "optimizer",
    "plain SGD does not run at a learning rate that only Adam's normalised steps can use",
    controls=[PLAIN_SGD],
)
def rate_fits_the_optimizer(evidence: Evidence) -> Iterator[Finding]:
    groups = [group for group in evidence.trace.updates[-1].groups if group.names]
    if evidence.recipe.optimizer is not None and evidence.recipe.optimizer.lower() == "sgd":
        raise NotApplicable("the recipe declares SGD")
    if not groups or any(group.optimizer != "SGD" for group in groups):
        raise NotApplicable("the optimizer is not SGD, so its steps do not scale with the gradient alone")
    if any(float(group.settings.get("momentum") or 0) > 0 for group in groups):
        raise NotApplicable("SGD with momentum was chosen for itself")
    rate = max(float(group.settings.get("initial_lr", group.settings.get("lr", 0.0))) for group in groups)
    moved = max(_moved_at_the_horizon(window, rate, evidence.recipe.steps) for window in windows(evidence))
    if rate <= SMALL_RATE and moved < MOVES:
        yield Finding(
            summary=f"SGD at a rate of {rate:.2g} would move the weights by {moved:.2%} of their size in "
            f"{evidence.recipe.steps} updates",
            cause="SGD was put in Adam's place, or runs at Adam's rate: Adam moves every weight by about the rate, SGD "
            "by the rate times the gradient",
            remedy="AdamW at this rate, or SGD at one 100 times as large; if SGD is meant, declare Recipe.optimizer",
        )


def _moved_at_the_horizon(window: Window, rate: float, steps: int) -> float:
    """How far steps along this gradient would carry the parameters, relative to their own size."""
    own = {name: tensor for name, tensor in window.update.before.items() if name in window.names}
    return steps * rate * norm(window.stepped) / max(norm(own), 1e-12)
