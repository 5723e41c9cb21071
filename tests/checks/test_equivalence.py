from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import collate, instruction_recipe, rows, tiny_llama
from pytest_ftcheck.training import supervised_tokens

ACCUMULATION = "accumulation-equals-one-large-batch"
LAST_WINDOW = "last-window-counts-in-full"
NEIGHBOURS = "rows-do-not-see-each-other"

VerdictOn = Callable[..., Verdict]


def a_loop(
    job: Job,
    divide: Callable[[list[int], int, Job], float],
    *,
    clip: float | None = None,
    divide_afterwards: bool = False,
    step_at_the_end: bool = True,
) -> None:
    """A loop of the usual kind. ``divide(tokens of the window, index, job)`` is the factor on its mean loss;
    if ``divide_afterwards``, the accumulated gradients are divided, too. Without ``step_at_the_end`` a short window is
    left to the next epoch.
    """
    torch.manual_seed(job.seed)
    trainable = [p for p in job.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=job.lr)
    job.model.train()
    done, epoch = 0, 0
    while True:
        order = torch.randperm(len(job.train_data), generator=torch.Generator().manual_seed(job.seed + epoch)).tolist()
        epoch += 1
        size = job.batch_size
        batches = [job.collate([job.train_data[i] for i in order[s : s + size]]) for s in range(0, len(order), size)]
        for first in range(0, len(batches), job.accumulation):
            window = batches[first : first + job.accumulation]
            tokens = [supervised_tokens(batch, job.model) for batch in window]
            for index, batch in enumerate(window):
                (job.loss(job.model, batch) * divide(tokens, index, job)).backward()
            if len(window) < job.accumulation and not step_at_the_end:
                continue
            for parameter in trainable:
                if parameter.grad is not None and divide_afterwards:
                    parameter.grad.div_(job.accumulation)
            if clip is not None:
                nn.utils.clip_grad_norm_(trainable, clip)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done == job.steps:
                return


def by_tokens(tokens: list[int], index: int, job: Job) -> float:
    return tokens[index] / sum(tokens)


def by_accumulation(tokens: list[int], index: int, job: Job) -> float:
    return 1 / job.accumulation


def undivided(tokens: list[int], index: int, job: Job) -> float:
    return tokens[index] / sum(tokens) * job.accumulation


def divided_twice(tokens: list[int], index: int, job: Job) -> float:
    return tokens[index] / sum(tokens) / job.accumulation


def even_rows(count: int) -> list[dict[str, list[int]]]:
    """Rows with the same number of supervised tokens."""
    return [row for row in rows(40 * count, seed=3) if len(row["input_ids"]) == 8][:count]


def recipe_with(
    divide: Any = by_tokens, *, data: Any = None, loop: dict[str, Any] | None = None, **changes: Any
) -> Recipe:
    data = data or rows(26, seed=1)  # 7 micro-batches: the last window has one of two
    return instruction_recipe(
        train=functools.partial(a_loop, divide=divide, **(loop or {})), train_data=data, **changes
    )


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize(
    ("divide", "summary", "cause"),
    [
        (by_accumulation, "rows count", "a mean of micro-batch means"),
        (lambda *_: 1.0, "2 times too much in all, and some rows count", "not divided by their number"),
        (undivided, "2 times the gradient", "is not divided by the number of micro-batches"),
        (divided_twice, "0.5 times the gradient", "once too often"),
    ],
)
def test_a_wrong_division_is_found_and_named_clipped_or_not(
    verdict_on: VerdictOn, divide: Any, summary: str, cause: str, clip: float | None
) -> None:
    verdict = verdict_on(ACCUMULATION, recipe_with(divide, loop={"clip": clip}))
    assert verdict.status == "failed", verdict
    (finding,) = verdict.findings
    assert summary in finding.summary
    assert cause in finding.cause


def test_means_of_equally_many_tokens_are_no_finding(verdict_on: VerdictOn) -> None:
    assert verdict_on(ACCUMULATION, recipe_with(by_accumulation, data=even_rows(24))).status == "passed"


def test_gradients_that_are_divided_after_the_backward_passes_are_no_finding(verdict_on: VerdictOn) -> None:
    assert verdict_on(ACCUMULATION, recipe_with(undivided, loop={"divide_afterwards": True})).status == "passed"


