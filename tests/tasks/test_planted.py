from __future__ import annotations

import pytest
import torch

from pytest_ftcheck.tasks.planted import (
    GENERAL,
    NARROW,
    TARGETS,
    PlantedTask,
    base_model,
    divergence,
    plant,
    planted_recipe,
    teacher_rows,
)


def projections(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: weight.detach()
        for name, weight in model.named_parameters()
        if name.endswith(".weight") and any(f".{target}." in name for target in TARGETS)
    }


@pytest.mark.parametrize("task", [GENERAL, NARROW, PlantedTask(rank=5, size=0.1)])
def test_the_teacher_differs_by_exactly_the_planted_rank_and_size(task: PlantedTask) -> None:
    base, teacher = projections(base_model()), projections(plant(base_model(), task.rank, task.size))
    assert len(base) == 8
    for name, weight in base.items():
        change = teacher[name] - weight
        singular = torch.linalg.svdvals(change)
        assert int((singular > 1e-4 * singular[0]).sum()) == task.rank
        assert float(change.norm() / weight.norm()) == pytest.approx(task.size, rel=1e-4)


def test_nothing_but_the_projections_is_changed() -> None:
    changed = {
        name
        for (name, a), (_, b) in zip(
            base_model().named_parameters(), plant(base_model(), 2, 0.3).named_parameters(), strict=True
        )
        if not torch.equal(a, b)
    }
    assert changed == set(projections(base_model()))


def test_the_floor_is_zero_and_the_teacher_reaches_it() -> None:
    rows = teacher_rows(NARROW, 16, seed=3)
    batch = {"input_ids": rows.tokens, "teacher": rows.teacher}
    with torch.no_grad():
        assert float(divergence(plant(base_model(), NARROW.rank, NARROW.size), batch)) == pytest.approx(0, abs=1e-6)
        assert float(divergence(base_model(), batch)) > 0.5


def test_the_base_does_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(1)
    first = base_model()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = base_model()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_training_and_evaluation_rows_are_different() -> None:
    train = {tuple(row.tolist()) for row in GENERAL.train_data().tokens}
    evaluation = {tuple(row.tolist()) for row in GENERAL.eval_data().tokens}
    assert not train & evaluation


def test_the_recipe_declares_the_rank_that_was_asked_for() -> None:
    assert planted_recipe(NARROW, "narrow", rank=32).lora.title == "LoRA r=32"
