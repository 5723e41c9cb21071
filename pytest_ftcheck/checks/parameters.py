"""Checks of which parameters train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.names import active_adapters, adapter_in, base_parameters, first_few_of, in_base, is_adapters, is_idle
from ..methods import LoRA
from ..theory.differences import Difference, differences, grouped
from ..theory.parameters import base_name
from .check import Finding, check
from .sabotages.parameters import (
    ADAPTERS_MISSING,
    BASE_NOT_FROZEN,
    FLAGS_CHANGE,
    FLAGS_CHANGE_AT_THE_END,
    LORA_A_FROZEN,
    PARTLY_FROZEN,
    SECOND_ADAPTER_TRAINS,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..theory.parameters import ParameterForm

# (part of a difference's words, likely cause, remedy). The first that fits counts.
CAUSES = (
    (
        "the base is not frozen",
        "something set requires_grad on the base after the adapter was put on, or get_peft_model was never called",
        "put the adapter on last, and set requires_grad nowhere else",
    ),
    (
        "trained copy here (modules_to_save) that was not",
        "modules_to_save, or the task type, trains a module in full that the declaration leaves out",
        "declare modules_to_save, or take it out of the code",
    ),
    (
        "no trained copy here",
        "modules_to_save did not reach the head: it stays as it was initialised",
        "name the head in modules_to_save, or give the configuration its task_type",
    ),
    (
        "adapter here",
        "target_modules, exclude_modules or layers_to_transform reach other modules than they say, or PEFT matches "
        "names "
        "otherwise than it did",
        "compare the adapted modules (print the model) with the declared targets",
    ),
    (
        "rank ",
        "r or rank_pattern is not what was declared",
        "declare the rank that is meant, or use the declared one",
    ),
    (
        "is frozen",
        "requires_grad was set to False, or the adapter was loaded without is_trainable=True, or in inference_mode",
        "freeze nothing that is declared to train; load the adapter with is_trainable=True",
    ),
    (
        "not frozen",
        "a module that is declared frozen still requires gradients",
        "freeze it by every name that it has",
    ),
)
OTHERWISE = ("the code builds another model than the declaration describes", "make the two agree")


@check(
    "trainable-as-declared",
    "parameters",
    "exactly the parameters that the method declares train, module by module",
    controls=[ADAPTERS_MISSING, BASE_NOT_FROZEN, LORA_A_FROZEN, PARTLY_FROZEN],
    catches=[
        "https://github.com/huggingface/peft/pull/3318",
        "https://github.com/huggingface/peft/issues/2295",
        "https://github.com/huggingface/peft/issues/2115",
        "https://github.com/huggingface/peft/pull/2646",
    ],
)
def trainable_as_declared(evidence: Evidence) -> Iterator[Finding]:
    trace, declared = evidence.trace, evidence.standard.declared
    if declared is not None:
        yield from _against_the_form(evidence, declared)
    elif not evidence.is_full:
        yield from _base_that_trains(evidence)
        yield from _adapter_that_does_not(evidence)
        yield from _head_that_does_not(evidence)
    elif not any(trace.trainable.values()):
        raise NotApplicable("nothing is declared of a model that the training builds by itself")


def _against_the_form(evidence: Evidence, declared: ParameterForm) -> Iterator[Finding]:
    observed, resized = _observed(evidence, declared)
    groups: dict[tuple[str, str], list[Difference]] = {}
    for one in differences(declared, observed):
        if one.observed_trainable != one.expected_trainable and one.module not in resized:
            because = next(((cause, remedy) for part, cause, remedy in CAUSES if part in one.cause), OTHERWISE)
            groups.setdefault(because, []).append(one)
    initial, trainable = evidence.trace.initial, evidence.trace.trainable
    total = sum(tensor.numel() for name, tensor in initial.items() if trainable[name])
    for (cause, remedy), group in groups.items():
        first, *others = grouped(group)
        frozen = [name for name, on in trainable.items() if not on and is_adapters(name)]
        yield Finding(
            summary=first,
            cause=cause,
            remedy=remedy,
            evidence=(
                *others[:2],
                f"{total:,} parameters train; {declared.label} declares {declared.trainable:,}",
                *([f"frozen: {first_few_of(frozen)}"] if frozen else []),
            ),
        )


def _observed(evidence: Evidence, declared: ParameterForm) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Module -> (parameters, trainable ones) at the first update, and the modules whose base weight has another size
    than in the declaration: a resized vocabulary, or a new head, which the declaration cannot know.
    """
    trace, base = evidence.trace, base_parameters(evidence)
    modules: dict[str, tuple[int, int]] = {}
    own: dict[str, int] = {}
    known, active = set(getattr(trace.model, "peft_config", {})), active_adapters(trace.model)
    for name, tensor in trace.initial.items():
        if is_idle(name, known, active):
            continue  # of an adapter beside the declared one: only-the-active-adapter-trains looks at it
        home = in_base(name, base)
        module = base_name(name) if home is None else base_name(home)
        total, trainable = modules.get(module, (0, 0))
        modules[module] = total + tensor.numel(), trainable + tensor.numel() * trace.trainable[name]
        own[module] = own.get(module, 0) + (tensor.numel() if home is not None else 0)
    resized = {m.name for m in declared.modules if m.base and own.get(m.name) and own[m.name] != m.base}
    return modules, resized


