"""Checks of what a step does to the parameters: by the optimizer's rule, with its memory, and alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.accumulation import windows
from ..evidence.names import first_few_of
from ..evidence.windows import dot, norm
from .check import Finding, check
from .sabotages.updates import (
    OPTIMIZER_REBUILT,
    STATE_FORGOTTEN,
    STEP_CHANGES_NOTHING,
    STEP_DOUBLED,
    WEIGHTS_RESET,
)

if TYPE_CHECKING:
    import torch

    from ..evidence.evidence import Evidence
    from ..observers.update import Group, Tensors, Update

# The rule is computed by the same class with the same settings, so that only mistakes differ: measured 0.
NEAR = 1e-3
# Optimizers of torch whose step takes more than gradients.
OTHERS = ("LBFGS", "SparseAdam")


@dataclass(frozen=True)
class Step:
    """What update ``number`` did to the parameters, what the optimizer's rule says that it should have done, and what
    an optimizer without a memory would have done.
    """

    number: int
    done: Tensors
    ruled: Tensors
    fresh: Tensors

    @property
    def follows(self) -> bool:
        return norm(_minus(self.done, self.ruled)) <= NEAR * norm(self.ruled)

    @property
    def forgets(self) -> bool:
        """Whether it is the step of an optimizer without a memory, and not that of one with."""
        return not self.follows and norm(_minus(self.done, self.fresh)) <= NEAR * norm(self.fresh)


@check(
    "step-follows-its-rule",
    "optimizer",
    "each step changes the parameters by the optimizer's own rule, from the gradients and settings that it had",
    controls=[STEP_DOUBLED, STEP_CHANGES_NOTHING],
)
def step_follows_its_rule(evidence: Evidence) -> Iterator[Finding]:
    for step in _steps(evidence):
        if not step.follows and not step.forgets:
            share = dot(step.done, step.ruled) / (dot(step.ruled, step.ruled) or 1.0)
            cause = (
                "something else writes to the parameters in the step, or they are not those that the optimizer moves"
            )
            if abs(share) < NEAR:
                cause = "the step does not reach the model's weights: they are restored, or copied from elsewhere"
            elif share < 0:
                cause = "the step is taken up the gradient"
            yield Finding(
                summary=f"update {step.number} moves the parameters {share:.3g} times as far as the optimizer's rule",
                cause=cause,
                remedy="change parameters by optimizer.step() alone",
                evidence=(f"norm of the change {norm(step.done):.4g}; by the rule {norm(step.ruled):.4g}",),
            )
            return


@check(
    "optimizer-remembers",
    "optimizer",
    "the optimizer's moments last from each update to the next",
    controls=[OPTIMIZER_REBUILT, STATE_FORGOTTEN],
)
def optimizer_remembers(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    if trace.rebuilt:
        yield Finding(
            summary=f"{len(trace.rebuilt)} of {len(trace.updates)} updates begin with an optimizer made anew",
            cause="the optimizer is built inside the loop over epochs or steps, so that its moments are lost each time",
            remedy="build the optimizer once, before the loop",
            evidence=(f"before updates {', '.join(str(index + 1) for index in trace.rebuilt[:8])}",),
        )
        return
    counted = _counted_steps(trace.optimizers[0])
    if counted is not None and 0 < counted < len(trace.updates) - 0.5:
        yield Finding(
            summary=f"the optimizer's state counts {counted:.0f} steps after {len(trace.updates)} updates",
            cause="its state is cleared, replaced or loaded over in the middle of the training",
            remedy="leave optimizer.state alone, and load a state before the first update only",
        )
        return
    forgetful = [step.number for step in _steps(evidence) if step.forgets]
    if forgetful:
        yield Finding(
            summary=f"{len(forgetful)} updates (first: {forgetful[0]}) are those of an optimizer without a memory",
            cause="the optimizer's state is lost between updates",
            remedy="keep one optimizer, and its state, for the whole training",
        )


def _counted_steps(optimizer: torch.optim.Optimizer) -> float | None:
    counts = [float(state["step"]) for state in optimizer.state.values() if isinstance(state, dict) and "step" in state]
    return max(counts, default=None)


def _steps(evidence: Evidence) -> list[Step]:
    """The updates whose parameters were kept. NotApplicable where the rule is not known."""
    return evidence.once(_steps, lambda: _follow(evidence))


def _follow(evidence: Evidence) -> list[Step]:
    trace = evidence.trace
    if trace.rebuilt:
        raise NotApplicable("the optimizer is built anew during the training")
    seen = [window for window in windows(evidence) if window.update.after]
    kind = type(trace.optimizers[0])
    if not kind.__module__.startswith("torch.optim.") or kind.__name__ in OTHERS:
        raise NotApplicable(f"the rule of {kind.__name__} is not known; torch's own optimizers' are")
    if any(window.scale != 1 for window in seen) or [w.number for w in seen] != list(range(1, len(seen) + 1)):
        raise NotApplicable("a gradient scaler decides which updates are made")
    counted = _counted_steps(trace.optimizers[0])
    if counted is not None and counted > len(trace.updates):
        raise NotApplicable("the optimizer began with a state that was loaded")
    memory, found = None, []
    for window in seen:
        groups = window.update.groups[: len(trace.updates[0].groups)]
        ruled, memory = _rule(kind, window.update, groups, memory)
        fresh, _ = _rule(kind, window.update, groups, None)
        done = {name: window.update.after[name].double() - window.update.before[name].double() for name in ruled}
        found.append(Step(window.number, done, ruled, fresh))
    return found


def _rule(kind: Any, update: Update, groups: list[Group], memory: Any) -> tuple[Tensors, Any]:
    """By how much an optimizer of class ``kind`` in the state ``memory`` moves each parameter, and its state then."""
    names = [[n for n in dict.fromkeys(group.names) if n in update.before] for group in groups]
    parameters = {name: _leaf(update, name) for one in names for name in one}
    optimizer = kind([{"params": [parameters[n] for n in one]} for one in names if one], lr=1e-3)
    for own, group in zip(
        optimizer.param_groups, [g for g, one in zip(groups, names, strict=True) if one], strict=True
    ):
        own.update(group.settings)
    if memory is not None:
        order = [name for one in names for name in one]
        optimizer.state.update({parameters[n]: memory[n] for n in order if n in memory})
    optimizer.step()
    state = {name: dict(optimizer.state[p]) for name, p in parameters.items() if p in optimizer.state}
    moved = {name: p.detach().double() - update.before[name].double() for name, p in parameters.items()}
    return moved, state


def _leaf(update: Update, name: str) -> Any:
    parameter = update.before[name].clone().requires_grad_(True)
    gradient = update.gradients.get(name)
    parameter.grad = gradient.clone() if gradient is not None else None
    return parameter


def _minus(one: Tensors, other: Tensors) -> Tensors:
    return {name: one[name] - other[name] for name in one}


@check(
    "weights-move-in-updates-alone",
    "optimizer",
    "between two updates no trainable parameter changes",
    controls=[WEIGHTS_RESET],
)
def weights_move_in_updates_alone(evidence: Evidence) -> Iterator[Finding]:
    import itertools

    trace = evidence.trace
    if len(trace.optimizers) > 1 or trace.rebuilt:
        raise NotApplicable("several optimizers make the updates, each a part of it")
    configurations = getattr(trace.model, "peft_config", {})
    if any("ADALORA" in str(getattr(c, "peft_type", "")) for c in getattr(configurations, "values", lambda: ())()):
        raise NotApplicable("AdaLoRA prunes its ranks between updates")
    deep = [update for update in trace.updates if update.deep and update.after]
    for number, (earlier, later) in enumerate(itertools.pairwise(deep), start=1):
        common = [n for n in earlier.after.keys() & later.before.keys() if trace.trainable.get(n)]
        changed = sorted(n for n in common if not earlier.after[n].equal(later.before[n]))
        # A NaN is equal to nothing, and another check's affair.
        changed = [name for name in changed if bool(earlier.after[name].isfinite().all())]
        if changed:
            yield Finding(
                summary=f"{len(changed)} of {len(common)} tensors change between updates {number} and {number + 1}",
                cause="something other than the optimizer writes to the weights: a checkpoint or average put back, "
                "a merge, a reset, or a tie that is made again",
                remedy="load, merge and average in a copy of the model",
                evidence=(first_few_of(changed),),
            )
            return
