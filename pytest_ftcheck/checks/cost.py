"""Checks of what an update costs: against what the repository has committed, and against the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import FtcheckError, NotApplicable, PredictionError
from ..report.units import size
from .check import Finding, check
from .sabotages.cost import ACTIVATIONS_KEPT, COST_GROWN, COST_UNDECLARED, LOGITS_KEPT

if TYPE_CHECKING:
    from ..acceptance import Acceptance
    from ..evidence.evidence import Evidence
    from ..evidence.peaks import Peaks
    from ..predict import Prediction
    from ..predict.declared import Declared, DeclaredCosts

ACCEPT = 'pytest --ftcheck-audit --ftcheck-checks=cost-as-declared --ftcheck-update --ftcheck-reason="..."'
DEFAULT_GPU = "h100"
MOST_DIFFERENCES = 12
# The rows of the training that is held to its prediction.
ONE_ROW = "the first row, many times"

# On a CPU both sides count the same tensors. Over 67 sound trainings (GPT-2, Llama, Qwen, Gemma, T5, BERT; full, LoRA,
# DoRA, IA3; plain loops, Trainer, TRL, accelerate; checkpointing, bfloat16, dropout, accumulation) they differed by at
# most 8 bytes, or 0.012 %.
LIMIT_CPU = 0.01
# On a GPU kernels take memory of their own; not measured yet. A small model's peak is little beside a workspace.
LIMIT_GPU = 0.03


@check(
    "cost-as-declared",
    "memory",
    "the predicted memory and FLOPs of an update are those that the repository has committed (Recipe.cost)",
    controls=[COST_UNDECLARED, COST_GROWN],
    catches=["https://github.com/huggingface/peft/pull/1706"],
    cost="training",
)
def cost_as_declared(evidence: Evidence) -> Iterator[Finding]:
    if evidence.recipe.cost is None:
        raise NotApplicable("the recipe declares no cost (Recipe.cost)")
    from ..predict.declared import DeclaredCosts

    costs = DeclaredCosts(evidence.root / evidence.recipe.cost)
    declared = costs.read(evidence.recipe.name, evidence.method_name)
    try:
        predicted = _predicted(evidence, declared.cost.gpu if declared else DEFAULT_GPU)
        leave = evidence.acceptance
        if leave is not None and not (leave.new_only and declared is not None):
            _accept(evidence, costs, declared, predicted, leave)
        elif declared is None:
            yield _undeclared(evidence, costs, predicted)
        else:
            yield from _changed(declared, predicted)
    except PredictionError as error:
        yield _unpredictable(costs, error)


def _predicted(evidence: Evidence, gpu: str) -> Prediction:
    from ..predict import predict_recipe
    from ..predict.forecast import Forecast

    predicted = evidence.once(
        ("predicted", gpu), lambda: predict_recipe(evidence.recipe, evidence.method_name, gpu=gpu)
    )
    evidence.tell(Forecast.of(predicted))
    return predicted


def _undeclared(evidence: Evidence, costs: DeclaredCosts, predicted: Prediction) -> Finding:
    return Finding(
        summary=f"0 costs of {evidence.recipe.name} ({evidence.method_name}) are declared in {costs.path}",
        evidence=(_in_short(predicted),),
        cause="nobody has accepted a cost yet, or the recipe, the method or the file has another name now",
        remedy=f"look at it, accept it with {ACCEPT}, and commit the file",
    )


def _changed(declared: Declared, predicted: Prediction) -> Iterator[Finding]:
    from ..predict.causes import causes
    from ..predict.cost import Cost
    from ..predict.difference import facts

    now = Cost.of(predicted)
    lines = facts(declared.cost, now)
    if not lines:
        return
    more = len(lines) - MOST_DIFFERENCES
    shown = [*lines[1:MOST_DIFFERENCES], *([f"and {more} smaller differences"] if more > 0 else [])]
    likely = causes(declared.cost, now)
    yield Finding(
        summary=lines[0],
        evidence=(*shown, f"declared because: {declared.reason}"),
        cause="; ".join(likely) or "the model, the adapter or the training loop has changed",
        remedy=f"undo it, or accept it with {ACCEPT}",
    )


def _unpredictable(costs: DeclaredCosts, error: PredictionError) -> Finding:
    first, *others = str(error).splitlines()
    return Finding(
        summary=f"0 of the declared costs can be held to: {first}",
        evidence=tuple(line.strip() for line in others),
        cause="the training does something that cannot be predicted, and did not when its cost was declared",
        remedy=f"change that, or remove the entry from {costs.path} and Recipe.cost",
    )


def _accept(
    evidence: Evidence, costs: DeclaredCosts, before: Declared | None, predicted: Prediction, leave: Acceptance
) -> None:
    """Declare what is predicted, if it is predicted a second time."""
    from ..predict import predict_recipe
    from ..predict.cost import Cost
    from ..predict.declared import Declared
    from ..predict.difference import facts

    def again() -> Cost:
        return Cost.of(predict_recipe(evidence.recipe, evidence.method_name, gpu=predicted.gpu))

    now = Cost.of(predicted)
    leave.confirmed("the prediction", now, again, facts)
    if before is not None and before.cost.equals(now):
        return
    costs.write(evidence.recipe.name, evidence.method_name, Declared(leave.reason, now))
    what = facts(before.cost, now)[0] if before else _in_short(predicted)
    leave.tell(f"{evidence.recipe.name} ({evidence.method_name}) in {costs.path}: {what}")


def _in_short(predicted: Prediction) -> str:
    memory, flops = predicted.memory, predicted.flops
    return f"{size(memory.peak_bytes)} at the peak, in {memory.peak_phase}; {flops.total:,} FLOPs an update"


@check(
    "memory-as-predicted",
    "memory",
    "no update takes more memory than is predicted from the code, without contents and without a history",
    controls=[LOGITS_KEPT, ACTIVATIONS_KEPT],
    catches=["https://discuss.pytorch.org/t/how-to-debug-causes-of-gpu-memory-leaks/6741/22"],
    cost="training",
)
def memory_as_predicted(evidence: Evidence) -> Iterator[Finding]:
    from ..predict.forecast import Forecast

    predicted = _prediction_here(evidence)
    measured = _measured(evidence)
    evidence.tell(Forecast.of(predicted, ONE_ROW, measured.memory))
    # The second update is what was predicted; those like it are to cost no more.
    compared = measured.like(1)
    expected, allowed = _expected(predicted)
    update, peak = max(compared.items(), key=lambda item: item[1])
    if peak - expected <= allowed:
        return
    yield Finding(
        summary=f"{size(peak)} at the peak of update {update + 1}, predicted {size(expected)} "
        f"({peak / expected - 1:+.1%}, allowed {allowed / expected:.1%})",
        evidence=(
            f"peaks of updates {', '.join(str(u + 1) for u in compared)}: {', '.join(map(size, compared.values()))}",
            *_by_category(measured, predicted),
        ),
        cause=_cause(list(compared.values())),
        remedy="keep numbers, not tensors (loss.item()), and let each batch's outputs go before the next; a branch on "
        "values must not change what is kept",
    )


def _prediction_here(evidence: Evidence) -> Prediction:
    """The prediction for the device that the training is measured on."""
    assert evidence.standard  # where no training runs at all, the standard one says so
    from ..evidence.peaks import alike_recipe
    from ..predict import predict_recipe
    from ..predict.present import present_gpu

    recipe, method = alike_recipe(evidence.recipe), evidence.method_name
    try:
        if not evidence.device.startswith("cuda"):
            return predict_recipe(recipe, method, device="cpu")
        gpu = present_gpu(evidence.device)
        if gpu is None:
            raise NotApplicable("there is no profile of a GPU like this one")
        return predict_recipe(recipe, method, gpu=gpu)
    except FtcheckError as error:
        raise NotApplicable(f"the training cannot be predicted: {str(error).splitlines()[0]}") from None


def _measured(evidence: Evidence) -> Peaks:
    from ..evidence.peaks import peaks

    try:
        measured = peaks(evidence)
    except FtcheckError as error:
        reason = str(error).splitlines()[0]
        raise NotApplicable(f"the training does not run with its memory watched: {reason}") from None
    if len(measured.peak_bytes) < 2:
        raise NotApplicable("fewer than 2 updates were made")
    return measured


def _expected(predicted: Prediction) -> tuple[int, float]:
    """Bytes that are expected at the peak, and by how many they may be exceeded."""
    if predicted.backend == "cpu":
        return predicted.peak_bytes, LIMIT_CPU * predicted.peak_bytes
    return predicted.allocated_bytes, LIMIT_GPU * predicted.allocated_bytes + predicted.gpu.workspace_bytes


def _by_category(measured: Peaks, predicted: Prediction) -> Iterator[str]:
    """How the measured and the predicted peak divide, where they differ; neither has the allocator's rounding."""
    for category in ("weights", "gradients", "optimizer", "activations", "temporaries"):
        seen, expected = (getattr(memory.at_peak, category) for memory in (measured.memory, predicted.memory))
        if abs(seen - expected) > LIMIT_CPU * predicted.peak_bytes:
            yield f"{category} at the highest peak: {size(seen)}, predicted {size(expected)}"


def _cause(peaks: list[int]) -> str:
    if len(peaks) > 2 and peaks[-1] > peaks[0] and peaks == sorted(peaks):
        return (
            "memory grows from update to update: outputs, losses, batches or activations are collected in a list or by "
            "a hook, or a graph is retained"
        )
    return (
        "with real values the training does something else than without: a branch on a value, a fallback, another "
        "kernel of attention because of the mask, or evaluation and logging within the update"
    )
