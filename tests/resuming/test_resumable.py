"""Runs that are interrupted, and gone on with by the next process that needs them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import tiny_model, tiny_recipe, tiny_rows

from pytest_ftcheck import Job, Recipe, Run
from pytest_ftcheck.errors import TrainingError
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore
from pytest_ftcheck.tasks import checkpoint, loop
from pytest_ftcheck.training import model_loss

STEPS = 12


class Interrupted(BaseException):
    """What ends a process in the middle, as far as one test can go: nobody may catch it."""


class Stop:
    """A training loop that is interrupted once, after so many updates; or that breaks."""

    def __init__(self) -> None:
        self.updates: list[int] = []
        self.after: int | None = None
        self.error: type[BaseException] = Interrupted


STOP = Stop()


@pytest.fixture(autouse=True)
def _not_stopped() -> None:
    STOP.__init__()  # type: ignore[misc]


def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """One call is one update: the recipe does not accumulate."""
    if model.training and torch.is_grad_enabled():
        if STOP.after == len(STOP.updates):
            STOP.after = None
            raise STOP.error("now")
        STOP.updates.append(len(STOP.updates))
    return model_loss(model, batch)


def with_dropout() -> torch.nn.Module:
    model = tiny_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    return model


def a_recipe(**changes: Any) -> Recipe:
    parts = dict(train=loop.train, loss=loss, model=with_dropout, steps=STEPS, eval_steps=(2, 7, STEPS), save_steps=3)
    parts["source_data"] = tiny_rows(4)
    return tiny_recipe(**{**parts, **changes})


def request(recipe: Recipe, method: str = "lora") -> Request:
    return Request(recipe, method, 0, STEPS, "cpu")


def interrupted(folder: Path, recipe: Recipe, after: int, method: str = "lora") -> None:
    """Train until ``after`` updates, in a process that ends there."""
    STOP.updates, STOP.after = [], after
    with pytest.raises(Interrupted):
        Runner(RunStore(folder)).run(request(recipe, method))


def gone_on(folder: Path, recipe: Recipe, method: str = "lora") -> tuple[Run, int]:
    """The run, and how many updates were made for it now; not those in which memory is measured."""
    STOP.updates = []
    run = Runner(RunStore(folder)).run(request(recipe, method))
    return run, len(STOP.updates) - 2


def apart_from_time(run: Run) -> dict[str, Any]:
    return {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name not in ("time", "resumed")}


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(("after", "last"), [(4, 3), (8, 6), (11, 9)])
def test_a_run_that_is_gone_on_with_is_the_one_that_was_not_interrupted(
    tmp_path: Path, method: str, after: int, last: int
) -> None:
    recipe = a_recipe()
    whole, _ = gone_on(tmp_path / "other", recipe, method)
    interrupted(tmp_path, recipe, after, method)
    run, made = gone_on(tmp_path, recipe, method)
    assert made == STEPS - last
    assert (run.resumed, whole.resumed) == ((last,), ())
    assert apart_from_time(run) == apart_from_time(whole)
    # Not the first update, and none that follows a checkpoint, whether it was written or gone on from.
    assert len(run.time.samples_s) == len(whole.time.samples_s) == STEPS - 1 - 3


def test_a_run_may_be_interrupted_again(tmp_path: Path) -> None:
    recipe = a_recipe()
    whole, _ = gone_on(tmp_path / "other", recipe)
    interrupted(tmp_path, recipe, 5)
    interrupted(tmp_path, recipe, 5)
    run, made = gone_on(tmp_path, recipe)
    assert run.resumed == (3, 6)
    assert made == STEPS - 6
    assert apart_from_time(run) == apart_from_time(whole)


def test_before_the_first_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    recipe = a_recipe()
    interrupted(tmp_path, recipe, 2)
    run, made = gone_on(tmp_path, recipe)
    assert (run.resumed, made) == ((), STEPS)


def test_without_the_declaration_no_checkpoint_is_asked_for(tmp_path: Path) -> None:
    recipe = a_recipe(save_steps=None)
    interrupted(tmp_path, recipe, 8)
    assert not list(tmp_path.glob("*.unfinished"))
    run, made = gone_on(tmp_path, recipe)
    assert (run.resumed, made) == ((), STEPS)


def test_another_recipe_does_not_go_on_with_it(tmp_path: Path) -> None:
    interrupted(tmp_path, a_recipe(), 8)
    run, made = gone_on(tmp_path, a_recipe(batch_size=2))
    assert (run.resumed, made) == ((), STEPS)


def test_nothing_is_left_of_a_run_that_ends_whether_well_or_badly(tmp_path: Path) -> None:
    recipe = a_recipe()
    STOP.updates, STOP.after, STOP.error = [], 4, ValueError
    with pytest.raises(TrainingError, match="ValueError: now"):
        Runner(RunStore(tmp_path)).run(request(recipe))
    assert not list(tmp_path.glob("*.unfinished"))
    STOP.error = Interrupted
    interrupted(tmp_path, recipe, 8)
    assert len(list(tmp_path.glob("*.unfinished"))) == 1
    gone_on(tmp_path, recipe)
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_last_checkpoint_is_left_out_where_it_was_cut_off(tmp_path: Path) -> None:
    recipe = a_recipe()
    whole, _ = gone_on(tmp_path / "other", recipe)
    interrupted(tmp_path, recipe, 8)
    (weights,) = tmp_path.glob("*.unfinished/output/checkpoint-6/optimizer.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    run, made = gone_on(tmp_path, recipe)
    assert (run.resumed, made) == ((3,), STEPS - 3)
    assert apart_from_time(run) == apart_from_time(whole)


@pytest.mark.parametrize("damage", ["{", '"{}"', "[]", '"\\""'])
def test_a_damaged_note_is_none(tmp_path: Path, damage: str) -> None:
    recipe = a_recipe()
    interrupted(tmp_path, recipe, 8)
    for note in tmp_path.glob("*.unfinished/notes/*.json"):
        note.write_text(damage)
    run, made = gone_on(tmp_path, recipe)
    assert (run.resumed, made) == ((), STEPS)


def without(part: str) -> Callable[[Job], None]:
    """The loop, which forgets to restore ``part`` from a checkpoint."""

    def load(folder: Path, model: Any, optimizer: Any, schedule: Any) -> int:
        weights = [p.detach().clone() for p in model.parameters()]
        rates, generator = schedule.state_dict(), torch.get_rng_state()
        update = original(folder, model, optimizer, schedule)
        if part == "weights":
            with torch.no_grad():
                for parameter, before in zip(model.parameters(), weights, strict=True):
                    parameter.copy_(before)
        if part == "optimizer":
            optimizer.state.clear()
        if part == "rates":
            schedule.load_state_dict(rates)
            optimizer.param_groups[0]["lr"] *= 1.1
        if part == "generators":
            torch.set_rng_state(generator)
        return update + (part == "rows")

    def train(job: Job) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "load", load)
            loop.train(job)

    original = checkpoint.load
    return train


@pytest.mark.parametrize("part", ["weights", "optimizer", "rates", "generators", "rows"])
def test_a_loop_that_does_not_find_everything_again_trains_anew(tmp_path: Path, part: str) -> None:
    recipe = a_recipe(train=without(part))
    whole, _ = gone_on(tmp_path / "other", recipe)
    interrupted(tmp_path, recipe, 8)
    with pytest.warns(UserWarning, match=f"not resumed after update 6, but trained anew: .* began with other .*{part}"):
        run, made = gone_on(tmp_path, recipe)
    # The update that began wrongly was given up, not before its forward pass.
    assert (run.resumed, made) == ((), STEPS + 1)
    assert apart_from_time(run) == apart_from_time(whole)


def from_the_start(job: Job) -> None:
    job.resume_from = None
    loop.train(job)


def test_a_loop_that_goes_on_from_nothing_trains_anew(tmp_path: Path) -> None:
    recipe = a_recipe(train=from_the_start)
    interrupted(tmp_path, recipe, 8)
    with pytest.warns(UserWarning, match="tiny, lora, seed 0: not resumed after update 6, but trained anew"):
        run, made = gone_on(tmp_path, recipe)
    assert (run.resumed, made) == ((), STEPS + 1)


def writing_nothing(job: Job) -> None:
    job.save_steps = None
    loop.train(job)


def test_a_loop_that_writes_no_checkpoint_is_told_of(tmp_path: Path) -> None:
    expected = f"wrote no checkpoint into job.output_dir in {STEPS} updates, though Recipe.save_steps is 3"
    with pytest.warns(UserWarning, match=expected):
        gone_on(tmp_path, a_recipe(train=writing_nothing))


def test_a_run_that_is_too_short_for_a_checkpoint_is_not_told_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gone_on(tmp_path, a_recipe(save_steps=STEPS))


@pytest.mark.filterwarnings("ignore:ftcheck. .* cannot be written")
def test_a_cache_that_cannot_be_written_does_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run, made = gone_on(tmp_path / "file", a_recipe())
    assert (run.resumed, made) == ((), STEPS)


def reading_at_first(job: Job) -> None:
    if job.resume_from is None:
        Path(DATA[0]).read_text()
    loop.train(job)


DATA = [""]


def test_what_was_read_before_the_interruption_counts_and_checkpoints_do_not(tmp_path: Path) -> None:
    DATA[0] = str(tmp_path / "rows.txt")
    Path(DATA[0]).write_text("one")
    recipe = a_recipe(train=reading_at_first)
    interrupted(tmp_path / "cache", recipe, 8)
    assert gone_on(tmp_path / "cache", recipe)[0].resumed == (6,)
    assert gone_on(tmp_path / "cache", recipe)[1] == -2, "it is stored, and holds"
    Path(DATA[0]).write_text("other")
    assert gone_on(tmp_path / "cache", recipe)[1] == STEPS
