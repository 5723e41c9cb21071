from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from observers.models import gpt2

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.errors import RecipeError, TrainingError
from pytest_ftcheck.training import adapt, collate, evaluate, supervised_tokens, train, update_windows

LENGTHS = (7, 3, 5, 2, 6, 4, 7, 2)


def ragged_rows(lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, torch.Tensor]]:
    """Rows of eight tokens, of which only the first ones carry labels."""
    rows = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, 50, (8,), generator=torch.Generator().manual_seed(index))
        labels = torch.where(torch.arange(8) < length, ids, torch.tensor(-100))
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def a_job(rows: list[dict[str, torch.Tensor]], **changes: object) -> Job:
    model = gpt2(dropout=0.0, layers=1, width=16, vocabulary=50)
    settings: dict[str, object] = dict(
        model=model,
        method=Full(),
        train_data=rows,
        eval_data=rows,
        steps=2,
        seed=0,
        batch_size=2,
        accumulation=1,
        lr=1e-2,
        device="cpu",
        dtype="float32",
        output_dir=Path(),
        recipe=Recipe(model=lambda: model, train_data=rows),
    )
    return Job(**{**settings, **changes})  # type: ignore[arg-type]


def weights_after(job: Job) -> torch.Tensor:
    train(job)
    return torch.cat([p.detach().flatten() for p in job.model.parameters()])


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (2, 4), (4, 2)])
def test_accumulation_equals_one_large_batch_on_rows_of_uneven_label_counts(batch_size: int, accumulation: int) -> None:
    whole = weights_after(a_job(ragged_rows(), batch_size=8, accumulation=1))
    split = weights_after(a_job(ragged_rows(), batch_size=batch_size, accumulation=accumulation))
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=2e-6)


def test_a_mean_of_means_would_not_equal_it() -> None:
    """The control of the test above: unweighted micro-batches do give other weights on these rows."""
    job = a_job(ragged_rows(), batch_size=1, accumulation=8)
    means = [job.loss(job.model, batch).item() for batch in next(update_windows(job))]
    counts = [supervised_tokens(batch, job.model) for batch in next(update_windows(job))]
    weighted = sum(mean * count for mean, count in zip(means, counts, strict=True)) / sum(counts)
    assert abs(sum(means) / len(means) - weighted) > 1e-3


def test_every_row_is_seen_once_an_epoch_in_an_order_of_its_seed() -> None:
    rows = [{"input_ids": torch.tensor([i])} for i in range(10)]

    def epochs(seed: int) -> list[int]:
        windows = itertools.islice(update_windows(a_job(rows, seed=seed)), 10)
        return [int(i) for window in windows for batch in window for i in batch["input_ids"].flatten()]

    order = epochs(seed=0)
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert epochs(seed=0) == order
    assert epochs(seed=1) != order


def test_fewer_rows_than_a_batch_are_refused_with_the_numbers() -> None:
    with pytest.raises(RecipeError, match="train_data has 8 rows; a batch needs 9"):
        train(a_job(ragged_rows(), batch_size=9))


def test_an_update_without_a_supervised_token_is_refused() -> None:
    with pytest.raises(TrainingError, match="no supervised token in update 1"):
        train(a_job(ragged_rows(lengths=(0,) * 8)))


def test_the_evaluation_loss_is_a_mean_over_tokens_and_not_over_batches() -> None:
    rows = ragged_rows() * 40  # more than one evaluation batch, of uneven token counts
    job = a_job(rows[: 256 + 7])
    whole = collate(rows[: 256 + 7])
    assert evaluate(job) == pytest.approx(job.loss(job.model, whole).item(), rel=1e-5)


def test_evaluation_data_without_a_label_is_refused() -> None:
    with pytest.raises(RecipeError, match="eval_data gives no evaluation batch with a label; allowed: at least one"):
        evaluate(a_job(ragged_rows(lengths=(0,) * 8)))


@pytest.mark.parametrize("rows", [[1, 2], [(torch.zeros(1),)]])
def test_rows_that_are_no_dictionaries_are_refused(rows: list[object]) -> None:
    with pytest.raises(RecipeError, match="a row is"):
        collate(rows)


def test_full_trains_all_but_the_frozen_modules() -> None:
    model = adapt(gpt2(layers=1, width=16, vocabulary=8), Full(frozen=["wte"]))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"transformer.wte.weight"}


def test_full_trains_what_the_factory_left_frozen() -> None:
    model = gpt2(layers=1, width=16, vocabulary=8).requires_grad_(False)
    assert all(p.requires_grad for p in adapt(model, Full()).parameters())


def test_lora_is_the_adapter_that_was_declared() -> None:
    method = LoRA(r=3, alpha=6, target_modules=["c_attn"], dropout=0.25, use_rslora=True)
    layer = adapt(gpt2(layers=1, width=16, vocabulary=8), method).base_model.model.transformer.h[0].attn.c_attn
    assert layer.r["default"] == 3
    assert layer.scaling["default"] == pytest.approx(6 / 3**0.5)
    assert layer.lora_dropout["default"].p == 0.25


@pytest.mark.parametrize(
    ("labels", "encoder_decoder", "count"),
    [
        (torch.tensor([[5, 6, -100], [7, 8, 9]]), False, 3),  # the first of each row is predicted from nothing
        (torch.tensor([[5, 6, -100], [7, 8, 9]]), True, 5),
        (torch.tensor([1, 0, -100]), False, 2),  # a class for each row
        (torch.tensor([1]), False, 1),
        (None, False, 1),
    ],
)
def test_the_labels_that_count_depend_on_the_kind_of_model(
    labels: torch.Tensor | None, encoder_decoder: bool, count: int
) -> None:
    model = torch.nn.Identity()
    model.config = SimpleNamespace(is_encoder_decoder=encoder_decoder)  # type: ignore[assignment]
    assert supervised_tokens({} if labels is None else {"labels": labels}, model) == count
