"""Checks that a training that goes on from a checkpoint is the one that was interrupted, told apart by state: what was
lost is named, and not only that losses differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.resumption import (
    Resumption,
    different_tensors,
    first_other_rows,
    resumptions,
    rows_of_update,
)
from .check import Finding, check
from .sabotages.resume import (
    DATA_POSITION_LOST,
    GENERATOR_LOST,
    GROUP_SETTINGS_LOST,
    MODE_LOST,
    OPTIMIZER_STATE_LOST,
    PARAMETERS_LOST,
    SCHEDULE_LOST,
)

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence
    from ..observers.update import Update

# The loss of an update, relative: the same to the bit on one thread, and to a few roundings on several.
SAME_LOSS = 1e-6


@check(
    "resume-restores-parameters",
    "resume",
    "a resumed training begins with the parameters that the checkpoint was made from",
    controls=[PARAMETERS_LOST],
    catches=["https://github.com/huggingface/peft/issues/2115"],
    cost="training",
)
def resume_restores_parameters(evidence: Evidence) -> Iterator[Finding]:
    for one in resumptions(evidence):
        was, found = one.parameters
        differing = different_tensors(was, found)
        if not differing:
            continue
        initial = one.uninterrupted.trace.updates[0].before
        new = [
            name
            for name in differing
            if name in found and not different_tensors({0: initial.get(name)}, {0: found[name]})
        ]
        yield Finding(
            summary=f"{len(differing)} of {len(was)} tensors differ when the training goes on after update {one.at}, "
            f"{len(new)} of them are as at the start, e.g. {min(new or differing)}",
            cause="they are not in the checkpoint, or under other names, or loading it leaves them out without an "
            "error (strict=False, modules_to_save, a resized embedding)",
            remedy="save and load every trained tensor; check missing and unexpected keys after loading",
        )
        return


@check(
    "resume-restores-optimizer",
    "resume",
    "a resumed training begins with the optimizer's moments and step counts",
    controls=[OPTIMIZER_STATE_LOST],
    cost="training",
)
def resume_restores_optimizer(evidence: Evidence) -> Iterator[Finding]:
    for one in resumptions(evidence):
        was, found = (state.optimizer for state in one.states)
        differing = different_tensors(was, found)
        if not differing:
            continue
        entries = sorted({entry for _, entry in differing})
        yield Finding(
            summary=f"{len(differing)} of {len(was)} entries of the optimizer's state ({', '.join(entries[:3])}) "
            "differ when "
            f"the training goes on after update {one.at}" + ("" if found else ": it is empty"),
            cause="the optimizer's state is not in the checkpoint, is loaded into another optimizer than the one "
            "that steps, or goes to other parameters (their order changed)",
            remedy="load optimizer.state_dict() into the optimizer that trains, after the model was wrapped and moved",
        )
        return


@check(
    "resume-restores-schedule",
    "resume",
    "a resumed training goes on at the learning rates, and the other settings of the optimizer, that it had",
    controls=[SCHEDULE_LOST, GROUP_SETTINGS_LOST],
    cost="training",
)
def resume_restores_schedule(evidence: Evidence) -> Iterator[Finding]:
    for one in resumptions(evidence):
        other_rate = one.first_other_rate
        settings = sorted({key for _, key in different_tensors(*map(_settings, (one.expected[0], one.made[0])))})
        if other_rate is not None:
            yield _other_rate(one, other_rate)
            return
        if settings:
            yield Finding(
                summary=f"other optimizer settings ({', '.join(settings)}) when the training goes on after update "
                f"{one.at}",
                cause="the optimizer is made anew with other settings than it had, or they are changed while it trains",
                remedy="load optimizer.state_dict(), which holds the settings of its groups",
            )
            return


@check(
    "resume-goes-on-in-the-data",
    "resume",
    "a resumed training sees the rows that the uninterrupted one would have, and makes the updates that are left",
    controls=[DATA_POSITION_LOST],
    catches=["https://github.com/huggingface/accelerate/pull/4071"],
    cost="training",
)
def resume_goes_on_in_the_data(evidence: Evidence) -> Iterator[Finding]:
    for one in resumptions(evidence):
        left, made = len(one.expected), len(one.made)
        if left != made:
            yield Finding(
                summary=f"{made} updates instead of {left} when the training goes on after update {one.at}",
                cause="the number of updates made is not restored"
                if made > left
                else "updates are skipped, or counted twice",
                remedy="save the number of updates made, and train the rest",
            )
            return
        other = first_other_rows(one.expected, one.made)
        if other is not None:
            yield _other_rows(one, other)
            return


@check(
    "resume-restores-generators",
    "resume",
    "a resumed training draws the dropout that the uninterrupted one would have drawn",
    controls=[GENERATOR_LOST],
    catches=["https://github.com/huggingface/transformers/pull/11582"],
    cost="training",
)
def resume_restores_generators(evidence: Evidence) -> Iterator[Finding]:
    import torch

    if not _draws(evidence.trace.model):
        raise NotApplicable("the model draws nothing at random in training")
    for one in resumptions(evidence):
        was, found = (state.generator for state in one.states)
        if was is None or found is None or torch.equal(was, found):
            continue
        yield Finding(
            summary=f"another state of torch's generator when the training goes on after update {one.at}: other "
            "dropout masks",
            cause="the states of the random number generators are not in the checkpoint, or something draws between "
            "loading them and the first update",
            remedy="save and load torch.get_rng_state() (and those of random, numpy and the accelerator), loading it "
            "last",
        )
        return


@check(
    "resume-equals-uninterrupted",
    "resume",
    "a resumed training whose known states were all restored ends with the parameters of the uninterrupted one",
    controls=[MODE_LOST],
    cost="training",
)
def resume_equals_uninterrupted(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.device.startswith("cpu"):
        raise NotApplicable("kernels of an accelerator need not repeat themselves to the bit")
    for one in resumptions(evidence):
        # What else is lost, other checks of this theme name.
        finals = [training.trace.updates[-1].after for training in (one.uninterrupted, one.resumed)]
        differing = different_tensors(*finals) if one.all_restored else []
        if not differing:
            continue
        losses = [(a.loss, b.loss) for a, b in zip(one.expected, one.made, strict=False)]
        index = next((i for i, (a, b) in enumerate(losses) if not abs(a - b) <= SAME_LOSS * abs(a)), len(losses) - 1)
        yield Finding(
            summary=f"{len(differing)} of {len(finals[0])} tensors end elsewhere when the training goes on after "
            f"update {one.at}; the loss of update {one.at + index + 1} is {losses[index][1]:.6g} instead of "
            f"{losses[index][0]:.6g}",
            cause="parameters, optimizer, rates, rows and generators are restored, but not a state of another kind: "
            "training mode, gradient scaler, an average of weights, a curriculum",
            remedy="save and load every state that changes from update to update",
        )
        return


def _other_rows(one: Resumption, index: int) -> Finding:
    seen = rows_of_update(one.made[index])
    before = [i for i, update in enumerate(one.uninterrupted.trace.updates) if rows_of_update(update) == seen]
    where = f"those of update {before[0] + 1}" if before else "other rows, or in another order"
    return Finding(
        summary=f"{where} instead of its own in update {one.at + index + 1}, when the training goes on after update "
        f"{one.at}",
        cause="the data begin anew: the position in the epoch is not restored"
        if before and before[0] == index
        else "the order of the epoch, or the number of epochs seen, is not restored: the sampler's seed or its epoch "
        "is lost",
        remedy="restore the sampler's epoch and seed before skipping the batches that were seen; count "
        "micro-batches, not updates",
    )


def _other_rate(one: Resumption, index: int) -> Finding:
    was, found = (", ".join(f"{rate:.4g}" for rate in u[index].lr[:3]) for u in (one.expected, one.made))
    return Finding(
        summary=f"learning rate {found} instead of {was} in update {one.at + index + 1}, when the training goes on "
        f"after update {one.at}",
        cause="the schedule's state is not in the checkpoint, so it begins anew (or counts other steps)",
        remedy="save and load scheduler.state_dict(), and make it from the same number of steps",
    )


def _settings(update: Update) -> dict[tuple[int, str], float]:
    """The numbers among the settings of the optimizer's groups, without the rate, which the schedule sets."""
    return {
        (index, key): float(value)
        for index, group in enumerate(update.groups)
        for key, value in group.settings.items()
        if isinstance(value, (int, float)) and key not in ("lr", "initial_lr")
    }


def _draws(model: nn.Module) -> bool:
    """Whether any dropout of ``model`` is on."""
    from ..evidence.dropout import rates

    return any(rate > 0 for rate in rates(model))
