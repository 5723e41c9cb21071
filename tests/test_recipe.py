"""What a user tells the plugin: what may be told, and what is refused and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.errors import RecipeError

WHOLE = "a whole number of at least 1"


def no_model() -> Any:
    raise AssertionError("a recipe builds no model by itself")


def a_recipe(**parts: Any) -> Recipe:
    return Recipe(**{"model": no_model, "train_data": [1, 2, 3], **parts})


@pytest.mark.parametrize("field", ["steps", "seeds", "batch_size", "accumulation", "threads", "save_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True])
def test_a_count_is_a_whole_number_of_at_least_one(field: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(**{field: value}, train=print)
    assert str(caught.value) == f"Recipe.{field} is {value!r}; allowed: {WHOLE}"
    assert getattr(a_recipe(**{field: 1}, train=print), field) == 1


def test_checkpoints_are_not_asked_of_the_loop_that_writes_none() -> None:
    with pytest.raises(
        RecipeError, match=r"^Recipe\.save_steps is 50 with train=None; allowed: None, as that writes no"
    ):
        a_recipe(save_steps=50)


@pytest.mark.parametrize("field", ["steps", "seeds", "batch_size", "accumulation"])
def test_only_threads_may_be_left_open(field: str) -> None:
    assert a_recipe(threads=None).threads is None
    with pytest.raises(RecipeError, match=rf"^Recipe\.{field} is None; allowed: {WHOLE}$"):
        a_recipe(**{field: None})


@pytest.mark.parametrize("dtype", ["float", "fp16", "torch.float32", "", None])
def test_an_unknown_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(dtype=dtype)
    assert str(caught.value) == f"Recipe.dtype is {dtype!r}; allowed: float32, bfloat16, float16, float64"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_known_dtype_is_kept(dtype: str) -> None:
    assert a_recipe(dtype=dtype).dtype == dtype


@pytest.mark.parametrize("field", ["model", "train", "adapt", "loss", "collate", "evaluate", "save", "load"])
@pytest.mark.parametrize("value", ["a name", 3, []])
def test_a_part_is_a_function(field: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(**{field: value})
    assert str(caught.value) == f"Recipe.{field} is {value!r}; allowed: a function"
    assert getattr(a_recipe(**{field: no_model}), field) is no_model


def test_every_part_but_the_model_may_be_left_out() -> None:
    recipe = a_recipe()
    assert [getattr(recipe, part) for part in ("train", "adapt", "loss", "collate", "evaluate", "save", "load")] == [
        None
    ] * 7
    with pytest.raises(RecipeError, match=r"^Recipe\.model is None; allowed: a function$"):
        a_recipe(model=None)


def test_a_recipe_may_declare_one_method_only_and_not_none() -> None:
    recipe = a_recipe(full=None)
    assert list(recipe.declared_methods) == ["lora"]
    with pytest.raises(RecipeError, match=r"^no method 'full' in the recipe; allowed: lora$"):
        recipe.method("full")
    with pytest.raises(RecipeError, match=r"^Recipe has no method; allowed: full=Full\(\.\.\.\), lora=LoRA"):
        a_recipe(full=None, lora=None)


@pytest.mark.parametrize(
    ("parts", "name", "value"),
    [
        ({"full": 1e-3}, "full", 1e-3),
        ({"lora": LoRA}, "lora", LoRA),
        ({"methods": {"wide": LoRA(), "narrow": "r=2"}}, "narrow", "r=2"),
    ],
)
def test_a_method_is_a_declaration(parts: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(**parts)
    expected = f"Recipe method {name!r} is {value!r}; allowed: Full(...), LoRA(...), Peft(...)"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_names_of_the_two_arms_are_taken(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(methods={name: LoRA()})
    assert str(caught.value) == f"Recipe.methods has {name!r}; allowed: other names (that one is Recipe.{name})"


def test_a_recipe_has_these_defaults() -> None:
    recipe = a_recipe()
    assert (recipe.steps, recipe.seeds, recipe.batch_size, recipe.accumulation) == (500, 3, 8, 1)
    assert (recipe.full, recipe.lora, recipe.methods) == (Full(), LoRA(), {})
    assert (recipe.dtype, recipe.threads, recipe.eval_data, recipe.eval_steps) == ("float32", None, None, None)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_recipe().steps = 7  # type: ignore[misc]


def test_a_method_is_found_by_its_name() -> None:
    full, lora, wide = Full(lr=0.5), LoRA(r=2), LoRA(r=64)
    recipe = a_recipe(full=full, lora=lora, methods={"wide": wide})
    assert [recipe.method(name) for name in ("full", "lora", "wide")] == [full, lora, wide]


def test_a_method_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe(methods={"wide": LoRA(r=64)}).method("Lora")
    assert str(caught.value) == "no method 'Lora' in the recipe; allowed: full, lora, wide"


def test_replacing_a_part_leaves_the_rest_and_the_original() -> None:
    recipe = a_recipe(steps=7, seeds=2)
    changed = recipe.replace(steps=9)
    assert (changed.steps, changed.seeds, changed.model) == (9, 2, no_model)
    assert recipe.steps == 7


def test_a_replaced_part_is_checked_too() -> None:
    with pytest.raises(RecipeError, match=r"^Recipe\.steps is 0; allowed: a whole number of at least 1$"):
        a_recipe().replace(steps=0)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (7, (1, 2, 4, 5, 7)),
        (29, (1, 2, 5, 10, 17, 20, 29)),
        (30, (1, 2, 5, 10, 18, 20, 30)),
        (31, (1, 2, 5, 10, 18, 20, 30, 31)),
        (250, (1, 2, 5, 10, 20, 30, 50, 100, 150, 200, 250)),
        (500, (1, 2, 5, 10, 20, 30, 50, 100, 200, 300, 500)),
    ],
)
def test_evaluations_are_spread_over_the_logarithm_of_the_step(steps: int, expected: tuple[int, ...]) -> None:
    assert a_recipe().evaluation_steps(steps) == expected


@pytest.mark.parametrize(
    ("wanted", "steps", "expected"),
    [
        ((), 50, (50,)),
        ((10, 30), 50, (10, 30, 50)),
        ((30, 10, 30), 50, (10, 30, 50)),
        ((10, 50), 50, (10, 50)),
        ((10, 50, 51, 500), 50, (10, 50)),
    ],
)
def test_evaluations_that_were_asked_for_are_taken_up_to_the_horizon(
    wanted: tuple[int, ...], steps: int, expected: tuple[int, ...]
) -> None:
    assert a_recipe(eval_steps=wanted).evaluation_steps(steps) == expected


def a_job(recipe: Recipe, **changes: Any) -> Job:
    job = Job(
        model=torch.nn.Linear(2, 1),
        method=recipe.full,
        train_data=[],
        eval_data=None,
        steps=1,
        seed=0,
        batch_size=1,
        accumulation=1,
        lr=1.0,
        device="cpu",
        dtype="float32",
        output_dir=Path("."),
        recipe=recipe,
    )
    return dataclasses.replace(job, **changes)


def test_a_job_makes_batches_and_losses_with_the_recipes_own_functions() -> None:
    recipe = a_recipe(collate=lambda rows: ("batch of", rows), loss=lambda model, batch: (model, batch))
    job = a_job(recipe)
    assert job.collate([1, 2]) == ("batch of", [1, 2])
    assert job.loss(job.model, "a batch") == (job.model, "a batch")


def test_a_job_makes_batches_and_losses_by_itself_where_the_recipe_does_not_say_how() -> None:
    job = a_job(a_recipe())
    batch = job.collate([{"x": 1.0}, {"x": 2.0}])
    assert batch["x"].tolist() == [1.0, 2.0]
    assert job.loss(lambda x: {"loss": x.sum()}, batch) == 3.0  # type: ignore[arg-type]


def test_a_batch_is_moved_to_the_jobs_device() -> None:
    own = a_recipe(collate=lambda rows: {"x": torch.tensor(rows)})
    for recipe, rows in ((a_recipe(), [{"x": 1.0}]), (own, [1.0])):
        assert a_job(recipe, device="meta").collate(rows)["x"].device.type == "meta"


def test_a_replaced_model_is_the_jobs_and_is_announced() -> None:
    announced: list[torch.nn.Module] = []
    other = torch.nn.Linear(3, 1)
    job = a_job(a_recipe(), on_model=announced.append)
    job.replace_model(other)
    assert job.model is other
    assert announced == [other]
    unobserved = a_job(a_recipe())
    unobserved.replace_model(other)
    assert unobserved.model is other


def test_a_recipe_from_a_trainer_trains_and_evaluates_with_it() -> None:
    made = []

    def make_trainer(job: Job) -> Any:
        made.append(job)
        return "no trainer"

    recipe = Recipe.from_trainer(make_trainer, model=no_model, train_data=[1], steps=7)
    assert recipe.steps == 7
    assert callable(recipe.evaluate)
    assert recipe.train is not None
    job: Any = object()
    with pytest.raises(
        RecipeError, match=r"^make_trainer\(job\) returned 'no trainer'; allowed: a transformers.Trainer$"
    ):
        recipe.train(job)
    assert made == [job]


def test_a_recipe_from_a_trainer_may_evaluate_in_its_own_way() -> None:
    def evaluate(job: Job) -> float:
        return 0.5

    recipe = Recipe.from_trainer(lambda job: None, model=no_model, train_data=[1], evaluate=evaluate)
    assert recipe.evaluate is evaluate


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (30, r"Recipe.eval_steps is 30; allowed: a tuple of steps"),
        ((10, 0), r"Recipe.eval_steps is 0; allowed: a whole number of at least 1"),
        ((-1,), r"Recipe.eval_steps is -1; allowed: a whole number of at least 1"),
        ((2.5,), r"Recipe.eval_steps is 2.5; allowed: a whole number of at least 1"),
    ],
)
def test_steps_that_cannot_be_evaluated_at_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}$"):
        a_recipe(eval_steps=wrong)


def test_source_data_is_evaluated_beside_evaluation_data_and_not_without() -> None:
    assert a_recipe(source_data=[1], eval_data=[2]).source_data == [1]
    with pytest.raises(RecipeError, match=r"^Recipe\.source_data is given without eval_data; allowed: both"):
        a_recipe(source_data=[1])
