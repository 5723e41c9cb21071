"""What a training may read of tensors that have no contents, and what it is told where it may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from predict.loops import IGNORED, ROWS, Batch, Model, loop_recipe, predicted_with
from torch import Tensor, nn

from pytest_ftcheck import Job
from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.values import FLOAT_LIMIT, LIMIT


def test_what_follows_from_the_data_is_known() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        learned = batch["labels"] != IGNORED
        assert int(learned.sum()) == 23
        assert bool(learned.any())
        assert not learned.all()
        assert learned.float().mean().item() == pytest.approx(23 / 24)
        assert batch["input_ids"].max().item() < 20
        assert torch.equal(batch["input_ids"], batch["input_ids"].clone())
        assert batch["input_ids"].tolist() == batch["input_ids"].cpu().numpy().tolist()
        assert learned.sum(1).tolist() == [5, 6, 6, 6]

    assert predicted_with(step).notes == ()


def test_shapes_that_follow_from_the_data_are_known() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        learned, logits = batch["labels"] != IGNORED, job.model(**batch)["logits"]
        assert logits[learned].shape == (23, 20)
        assert torch.masked_select(batch["labels"], learned).shape == (23,)
        assert len(learned.nonzero()) == 23
        assert [len(row[mask]) for row, mask in zip(batch["labels"], learned, strict=True)] == [5, 6, 6, 6]
        assert len(torch.unique(batch["labels"].clamp_min(0))) > 1
        assert nn.functional.one_hot(batch["input_ids"]).shape[-1] == int(batch["input_ids"].max()) + 1
        logits[learned].sum().backward()

    predicted_with(step)


def test_a_change_in_place_changes_what_is_known_of_views_and_not_the_data() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        before = batch["input_ids"][0, 0].item()
        changed = batch["input_ids"].clone()
        row = changed[0]
        row.fill_(7)
        changed[1:, [0, 1]] = 9
        assert changed[:2].tolist() == [[7] * 6, [9, 9, *batch["input_ids"][1, 2:].tolist()]]
        assert batch["input_ids"][0, 0].item() == before
        unknown = job.model(**batch)["logits"].argmax(-1)
        row.copy_(unknown[0])
        assert f"{changed.sum().item()}" == "unknown"

    data = loop_recipe().train_data
    ids = [row["input_ids"].clone() for row in data]
    predicted_with(step, train_data=data)
    assert all(torch.equal(row["input_ids"], kept) for row, kept in zip(data, ids, strict=True))


def test_a_loop_reads_its_loss_as_one_and_the_notes_say_where() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        assert loss.item() == float(loss) == loss.detach().cpu().numpy() == loss.tolist() == 1.0
        assert f"{loss:.2f}" == "1.00"
        assert float(loss / 4) == 0.25

    assert any("test_values.py:" in note and "taken to be 1.0" in note for note in predicted_with(step).notes)


def test_floats_are_finite_wherever_that_is_asked() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        gradient = job.model.head.weight.grad
        for tensor in (loss, gradient):
            assert torch.isfinite(tensor).all()
            assert not torch.isinf(tensor).any()
            assert not torch.isnan(tensor).any()

    (note,) = predicted_with(step).notes
    assert note.startswith("floats are taken to be finite (test_values.py:")


def test_a_norm_of_gradients_is_read_and_logged() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        norm = torch.nn.utils.clip_grad_norm_(job.model.parameters(), 1.0)
        assert norm.item() > 0

    predicted_with(step)


def correct(job: Job, batch: Batch) -> Tensor:
    return (job.model(**batch)["logits"].argmax(-1) == batch["labels"]).sum()


def test_a_count_that_nobody_knows_may_be_logged() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        total = 0
        total += correct(job, batch).item()
        assert f"{round(100 * total / ROWS, 2):.1f}" == str(total) == "unknown"

    predicted_with(step)


DECISIONS: dict[str, Callable[[Job, Batch, Tensor], Any]] = {
    "comparison": lambda job, batch, loss: correct(job, batch).item() > 3,
    "loop": lambda job, batch, loss: range(correct(job, batch).item()),
    "int": lambda job, batch, loss: int(correct(job, batch)),
    "condition": lambda job, batch, loss: 1 if (job.model(**batch)["logits"] > 0).any() else 2,
    "equal": lambda job, batch, loss: torch.equal(job.model.head.weight, job.model.head.weight * 2),
    "numpy": lambda job, batch, loss: job.model(**batch)["logits"].detach().cpu().numpy(),
    "sorted": lambda job, batch, loss: sorted(job.model(**batch)["logits"].argmax(-1)[0].tolist()),
    "index": lambda job, batch, loss: job.model(**batch)["logits"].relu().nonzero(),
    "random": lambda job, batch, loss: int(torch.randint(0, 9, (1,), device=job.device)),
    "buffer": lambda job, batch, loss: torch.zeros(ROWS, 6).long().copy_(job.model(**batch)["logits"].argmax(-1)),
}


REFUSED = r"^.*, at test_values.py:\d+, depends on the values of weights or activations.*\n  what to do: decide by"


def test_what_is_decided_by_values_that_nobody_knows_is_refused() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        for name, decide in DECISIONS.items():
            with pytest.raises(PredictionError) as refused:
                decide(job, batch, loss)
            assert re.match(REFUSED, str(refused.value)), f"{name}: {refused.value}"

    predicted_with(step)


def test_a_model_may_not_decide_by_a_float_that_a_loop_may_read() -> None:
    def branch(hidden: Tensor) -> Tensor:
        return hidden * 2 if hidden.mean() > 0 else hidden

    with pytest.raises(
        PredictionError, match=r"as a number or a condition .* in layer, at test_values.py:\d+, depends"
    ):
        predict_recipe(loop_recipe(model=lambda: Model(branch)))


def test_a_model_may_ask_whether_its_activations_are_finite() -> None:
    def clamp(hidden: Tensor) -> Tensor:
        return hidden.clamp(-1, 1) if torch.isinf(hidden).any() else hidden

    predict_recipe(loop_recipe(model=lambda: Model(clamp)))


def test_a_counter_in_a_buffer_keeps_its_value() -> None:
    def counting() -> nn.Module:
        model = Model()
        model.layer.register_buffer("calls", torch.tensor(41))
        model.layer.inner = lambda hidden: model.layer.calls.add_(1)
        return model

    seen = []

    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        seen.append(job.model.layer.calls.item())
        assert seen[-1] == 41 + len(seen)

    predict_recipe(loop_recipe(step, model=counting, lora=None))


def test_values_above_the_limits_are_not_kept() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        assert int(torch.ones(LIMIT, dtype=torch.bool, device=job.device).sum()) == LIMIT
        assert not isinstance(torch.ones(LIMIT + 1, dtype=torch.bool, device=job.device).sum().item(), int)
        ones = torch.ones(FLOAT_LIMIT + 1, dtype=torch.long, device=job.device)
        assert ones[:-1].float().sum().item() == FLOAT_LIMIT
        assert ones.float().sum().item() == 1.0

    predicted_with(step)
