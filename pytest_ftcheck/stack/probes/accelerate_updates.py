"""Probes of when accelerate updates, and with which gradients and rates."""

from __future__ import annotations

from collections.abc import Iterator

from ..accelerators import fresh, linear_model, loader_of
from ..breaks import schedule_by_micro_batches
from ..probe import Control, probe

ISSUES = "https://github.com/huggingface/accelerate/issues/"
PULLS = "https://github.com/huggingface/accelerate/pull/"


@probe(
    "prepared-schedule-steps-with-updates",
    "schedule",
    "a prepared scheduler steps once an update, not once a micro-batch",
    library="accelerate",
    cause="the scheduler does not look at whether gradients were synchronised: the rate decays too fast",
    cases=lambda: ("1", "4"),
    control=Control("4", schedule_by_micro_batches),
    links=[f"{ISSUES}963", f"{PULLS}999"],
)
def schedule_steps(case: str, seed: int) -> Iterator[str]:
    import torch

    steps = int(case)
    with fresh(gradient_accumulation_steps=steps) as accelerator:
        model, optimizer = linear_model()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 16)
        model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader_of(8), schedule)
        for x in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(x.float()[:, None]).sum())
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        rate = schedule.get_last_lr()[0]
    wanted = 1 - (8 // steps) / 16
    if not abs(rate - wanted) <= 1e-9:
        yield f"after {8 // steps} updates of {steps} micro-batches the rate is {rate:g} instead of {wanted:g}"


def _synchronised(nested: str) -> list[int]:
    with fresh(gradient_accumulation_steps=4) as accelerator:
        model, optimizer = linear_model()
        model, optimizer, loader, other = accelerator.prepare(model, optimizer, loader_of(10), loader_of(2))
        seen = []
        for _ in range(2):
            for index, x in enumerate(loader):
                with accelerator.accumulate(model):
                    accelerator.backward(model(x.float()[:, None]).sum())
                    optimizer.step()
                    optimizer.zero_grad()
                    seen.append(int(accelerator.sync_gradients))
                if (nested == "whole" and index in (0, 8)) or (nested == "broken-off" and index == 5):
                    for _ in other:
                        if nested == "broken-off":
                            break
        return seen


@probe(
    "updates-come-where-windows-end",
    "schedule",
    "updates come after every window and at the end of an epoch, also with a nested loader",
    library="accelerate",
    cause="an evaluation inside an epoch overwrites which loader is at its end: updates on wrong micro-batches",
    cases=lambda: ("none", "whole", "broken-off"),
    links=[f"{PULLS}1483"],
)
def updates_where_windows_end(nested: str, seed: int) -> Iterator[str]:
    found, wanted = _synchronised(nested), [0, 0, 0, 1, 0, 0, 0, 1, 0, 1] * 2
    if found != wanted:
        yield f"of 2 epochs of 10 micro-batches, these end in an update: {found} instead of {wanted}"


@probe(
    "accumulated-gradient-is-the-mean",
    "equivalence",
    "accumulated gradients are the mean over the micro-batches, and cleared after",
    library="accelerate",
    cause="the loss is not divided by the accumulation steps, or gradients are kept or cleared too early",
    cases=lambda: ("1", "2", "4"),
)
def accumulated_mean(case: str, seed: int) -> Iterator[str]:
    steps = int(case)
    with fresh(gradient_accumulation_steps=steps) as accelerator:
        model, optimizer = linear_model()
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader_of(8))
        found, weights = [], [p.detach().clone() for p in model.parameters()]
        for x in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(x.float()[:, None]).sum())
                if accelerator.sync_gradients:
                    found.append(float(next(model.parameters()).grad))
                optimizer.step()
                optimizer.zero_grad()
        moved = float(next(model.parameters()).detach() - weights[0])
    wanted = [sum(range(i, i + steps)) / steps for i in range(0, 8, steps)]
    if any(abs(a - b) > 1e-5 for a, b in zip(found, wanted, strict=False)) or len(found) != len(wanted):
        yield f"gradients at the updates are {found} instead of {wanted}"
    elif not abs(moved + sum(wanted)) <= 1e-4:
        yield f"the weight moved by {moved:g} instead of {-sum(wanted):g} in {len(wanted)} updates at rate 1"


@probe(
    "clipping-returns-the-whole-norm",
    "optimizer",
    "clip_grad_norm_ returns the norm before clipping and scales all gradients alike",
    library="accelerate",
    cause="clipping works on a part of the parameters, or on scaled gradients",
)
def clipping(case: str, seed: int) -> Iterator[str]:
    import torch

    with fresh() as accelerator:
        model, optimizer = linear_model()
        model, optimizer = accelerator.prepare(model, optimizer)
        accelerator.backward(model(torch.full((1, 1), 3.0)).sum())
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        clipped = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    if not abs(float(norm) - 10**0.5) <= 1e-4 or not abs(float(clipped) - 1) <= 1e-4:
        yield f"the norm √10 is returned as {float(norm):.4f} and clipped to {float(clipped):.4f} instead of 1"
