from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import VOCABULARY, drawn_model, tiny_model, tiny_recipe, tiny_rows

from pytest_ftcheck import Job, LoRA, Run
from pytest_ftcheck.account import objections
from pytest_ftcheck.building import base_model, build_job
from pytest_ftcheck.errors import RecipeError, TrainingError
from pytest_ftcheck.execution import execute
from pytest_ftcheck.training import train


def run_of(method: str = "full", seed: int = 0, steps: int = 6, **changes: Any) -> Run:
    return execute(tiny_recipe(**changes), method, seed, steps, "cpu")


def job_of(method: str, seed: int = 0, **changes: Any) -> Job:
    return build_job(tiny_recipe(**changes), method, seed, 6, "cpu", Path())[0]


def test_both_arms_start_from_the_same_weights_for_the_same_seed() -> None:
    full, lora = job_of("full", seed=3, model=drawn_model), job_of("lora", seed=3, model=drawn_model)
    base = {name.replace(".base_layer", ""): p for name, p in lora.model.get_base_model().named_parameters()}
    for name, parameter in full.model.named_parameters():
        assert torch.equal(parameter, base[name]), name
    other = job_of("full", seed=4, model=drawn_model)
    assert not torch.equal(next(full.model.parameters()), next(other.model.parameters()))


@pytest.mark.parametrize("accumulation", [1, 3])
def test_both_arms_see_the_same_batches_in_the_same_order(accumulation: int) -> None:
    full, lora = run_of("full", accumulation=accumulation), run_of("lora", accumulation=accumulation)
    assert full.loss.batches == lora.loss.batches != ""
    assert full.loss.batches != run_of("full", seed=1, accumulation=accumulation).loss.batches


def test_arms_whose_order_depends_on_the_global_generator_still_see_the_same_batches() -> None:
    """An adapter draws its initial values; what is drawn afterwards must not depend on how many these were."""

    def shuffled(job: Job) -> None:
        order = torch.randperm(len(job.train_data)).tolist() + random.sample(range(24), 24)
        job.train_data = [job.train_data[i] for i in order]
        train(job)

    assert run_of("full", train=shuffled).loss.batches == run_of("lora", train=shuffled).loss.batches


def test_losses_have_the_same_bits_in_two_processes() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from recipes import tiny_recipe; from pytest_ftcheck.execution import execute\n"
        "print([x.hex() for x in execute(tiny_recipe(), 'lora', 0, 6, 'cpu').loss.train])"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=None).stdout.strip() for _ in range(2)
    ]
    assert outputs[0] == outputs[1] == str([x.hex() for x in run_of("lora").loss.train])


def test_a_run_leaves_the_process_as_it_was() -> None:
    def rude(job: Job) -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        torch.set_num_threads(2)
        train(job)

    def state() -> tuple[object, ...]:
        return (torch.get_default_dtype(), torch.get_num_threads(), random.getstate(), torch.is_grad_enabled())

    torch.manual_seed(5)
    before, generator = state(), torch.get_rng_state()
    run_of(train=rude, threads=1)
    assert state() == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_run_says_what_was_trained() -> None:
    run = run_of("lora", seed=2)
    assert (run.recipe, run.method, run.title, run.seed, run.steps) == ("tiny", "lora", "LoRA r=2", 2, 6)
    assert run.parameters.trainable == run.parameters.declared.trainable == 2 * (8 + 24)
    assert len(run.loss.train) == len(run.optimizers[0].groups[0].lr) == 6
    assert [step for step, _ in run.loss.eval] == [1, 2, 3, 5, 6]
    assert run.loss.supervised_tokens == (4 * 5,) * 6
    assert run.time.tokens_per_step == 4 * 6
    assert len(run.time.samples_s) == 5
    assert run.environment.threads == 1
    assert run.deviations == ()
    assert Run.from_json(run.to_json()) == run


def buffers_bytes(dtype: torch.dtype = torch.float32) -> int:
    """Before transformers 5, a GPT-2 has the masks of its layers as buffers."""
    return sum(buffer.nbytes for buffer in tiny_model().to(dtype).buffers())


def test_static_memory_of_a_run_is_the_closed_form() -> None:
    memory = run_of("full").memory
    parameters = sum(p.numel() for p in tiny_model().parameters())
    tensors = len(list(tiny_model().parameters()))
    assert (memory.weights_bytes - buffers_bytes(), memory.gradients_bytes) == (4 * parameters, 4 * parameters)
    assert memory.optimizer_bytes == 8 * parameters + 4 * tensors


def never(job: Job) -> None:
    return None


def half(job: Job) -> None:
    job.steps //= 2
    train(job)


def of_another_model(job: Job) -> None:
    job.model = tiny_model()
    train(job)


def raising(job: Job) -> None:
    raise ZeroDivisionError("in the user's code")


