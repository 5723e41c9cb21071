"""Order, repeats and contents of the rows that a training sees: what is found, and what is sound and stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler, get_worker_info

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.sabotages.data import SHRINKING_ROWS, TOKENS_HIDDEN
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.chance import (
    at_least,
    at_least_of,
    chance_of_so_few_distinct,
    chance_of_so_few_repeats,
    distinct_in,
)
from pytest_ftcheck.tasks.instruction import END, collate, eval_rows, instruction_recipe, train_rows

Batches = Callable[[Job], Iterator[list[Any]]]
Judge = Callable[..., Verdict]


def trained_on(batches: Batches, **changes: Any) -> Recipe:
    """The instruction recipe with a loop that takes its batches, lists of rows, from ``batches(job)``."""

    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        job.model.train()
        rows = batches(job)
        for _ in range(job.steps):
            for _ in range(job.accumulation):
                (job.loss(job.model, job.collate(next(rows))) / job.accumulation).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return instruction_recipe(**{"train": train, **changes})


def permuted(job: Job, seeds: Iterator[int], count: int | None = None) -> Iterator[list[Any]]:
    """Epochs in an order from one of ``seeds`` each, in whole batches."""
    size, rows = job.batch_size, job.train_data
    for seed in seeds:
        order = torch.randperm(count or len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        yield from ([rows[i] for i in order[at : at + size]] for at in range(0, len(order) - size + 1, size))


def every(value: int) -> Iterator[int]:
    while True:
        yield value


def counting() -> Iterator[int]:
    value = -1
    while True:
        value += 1
        yield value


def loader(job: Job, **settings: Any) -> Iterator[list[Any]]:
    while True:
        yield from DataLoader(job.train_data, batch_size=job.batch_size, collate_fn=list, **settings)


def in_order(job: Job) -> Iterator[list[Any]]:
    return loader(job, shuffle=False)


def with_replacement(job: Job) -> Iterator[list[Any]]:
    generator = torch.Generator().manual_seed(job.seed)
    while True:
        drawn = torch.randint(len(job.train_data), (job.batch_size,), generator=generator)
        yield [job.train_data[i] for i in drawn.tolist()]


def weighted(job: Job) -> Iterator[list[Any]]:
    weights = torch.linspace(1, 5, len(job.train_data))
    return loader(job, sampler=WeightedRandomSampler(weights.tolist(), len(weights)))


def by_length(job: Job) -> Iterator[list[Any]]:
    rows = sorted(job.train_data, key=lambda row: len(row["input_ids"]))
    while True:
        yield from (rows[at : at + job.batch_size] for at in range(0, len(rows), job.batch_size))


def a_tenth_held_back(job: Job) -> Iterator[list[Any]]:
    return permuted(job, counting(), count=len(job.train_data) - 3)


def new_order_each_epoch(job: Job) -> Iterator[list[Any]]:
    return permuted(job, counting())


SOUND = [in_order, with_replacement, weighted, by_length, a_tenth_held_back, new_order_each_epoch]
ORDER_CHECKS = ["rows-reshuffled-each-epoch", "rows-once-an-epoch", "batches-do-not-repeat"]


@pytest.mark.parametrize("batches", SOUND, ids=lambda batches: batches.__name__)
def test_a_sound_order_is_not_reported(batches: Batches) -> None:
    recipe = trained_on(batches)
    verdicts = check_training(recipe, methods=["lora"], select=ORDER_CHECKS)
    assert [v.status for v in verdicts] == ["passed"] * 3, verdicts


def test_a_sampler_that_is_seeded_anew_in_every_epoch_is_found(verdict_on: Judge) -> None:
    found = verdict_on("rows-reshuffled-each-epoch", trained_on(lambda job: permuted(job, every(job.seed))))
    assert found.status == "failed"
    assert "set_epoch" in str(found)


def test_the_same_order_of_few_rows_is_judged_over_more_epochs(verdict_on: Judge) -> None:
    # 5 rows, 4 of them in whole batches: the four epochs of 8 updates could be alike by chance.
    same = trained_on(lambda job: permuted(job, every(1)), batch_size=2, accumulation=1)
    other = trained_on(new_order_each_epoch, batch_size=2, accumulation=1)
    assert verdict_on("rows-reshuffled-each-epoch", same).status == "failed"
    assert verdict_on("rows-reshuffled-each-epoch", other).status == "passed"


def test_a_new_iterator_for_every_batch_is_found(verdict_on: Judge) -> None:
    def first_batch(job: Job) -> Iterator[list[Any]]:
        while True:
            yield next(in_order(job))

    repeated, once = check_training(trained_on(first_batch), methods=["lora"], select=ORDER_CHECKS[1:])[::-1]
    assert "4 of 18 rows" in str(once)
    assert repeated.status == "failed"


class Streamed(IterableDataset[Any]):
    """Rows one after the other; ``split`` between the workers, or not."""

    def __init__(self, rows: Any, split: bool) -> None:
        self.rows, self.split = rows, split

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker and self.split else (0, 1)
        return iter([self.rows[i] for i in range(start, len(self.rows), step)])


@pytest.mark.parametrize(("split", "status"), [(False, "failed"), (True, "passed")])
def test_workers_that_read_the_same_rows_are_found(verdict_on: Judge, split: bool, status: str) -> None:
    def streamed(job: Job) -> Iterator[list[Any]]:
        while True:
            rows = Streamed(list(job.train_data), split)
            yield from DataLoader(rows, batch_size=job.batch_size, collate_fn=list, num_workers=2)

    assert verdict_on("batches-do-not-repeat", trained_on(streamed)).status == status


def test_one_row_over_and_over_in_a_batch_is_found(verdict_on: Judge) -> None:
    def one_object(job: Job) -> Iterator[list[Any]]:
        return ([rows[-1]] * len(rows) for rows in permuted(job, counting()))

    found = verdict_on("batches-do-not-repeat", trained_on(one_object))
    assert "batches hold one row over and over" in str(found)


def test_evaluation_rows_in_the_training_data_are_found(verdict_on: Judge) -> None:
    leaking = instruction_recipe(train_data=lambda: train_rows() + eval_rows()[:8])
    found = verdict_on("no-train-eval-overlap", leaking)
    assert "8 of 24 rows of eval_data" in str(found)


def test_one_row_that_meets_by_chance_is_not_reported(verdict_on: Judge) -> None:
    meeting = instruction_recipe(train_data=lambda: train_rows() + eval_rows()[:1])
    assert verdict_on("no-train-eval-overlap", meeting).status == "passed"


def test_a_loop_that_trains_on_the_evaluation_data_is_found(verdict_on: Judge) -> None:
    def both(job: Job) -> Iterator[list[Any]]:
        job.train_data = [*job.train_data, *job.eval_data]
        return permuted(job, counting())

    assert "none of train_data" in str(verdict_on("no-train-eval-overlap", trained_on(both)))


def test_a_collator_that_appends_in_place_is_found(verdict_on: Judge) -> None:
    def appending(rows: list[Any]) -> Any:
        for row in rows:
            row["input_ids"].append(END)
            row["labels"].append(END)
        return collate(rows)

    found = verdict_on("rows-stay-as-they-are", instruction_recipe(collate=appending))
    assert "longer in a later epoch" in str(found)


def test_a_collator_that_appends_to_a_copy_is_not_reported() -> None:
    def appending(rows: list[Any]) -> Any:
        return collate([{key: [*value, END] for key, value in row.items()} for row in rows])

    recipe = instruction_recipe(collate=appending)
    checks = ["rows-stay-as-they-are", "labels-belong-to-their-rows", "mask-shows-the-rows", "rows-once-an-epoch"]
    assert [v.status for v in check_training(recipe, methods=["lora"], select=checks)] == ["passed"] * 4


def test_rows_that_shrink_are_found_through_a_trainer_s_eyes_too(verdict_on: Judge) -> None:
    assert verdict_on("rows-stay-as-they-are", SHRINKING_ROWS.apply(instruction_recipe()), "full").status == "failed"


def test_an_inverted_mask_is_found_and_a_missing_one_is_not_reported(verdict_on: Judge) -> None:
    def inverted(rows: list[Any]) -> Any:
        batch = collate(rows)
        return {**batch, "attention_mask": 1 - batch["attention_mask"]}

    def without(rows: list[Any]) -> Any:
        return {key: value for key, value in collate(rows).items() if key != "attention_mask"}

    assert verdict_on("mask-shows-the-rows", instruction_recipe(collate=inverted)).status == "failed"
    assert verdict_on("mask-shows-the-rows", instruction_recipe(collate=without)).status == "not applicable"


def test_a_mask_that_hides_the_end_is_not_reported(verdict_on: Judge) -> None:
    def end_is_padding(rows: list[Any]) -> Any:
        batch = collate(rows)
        return {**batch, "attention_mask": batch["attention_mask"] * (batch["input_ids"] != END)}

    assert verdict_on("mask-shows-the-rows", instruction_recipe(collate=end_is_padding)).status == "passed"
    assert verdict_on("mask-shows-the-rows", TOKENS_HIDDEN.apply(instruction_recipe())).status == "failed"


def test_the_distribution_of_different_rows_is_exact() -> None:
    # Two draws from three rows: the same with probability 1/3.
    assert distinct_in(2, 3) == pytest.approx((0.0, 1 / 3, 2 / 3))
    assert chance_of_so_few_distinct(1, 2, 3) == pytest.approx(1 / 3)
    assert chance_of_so_few_repeats(0, [2, 2], 3) == pytest.approx(4 / 9)
    assert chance_of_so_few_repeats(1, [2, 2], 3) == pytest.approx(8 / 9)


def test_tails_bound_what_they_say() -> None:
    assert at_least_of(1, 2, 0.5) == pytest.approx(0.75)
    assert at_least(0, 3.0) == 1.0
    # Poisson(1) of 5 or more is 0.00366.
    assert 0.0036 < at_least(5, 1.0) < 0.05