def test_a_division_that_depends_on_the_rows_alone_is_no_finding(verdict_on: VerdictOn) -> None:
    """A loss that is a sum: too large for most, but the same in any batches."""
    summed = recipe_with(lambda tokens, index, job: float(tokens[index]))
    assert verdict_on(ACCUMULATION, summed).status == "passed"


def test_a_loop_that_does_not_accumulate_is_not_judged(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(ACCUMULATION, recipe_with(accumulation=1))
    assert verdict.status == "not applicable"
    assert "does not accumulate" in verdict.reason


def contrastive(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """A loss between the rows of a batch, which does not add up over batches."""
    states = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    return nn.functional.cross_entropy(states @ states.T, torch.arange(len(states)))


def test_a_loss_between_the_rows_of_a_batch_is_not_compared_with_one_batch(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(ACCUMULATION, recipe_with(by_accumulation, loss=contrastive))
    assert verdict.status == "not applicable", verdict
    assert "depends on the rows beside it" in verdict.reason


def test_a_loss_between_the_rows_of_a_batch_must_still_be_divided(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(ACCUMULATION, recipe_with(lambda *_: 1.0, loss=contrastive))
    assert verdict.status == "failed", verdict
    assert "1 times the gradient that it has alone is what the first of 2" in verdict.findings[0].summary


@pytest.mark.parametrize(
    ("divide", "loop", "cause"),
    [
        (lambda t, i, job: t[i] / sum(t) * len(t) / job.accumulation, {}, "divided by the accumulation (2)"),
        (by_tokens, {"step_at_the_end": False}, "added to the next epoch's first window"),
    ],
)
def test_a_short_last_window_that_counts_otherwise_is_found(
    verdict_on: VerdictOn, divide: Any, loop: dict[str, Any], cause: str
) -> None:
    verdict = verdict_on(LAST_WINDOW, recipe_with(divide, loop=loop))
    assert verdict.status == "failed", verdict
    assert cause in verdict.findings[0].cause


def test_a_short_last_window_of_full_weight_is_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(LAST_WINDOW, recipe_with()).status == "passed"


def test_an_epoch_of_full_windows_has_nothing_to_judge(verdict_on: VerdictOn) -> None:
    assert verdict_on(LAST_WINDOW, recipe_with(data=rows(32, seed=1))).status == "not applicable"


def left_padded(mask: bool) -> Callable[[list[Any]], dict[str, Tensor]]:
    def collated(batch: list[Any]) -> dict[str, Tensor]:
        right = collate(batch)
        sizes = right["attention_mask"].sum(dim=1)
        moved = {
            key: torch.stack([row.roll(len(row) - int(n)) for row, n in zip(value, sizes, strict=True)])
            for key, value in right.items()
        }
        return moved if mask else {key: value for key, value in moved.items() if key != "attention_mask"}

    return collated


def test_padding_that_is_attended_to_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(NEIGHBOURS, recipe_with(collate=left_padded(mask=False)))
    assert verdict.status == "failed", verdict
    assert "no attention mask" in verdict.findings[0].cause


def test_left_padding_with_a_mask_is_sound_for_relative_positions(verdict_on: VerdictOn) -> None:
    assert verdict_on(NEIGHBOURS, recipe_with(collate=left_padded(mask=True))).status == "passed"


def test_a_missing_mask_over_right_padding_changes_nothing_and_is_no_finding(verdict_on: VerdictOn) -> None:
    def unmasked(batch: list[Any]) -> dict[str, Tensor]:
        return {key: value for key, value in collate(batch).items() if key != "attention_mask"}

    assert verdict_on(NEIGHBOURS, recipe_with(collate=unmasked)).status == "passed"


def test_a_batch_norm_is_no_finding(verdict_on: VerdictOn) -> None:
    def with_batch_norm() -> nn.Module:
        model = tiny_llama()
        model.add_module("norm", nn.BatchNorm1d(1))
        return model

    assert verdict_on(NEIGHBOURS, recipe_with(model=with_batch_norm), "full").status == "not applicable"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_is_silent_on_a_sound_loop_with_a_short_window(dtype: str) -> None:
    verdicts = check_training(recipe_with(dtype=dtype), select=[ACCUMULATION, LAST_WINDOW, NEIGHBOURS])
    assert [str(v) for v in verdicts if v.status != "passed"] == []