def with_nothing_to_train(job: Job) -> None:
    job.model.requires_grad_(False)
    train(job)


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (never, r"full: train\(job\) made 0 of 6 updates\n  likely cause: no optimizer that holds"),
        (of_another_model, r"made 0 of 6 updates"),
        (half, r"made 3 updates; the recipe's horizon is 6\n  likely cause: .* job.steps"),
        (raising, r"train\(job\) raised ZeroDivisionError: in the user's code .*after 0 of 6 updates"),
        (with_nothing_to_train, r"raised .* after 0 of 6 updates, with 0 trainable parameters"),
    ],
)
def test_a_training_that_does_not_train_says_how_far_it_came(loop: Callable[[Job], None], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run_of(train=loop)


def test_the_error_of_a_users_loop_names_its_line_and_keeps_its_traceback() -> None:
    with pytest.raises(TrainingError, match=r"test_execution.py:\d+ in raising") as caught:
        run_of(train=raising)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def out_of_memory(job: Job) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_out_of_memory_shows_the_breakdown_and_what_to_change() -> None:
    with pytest.raises(TrainingError) as caught:
        run_of(train=out_of_memory, batch_size=4)
    text = str(caught.value)
    assert "out of memory on cpu after 0 of 6 updates (CUDA out of memory. Tried to allocate 20.00 GiB)" in text
    assert "weights" in text
    assert "optimizer" in text
    assert "batch_size=2 with accumulation=2" in text


def test_targets_that_are_not_there_name_the_closest_that_are() -> None:
    with pytest.raises(RecipeError) as caught:
        run_of("lora", lora=LoRA(target_modules=["c_atn"]))
    first, *others = str(caught.value).splitlines()
    assert "c_atn" in first
    assert "c_attn" in first
    assert any("c_fc" in line for line in others)


@pytest.mark.parametrize("name", ["train_data", "eval_data"])
@pytest.mark.parametrize("give", [lambda rows: rows, lambda rows: lambda: rows], ids=["rows", "function"])
def test_empty_data_is_refused(name: str, give: Callable[[list[object]], object]) -> None:
    with pytest.raises(RecipeError, match=rf"Recipe.{name} has 0 rows; allowed: at least one"):
        run_of(**{name: give([])})


def test_a_factory_that_returns_no_module_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"Recipe.model\(\) returned dict; allowed: a torch.nn.Module"):
        run_of(model=dict)


def diverging(job: Job) -> None:
    job.lr = 1e6
    train(job)


def test_a_loss_that_is_nan_is_an_objection_that_names_the_update() -> None:
    def not_a_number(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        not_a_number.calls += 1  # type: ignore[attr-defined]
        return model(**batch).loss * (float("nan") if not_a_number.calls > 2 else 1.0)  # type: ignore[attr-defined]

    not_a_number.calls = 0  # type: ignore[attr-defined]
    run = run_of(loss=not_a_number, eval_data=None)
    assert objections(run)[0].startswith("loss is nan in update 3 of 6")


def test_masked_labels_are_an_objection_before_the_nan_that_they_cause() -> None:
    def unguarded(job: Job) -> None:
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr)
        for _ in range(job.steps):
            job.loss(job.model, job.collate(job.train_data[:4])).backward()
            optimizer.step()

    run = run_of(train=unguarded, train_data=tiny_rows(labelled=False), eval_data=None)
    assert objections(run)[0].startswith("0 supervised tokens in update 1")


def test_a_learning_rate_of_zero_in_the_users_code_is_named() -> None:
    def idle(job: Job) -> None:
        job.lr = 0.0
        train(job)

    run = run_of("lora", train=idle)
    assert "0 of 64 trainable parameters moved in 6 updates" in objections(run)[0]
    assert "their learning rate is 0" in objections(run)[0]


def test_an_unfrozen_base_is_a_deviation_that_names_the_modules() -> None:
    def unfreezing(job: Job) -> None:
        job.model.requires_grad_(True)
        train(job)

    assert any("the base is not frozen" in line for line in run_of("lora", train=unfreezing).deviations)


def test_a_loop_may_replace_the_model_if_it_says_so() -> None:
    def own_model(job: Job) -> None:
        job.replace_model(tiny_model())
        train(job)

    assert run_of(train=own_model).deviations == ()


def test_bfloat16_runs_in_bfloat16() -> None:
    run = run_of(dtype="bfloat16")
    assert {t.dtype for t in run.parameters.tensors} == {"bfloat16"}
    assert run.memory.weights_bytes - buffers_bytes(torch.bfloat16) == 2 * run.parameters.total


def test_a_users_own_parts_are_used() -> None:
    used: list[str] = []

    def adapt(model: torch.nn.Module, method: object) -> torch.nn.Module:
        used.append("adapt")
        return model

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        used.append("collate")
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def evaluate(job: Job) -> float:
        used.append("evaluate")
        return 1.25

    run = run_of(adapt=adapt, collate=collate, evaluate=evaluate)
    assert run.loss.final == 1.25
    assert set(used) == {"adapt", "collate", "evaluate"}
    assert VOCABULARY == 20


def test_the_loss_on_source_data_is_taken_before_the_first_update_too_and_leaves_no_trace() -> None:
    recipe = tiny_recipe(source_data=tiny_rows(4), eval_steps=(2,))
    run, plain = execute(recipe, "full", 0, 6, "cpu"), execute(tiny_recipe(eval_steps=(2,)), "full", 0, 6, "cpu")
    assert [step for step, _ in run.loss.source] == [0, 2, 6]
    assert [step for step, _ in run.loss.eval] == [2, 6]
    assert (run.loss.train, run.loss.eval, run.loss.batches) == (plain.loss.train, plain.loss.eval, plain.loss.batches)
    assert plain.loss.source == ()
    with torch.no_grad():
        batch = {key: torch.stack([row[key] for row in tiny_rows(4)]) for key in ("input_ids", "labels")}
        before = float(base_model(recipe, 0).eval()(**batch).loss)
    assert run.loss.source[0][1] == pytest.approx(before, rel=1e-6)
    assert run.loss.forgetting == run.loss.source[-1][1] - run.loss.source[0][1]
    with pytest.raises(ValueError, match="no loss on source data; give the recipe source_data"):
        assert plain.loss.forgetting
