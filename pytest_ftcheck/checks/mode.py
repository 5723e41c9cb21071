"""Checks of dropout and of the training flag: on in training, off in evaluation, and as it was declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.dropout import RATES
from ..evidence.evaluations import evaluated_training, evaluation_passes, is_unused
from ..evidence.evidence import adapters
from ..evidence.names import active_adapters, first_few_of, in_base, shared_base
from ..methods import LoRA
from .check import Finding, check
from .sabotages.mode import (
    DROPOUT_CHANGED,
    DROPOUT_STAYS_ON,
    EVALUATES_IN_TRAINING_MODE,
    EVALUATION_RECORDS,
    NEVER_IN_TRAINING_MODE,
    NOT_BACK_IN_TRAINING_MODE,
)

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence
    from ..observers.update import ForwardPass


def dropout_rates(model: nn.Module) -> dict[str, float]:
    """Module name -> its dropout above 0: that of a dropout layer, or what an attention reads off itself."""
    from torch import nn

    rates = {}
    for name, module in model.named_modules():
        own = [module.p] if isinstance(module, nn.modules.dropout._DropoutNd) else []
        own += [v for k, v in vars(module).items() if isinstance(v, float) and any(part in k for part in RATES)]
        if own and max(own) > 0:
            rates[name] = max(own)
    return rates


@check(
    "training-mode-in-training",
    "mode",
    "every dropout on the way to a trainable parameter is on in all forward passes of the training",
    controls=[NEVER_IN_TRAINING_MODE, NOT_BACK_IN_TRAINING_MODE],
    catches=["https://github.com/NVIDIA/Megatron-LM/pull/411"],
)
def training_mode_in_training(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    watched = _on_the_way(set(dropout_rates(trace.model)), trace.trainable) | _statistics(trace.model)
    if not watched:
        raise NotApplicable("the model has no dropout above 0 on the way, and no batch statistics")
    taught = [forward for forward in trace.forwards if not is_unused(forward)]
    for passes, when in ((taught, ""), (_taught(evidence), ", when it evaluates every second update")):
        if not passes:
            continue
        off = [frozenset(watched.intersection(forward.in_eval_mode)) for forward in passes]
        # Batch statistics alone are held still on purpose; with the whole model in evaluation mode they are not.
        off = [names if "" in forward.in_eval_mode else names - _statistics(trace.model)
               for names, forward in zip(off, passes, strict=True)]  # fmt: skip
        if any(off):
            yield _off_in_training(off, when)
            return


def _taught(evidence: Evidence) -> list[ForwardPass]:
    """The forward passes that gradients came back to in the training that evaluates in between."""
    asked = evaluated_training(evidence)
    return [f for f in asked.forwards if not is_unused(f)] if asked is not evidence.trace else []


def _off_in_training(off: list[frozenset[str]], when: str) -> Finding:
    passes = sum(map(bool, off))
    names = sorted(frozenset().union(*off))
    whole = passes == len(off) and len(set(off)) == 1
    first = next(i for i, one in enumerate(off) if one)
    return Finding(
        summary=f"{len(names)} modules with dropout were in evaluation mode in {passes} of {len(off)} training passes"
        f"{when}",
        cause="model.train() was not called: a loaded model is in evaluation mode"
        if whole
        else "an evaluation, or a generation, called model.eval(), and nothing called model.train() after it",
        remedy="call model.train() before training and after every evaluation",
        evidence=(f"from forward pass {first + 1} on: {first_few_of(names)}",),
    )


def _on_the_way(modules: set[str], trainable: Mapping[str, bool]) -> set[str]:
    """Those whose surroundings (the nearest module around them that has parameters) train; a frozen tower beside the
    language model may be in evaluation mode for good.
    """
    kept = set()
    for name in modules:
        around = name.rpartition(".")[0]
        while around and not any(parameter.startswith(f"{around}.") for parameter in trainable):
            around = around.rpartition(".")[0]
        if any(on and (not around or parameter.startswith(f"{around}.")) for parameter, on in trainable.items()):
            kept.add(name)
    return kept


def _statistics(model: nn.Module) -> set[str]:
    """Modules that keep statistics of their batches."""
    return {name for name, module in model.named_modules() if getattr(module, "running_mean", None) is not None}


@check(
    "evaluation-mode-in-evaluation",
    "mode",
    "dropout is off in every evaluation in the middle of the training",
    controls=[EVALUATES_IN_TRAINING_MODE],
)
def evaluation_mode_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    model = evaluated_training(evidence).model
    watched = set(dropout_rates(model)) | _statistics(model)
    if not watched:
        raise NotApplicable("the model has no dropout above 0, and no batch statistics")
    passes = evaluation_passes(evidence)
    on = [names for forward in passes if (names := watched.difference(forward.in_eval_mode))]
    if on:
        yield Finding(
            summary=f"dropout was on in {len(on)} of {len(passes)} evaluation passes, in {len(on[0])} of "
            f"{len(watched)} modules",
            cause="model.eval() is not called before evaluating: the evaluation loss is too high, and random",
            remedy="call model.eval() before, and model.train() after it",
            evidence=(first_few_of(sorted(on[0])),),
        )


@check(
    "evaluation-records-no-graph",
    "mode",
    "evaluations in the middle of the training record no gradients",
    controls=[EVALUATION_RECORDS],
    catches=["https://theneuralbase.com/pytorch/learn/intermediate/memory-leak-detection/"],
)
def evaluation_records_no_graph(evidence: Evidence) -> Iterator[Finding]:
    passes = evaluation_passes(evidence)
    recording = [forward for forward in passes if forward.recording]
    if recording:
        yield Finding(
            summary=f"{len(recording)} of {len(passes)} evaluation passes recorded gradients",
            cause="evaluation without torch.no_grad(): every activation is kept, and for ever where the loss is",
            remedy="evaluate under torch.no_grad(), or torch.inference_mode()",
        )


@check(
    "dropout-as-declared",
    "mode",
    "the adapter's dropout is the declared one, and that of the base model is not changed",
    controls=[DROPOUT_CHANGED],
    catches=["https://github.com/pytorch/torchtune/pull/995"],
)
def dropout_as_declared(evidence: Evidence) -> Iterator[Finding]:
    model, method = evidence.trace.model, evidence.method
    # Preference trainers set every dropout layer to 0 on purpose: they compare two passes, and want them alike.
    all_off = not any(_is_layer_on(module) for module in model.modules())
    rates, original = dropout_rates(model), dropout_rates(shared_base(evidence))
    if isinstance(method, LoRA) and adapters(model):
        yield from _adapter_dropout(model, method.dropout, rates, all_off)
    names = {name for name, _ in shared_base(evidence).named_modules()}
    homes = {home: name for name, _ in model.named_modules() if (home := in_base(name, names)) is not None}
    changed = [n for n in homes if rates.get(homes[n], 0.0) != original.get(n, 0.0) and not _is_adapters(homes[n])]
    if changed and not all_off:
        one = changed[0]
        yield Finding(
            summary=f"{len(changed)} of {len(set(original) | set(changed))} dropouts of the base model were changed "
            f"({one}: {original.get(one, 0.0):g} -> {rates.get(homes[one], 0.0):g})",
            cause="the code, or a release of the library, sets the configuration's dropout after the model was built",
            remedy="build the model with the dropout that is meant",
            evidence=(first_few_of(changed),),
        )


def _is_layer_on(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


def _is_adapters(name: str) -> bool:
    return any(part.startswith("lora_") for part in name.split("."))


def _adapter_dropout(model: Any, declared: float, rates: Mapping[str, float], all_off: bool) -> Iterator[Finding]:
    """What the adapter's configuration says, and what its layers do."""
    configurations = getattr(model, "peft_config", {})
    for name in active_adapters(model) & set(configurations):
        configured = getattr(configurations[name], "lora_dropout", declared)
        if configured != declared:
            yield Finding(
                summary=f"lora_dropout is {configured:g}; the recipe declares {declared:g}",
                cause="the code builds its adapter with another dropout than the declaration",
                remedy="declare the dropout that is meant, or use the declared one",
            )
            return
    layers = [
        rates.get(f"{name}.lora_dropout.{key}", 0.0)
        for name, module in adapters(model)
        for key in getattr(module, "lora_dropout", {})
        if key in active_adapters(model)
    ]
    wrong = [rate for rate in layers if rate != declared]
    if wrong and not all_off:
        yield Finding(
            summary=f"{len(wrong)} of {len(layers)} adapted layers have dropout {wrong[0]:g} instead of {declared:g}",
            cause="the layers' dropout was set after the adapter was made",
            remedy="set lora_dropout in the configuration, and nowhere else",
        )


@check(
    "evaluation-is-deterministic",
    "mode",
    "in evaluation mode the same rows give the same logits twice",
    controls=[DROPOUT_STAYS_ON],
    cost="model",
)
def evaluation_is_deterministic(evidence: Evidence) -> Iterator[Finding]:
    model = evidence.moved_model()
    one, other = evidence.logits(model), evidence.logits(model)
    apart, size = float((one - other).nan_to_num().abs().max()), float(one.nan_to_num().abs().max())
    # Threads may add up in another order: 1e-6 of the largest logit in float32.
    if not apart <= 1e-5 * size:
        yield Finding(
            summary=f"logits of the same rows differ by {apart:.3g} (largest: {size:.3g}) between two evaluations",
            cause="a dropout that ignores the training flag (F.dropout without training=self.training), or noise",
            remedy="pass training=self.training to functional dropout, and add noise in training only",
        )
