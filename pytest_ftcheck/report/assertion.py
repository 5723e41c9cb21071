"""Why a plain ``assert`` on one of our numbers failed."""

from __future__ import annotations

from collections.abc import Callable

from ..explained import Count, Ratio, Winner
from ..order import LossOrder
from ..pair import Pair
from ..run import Memory, Parameters
from ..theory.differences import differences, grouped
from ..theory.growth import rank_for, summed
from ..theory.parameters import ParameterForm
from .curve import sparklines
from .units import duration, size


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Lines for pytest's ``pytest_assertrepr_compare``; the first holds the numbers. None for what is not ours."""
    ours, other = (left, right) if isinstance(left, (Count, Ratio, Winner)) else (right, left)
    if isinstance(ours, Count) and isinstance(ours.subject, Parameters):
        return [_headline(op, left, right, ours.what), *_parameters(ours, ours.subject, other)]
    if isinstance(ours, Ratio) and isinstance(ours.subject, Pair):
        return [_headline(op, left, right, ours.what), *_evidence(ours.what)(ours.subject), *_divided(ours.subject)]
    if isinstance(ours, Winner) and isinstance(ours.subject, LossOrder):
        return [f"{left!r} {op} {right!r}: {ours.subject.reason}", *_curves(ours.subject)]
    return None


def _evidence(what: str) -> Callable[[Pair], list[str]]:
    """What stands behind the ratio called ``what``."""
    if "time" in what:
        return _times
    return _operations if "operations" in what else _memory


def _headline(op: str, left: object, right: object, what: str) -> str:
    """The comparison, to four digits, or to so many more that two different numbers do not look the same."""
    for digits in (4, 8, 17):
        first, second = _number(left, digits), _number(right, digits)
        if first != second or left == right:
            break
    return f"{first} {op} {second} ({what})"


def _number(value: object, digits: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{int(value):,}"
    return f"{float(value):.{digits}g}" if isinstance(value, float) else str(value)


def _parameters(count: Count, parameters: Parameters, expected: object) -> list[str]:
    declared = parameters.declared
    if declared is None:
        return ["no closed form is known for this method"]
    found = [str(line) for line in grouped(differences(declared, parameters.by_module))]
    lines = [f"{declared.label} declares {declared.trainable:,} trainable of {declared.total:,}"]
    if found:
        return lines + found
    lines.append("the model is as declared in every module, so the expected number is not")
    return lines + (_rank(declared, expected) if count == parameters.trainable else [])


def _rank(declared: ParameterForm, expected: object) -> list[str]:
    """The rank that would give the expected trainable parameters on the same modules, if there is one."""
    adapted = [module for module in declared.modules if module.growth]
    ranks = {module.rank for module in adapted}
    if len(ranks) != 1 or not isinstance(expected, int) or any(len(module.growth) > 1 for module in adapted):
        return []
    rank, growth = ranks.pop(), summed(module.growth[0] for module in adapted)
    # Trained biases, copies and DoRA's vectors are there at any rank.
    found = rank_for([growth], growth.at(rank) + expected - declared.trainable)
    if found is None or found[1]:
        return []
    return [f"{expected:,} would be r={found[0]} on the same modules (declared: r={rank})"]


def _times(pair: Pair) -> list[str]:
    arms = (("full", pair.fulls), ("LoRA", pair.loras))
    return [f"{arm}: a step takes {', '.join(duration(run.time.step_s) for run in runs)}" for arm, runs in arms]


def _operations(pair: Pair) -> list[str]:
    arms = (("full", pair.full.flops), ("LoRA", pair.lora.flops))
    return [
        f"{arm}: {flops.total:,} a step; forward {flops.forward:,}, backward {flops.backward:,}"
        + (f", optimizer {flops.optimizer:,}" if flops.optimizer else "")
        for arm, flops in arms
    ]


def _memory(pair: Pair) -> list[str]:
    return [_breakdown("full", pair.full.memory), _breakdown("LoRA", pair.lora.memory)]


def _divided(pair: Pair) -> list[str]:
    return [f"not of the same batches: {pair.divided}"] if pair.divided else []


def _breakdown(arm: str, memory: Memory) -> str:
    return (
        f"{arm}: peak {size(memory.peak_bytes)} in {memory.peak_phase}; weights {size(memory.weights_bytes)}, "
        f"gradients {size(memory.gradients_bytes)}, optimizer {size(memory.optimizer_bytes)}, "
        f"activations {size(memory.activations_bytes)}"
    )


def _curves(order: LossOrder) -> list[str]:
    full, lora = sparklines([[gap.full for gap in order.gaps], [gap.lora for gap in order.gaps]])
    first, last = order.gaps[0], order.gaps[-1]
    return [
        f"full {full} {first.full:.4g} -> {last.full:.4g}  {order.declarations[0]}",
        f"LoRA {lora} {first.lora:.4g} -> {last.lora:.4g}  {order.declarations[1]}",
        f"steps {', '.join(str(gap.step) for gap in order.gaps)}; seeds {', '.join(map(str, order.seeds))}",
    ]