def _base_that_trains(evidence: Evidence) -> Iterator[Finding]:
    """Parameters of the base that train beside a method of no known closed form."""
    base, trace, config = base_parameters(evidence), evidence.trace, _configuration(evidence)
    biases = getattr(config, "bias", "none") not in ("none", None)
    training = [name for name, on in trace.trainable.items() if on and in_base(name, base) is not None]
    found = [name for name in training if not (biases and name.endswith("bias"))]
    if found:
        count = sum(trace.initial[name].numel() for name in found)
        yield Finding(
            summary=f"{count:,} parameters of the base train beside the adapter, in {len(found)} tensors",
            cause="something set requires_grad on the base after the adapter was put on",
            remedy="put the adapter on last, and set requires_grad nowhere else",
            evidence=(first_few_of(found),),
        )


def _adapter_that_does_not(evidence: Evidence) -> Iterator[Finding]:
    """Adapter tensors that are frozen: none of the method trains, or a part of its LoRA factors."""
    trace = evidence.trace
    active = active_adapters(trace.model)
    factors = [n for n in trace.trainable if ".lora_" in n and (not active or adapter_in(n, active))]
    frozen = [name for name in factors if not trace.trainable[name]]
    if frozen:
        yield Finding(
            summary=f"{len(frozen)} of {len(factors)} tensors of the active adapter are frozen",
            cause="loaded without is_trainable=True, inference_mode=True, or requires_grad set to False",
            remedy="load it with is_trainable=True, and freeze no part of it",
            evidence=(first_few_of(frozen),),
        )


def _head_that_does_not(evidence: Evidence) -> Iterator[Finding]:
    """The head that the task type promises to train."""
    from ..theory.targets import HEADS

    config, trace = _configuration(evidence), evidence.trace
    task = getattr(config, "task_type", None)
    heads = HEADS.get(str(getattr(task, "value", task)), ())
    there = [n for n in trace.trainable if set(n.split(".")) & set(heads)]
    if there and not any(trace.trainable[name] for name in there):
        yield Finding(
            summary=f"0 of {len(there)} tensors of the task's head train ({first_few_of(there)})",
            cause="the method left the head out of modules_to_save: it stays as it was initialised, and is not saved",
            remedy="name the head in modules_to_save",
        )


def _configuration(evidence: Evidence) -> Any:
    method = evidence.method
    return method.to_peft() if isinstance(method, LoRA) else getattr(method, "config", None)


@check(
    "requires-grad-stays",
    "parameters",
    "the same parameters require gradients in every update, and when the training has ended",
    controls=[FLAGS_CHANGE, FLAGS_CHANGE_AT_THE_END],
)
def requires_grad_stays(evidence: Evidence) -> Iterator[Finding]:
    updates = evidence.trace.updates
    present = {name for name, _ in evidence.trace.model.named_parameters()}
    first = updates[0].trainable
    for number, update in enumerate(updates[1:], start=2):
        lost, gained = (first - update.trainable) & present, (update.trainable - first) & present
        if lost or gained:
            yield Finding(
                summary=f"{len(lost)} tensors stop and {len(gained)} begin to require gradients in update {number}",
                cause="a callback, an adapter being loaded or switched, or a merge sets requires_grad during training",
                remedy="decide what trains before the optimizer is built, and leave it",
                evidence=(first_few_of(sorted(lost | gained)),),
            )
            return
    last, left = updates[-1].trainable & present, evidence.standard.left_trainable
    if last != left:
        yield Finding(
            summary=f"{len(last - left)} tensors do not require gradients any more and {len(left - last)} begin to "
            "when train(job) has returned",
            cause="the training freezes or unfreezes the model that it was given as it ends: who goes on with it "
            "trains something else",
            remedy="set requires_grad back, or freeze a copy",
            evidence=(first_few_of(sorted(last ^ left)),),
        )


@check(
    "only-the-active-adapter-trains",
    "parameters",
    "of several adapters only the active one requires gradients",
    controls=[SECOND_ADAPTER_TRAINS],
    catches=["https://github.com/huggingface/peft/issues/899"],
    applies="adapter",
)
def only_the_active_adapter_trains(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    known, active = set(getattr(trace.model, "peft_config", {})), active_adapters(trace.model)
    if not known or not active:
        raise NotApplicable("the model is not PEFT's, which names its adapters")
    yield from _idle_adapters(trace.trainable, known, active)
    originals = [n for n, on in trace.trainable.items() if on and _has_trained_copy(n, trace.trainable)]
    if originals:
        yield Finding(
            summary=f"{len(originals)} weights train that a trained copy stands in for ({first_few_of(originals)})",
            cause="the original of modules_to_save was left to require gradients; it takes no part in the forward pass",
            remedy="freeze the original_module of each copy, or upgrade peft",
        )


def _idle_adapters(trainable: dict[str, bool], known: set[str], active: set[str]) -> Iterator[Finding]:
    idle = [name for name, on in trainable.items() if on and is_idle(name, known, active)]
    if idle:
        others = sorted({str(adapter_in(name, known)) for name in idle})
        yield Finding(
            summary=f"{len(idle)} tensors of adapters that are not active require gradients ({', '.join(others)})",
            cause="an adapter was added after the one that trains, or switched, without freezing the others",
            remedy="call set_adapter with the one that trains after all have been added, and look at its flags",
            evidence=(f"active: {', '.join(sorted(active))}", first_few_of(idle)),
        )


def _has_trained_copy(name: str, trainable: Iterable[str]) -> bool:
    """Whether ``name`` is the original of a module that ``modules_to_save`` copied."""
    if ".original_module." not in name:
        return False
    stem = name.partition(".original_module.")[0]
    return any(other.startswith(f"{stem}.modules_to_save.") for other in trainable)
