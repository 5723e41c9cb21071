"""Other settings of LoRA, tried at the same budget; with runs that no training made."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from builders import FULL_FORM, LORA_FORM, a_run, tensors

from pytest_ftcheck import Full, LoRA, Peft, Recipe, Run
from pytest_ftcheck.errors import ComparisonError, TrainingError
from pytest_ftcheck.executor.executor import Trained as Carried
from pytest_ftcheck.run import Parameters
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.sweeping.search import METHOD, Search, sweep
from pytest_ftcheck.sweeping.sweep import Sweep

FULL = 1.0
DECLARED = LoRA(r=2, alpha=4, target_modules=["c_attn"], lr=1e-3)


class Trained:
    """In place of a runner: the loss of each method is that of ``landscape``."""

    def __init__(self, landscape: Callable[[LoRA], float]) -> None:
        self._landscape = landscape
        self.tried: list[tuple[str, int]] = []
        # How many settings were asked for at once.
        self.asked: list[int] = []

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        return [self._run(request) for request in requests]

    def outcomes(self, requests: Sequence[Request]) -> list[Run | TrainingError]:
        self.asked.append(len(requests))
        return [self._outcome(request) for request in requests]

    def _outcome(self, request: Request) -> Run | TrainingError:
        try:
            return self._run(request)
        except TrainingError as error:
            return error

    def _run(self, request: Request) -> Run:
        method = request.recipe.method(request.method)
        self.tried.append((method.label, request.seed))
        loss = FULL if isinstance(method, Full) else self._landscape(method)  # type: ignore[arg-type]
        full = isinstance(method, Full)
        parameters = Parameters(tensors("full" if full else "lora"), FULL_FORM if full else LORA_FORM)
        # The seeds scatter, and both arms with them.
        evals = {request.steps: loss + 0.001 * request.seed * (request.method == METHOD)}
        return a_run(request.method, evals=evals, seed=request.seed, steps=request.steps, parameters=parameters)


def a_recipe(**changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(name="a recipe", model=print, train_data=[1], full=Full(lr=1e-3), lora=DECLARED)
    return Recipe(**{**parts, **changes})


def searched(landscape: Callable[[LoRA], float], search: Search | None = None, **changes: Any) -> tuple[Sweep, Trained]:
    runner = Trained(landscape)
    return sweep(a_recipe(**changes), search or Search(), runner, "cpu", 10, 3), runner  # type: ignore[arg-type]


def mis_set(method: LoRA) -> float:
    """Best at tenfold the learning rate, rank 8 and all linear layers; DoRA and the others change nothing."""
    rate = abs(math.log10(method.lr / 1e-2))
    return 1.02 + 0.2 * rate + 0.1 * (method.r < 8) + 0.08 * (method.target_modules != "all-linear")


def test_each_thing_is_changed_at_the_best_of_what_was_before() -> None:
    found, runner = searched(mis_set)
    assert found.best == "LoRA(r=8, alpha=4, all-linear, lr=0.01)"
    assert [one.changed for one in found.settings] == [
        "as declared",
        *(f"{multiple}x full's learning rate" for multiple in (3, 10, 30)),
        *("rank 8", "targets all-linear", "rsLoRA", "DoRA", "PiSSA"),
    ]
    # What is declared is among the learning rates, and is not tried again.
    assert runner.asked == [1, 3, 1, 1, 3]
    assert [seed for _, seed in runner.tried[6:15]] == [0] * 9
    assert len(runner.tried) == 9 + 2 * (3 + 3)


def test_each_setting_says_at_which_stage_it_was_tried() -> None:
    found, _ = searched(mis_set)
    assert [one.stage for one in found.settings] == [
        *("as declared", "learning rate", "learning rate", "learning rate", "rank", "targets"),
        *("variant",) * 3,
    ]
    assert found.full_loss == FULL


def test_a_value_that_is_given_twice_is_tried_once() -> None:
    _, runner = searched(mis_set, Search(multiples=(3, 3.0), ranks=(), targets=(), variants=()))
    assert runner.asked == [1, 1, 0, 0, 0]


def test_it_says_how_much_of_the_gap_the_best_closes_and_for_how_many_parameters() -> None:
    found, _ = searched(mis_set)
    declared = mis_set(DECLARED) - FULL + 0.001
    best = 1.02 - FULL + 0.001
    assert found.closes == pytest.approx(1 - best / declared)
    assert found.share == 0.32
    assert repr(found).startswith("closes 95 % of the gap: LoRA(r=8, alpha=4, all-linear, lr=0.01) for 32 % of the")
    assert Sweep.from_json(found.to_json()) == found


def test_the_best_is_marked_in_the_table() -> None:
    lines = searched(mis_set)[0].lines()
    assert [line.split()[0] for line in lines if line.strip().startswith("*")] == ["*LoRA(r=8,"]
    assert lines[-1].startswith("  closes 95 %")


def test_where_nothing_is_better_it_says_so() -> None:
    found, _ = searched(lambda method: 1.5 if method == DECLARED else 1.6)
    assert found.declared_is_best
    assert found.closes == 0
    assert repr(found).startswith("closes 0 % of the gap: none is better than the declared setting")


@pytest.mark.parametrize(("loss", "said"), [(0.5, "is ahead of full"), (0.9985, "is not behind full")])
def test_where_there_is_no_gap_there_is_none_to_close(loss: float, said: str) -> None:
    found, _ = searched(lambda method: loss)
    assert math.isnan(found.closes)
    assert repr(found).startswith(f"no gap to close: the declared setting {said}")


def test_a_setting_that_fails_is_told_and_never_the_best() -> None:
    def landscape(method: LoRA) -> float:
        if method.lr > 1e-2:
            raise TrainingError("loss is nan in update 3\n  likely cause: ...")
        return mis_set(method)

    found, _ = searched(landscape)
    (failed,) = (one for one in found.settings if one.failed)
    assert (failed.failed, failed.loss) == ("loss is nan in update 3", math.inf)
    assert found.best == "LoRA(r=8, alpha=4, all-linear, lr=0.01)"


def test_the_settings_of_a_stage_are_trained_at_once_where_that_can_be() -> None:
    """By an executor that carries out nothing before all that a stage needs has been submitted."""
    together, trained = threading.Barrier(3), Trained(mis_set)

    class Elsewhere:
        remote = True

        def key(self, request: Request) -> str | None:
            return None

        def prepared(self, request: Request, key: str | None) -> Callable[[], Carried]:
            def carry_out() -> Carried:
                if request.method == METHOD and request.seed == 0 and request.recipe.method(METHOD) != DECLARED:
                    together.wait(timeout=20)
                return Carried(trained.runs([request])[0], None)

            return carry_out

    runner = Runner(executor=Elsewhere())
    found = sweep(a_recipe(), Search(ranks=(), targets=(), variants=()), runner, "cpu", 10, 2)
    assert found.best == "LoRA(r=2, alpha=4, c_attn, lr=0.01)"
    assert not together.broken


def test_what_is_tried_may_be_chosen() -> None:
    search = Search(multiples=(10,), ranks=(4, 16), targets=(["c_attn", "c_proj"],), variants=("DoRA",))
    found, _ = searched(mis_set, search)
    assert [one.changed for one in found.settings[1:]] == [
        *("10x full's learning rate", "rank 4", "rank 16"),
        *("targets c_attn+c_proj", "DoRA"),
    ]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"variants": ("QLoRA",)}, r"ft_sweep\(variants=\('QLoRA',\)\); allowed: rsLoRA, DoRA, PiSSA"),
        ({"variants": "DoRA"}, r"ft_sweep\(variants='DoRA'\); allowed"),
        ({"multiples": (0,)}, r"ft_sweep\(multiples=\(0,\)\); allowed: numbers greater than 0"),
    ],
)
def test_what_cannot_be_tried_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        Search(**choices)


def test_recipes_that_are_not_about_lora_against_full_are_refused() -> None:
    with pytest.raises(ComparisonError, match="ft_sweep is about LoRA against full"):
        searched(mis_set, full=None)
    with pytest.raises(ComparisonError, match="ft_sweep is about LoRA against full"):
        searched(mis_set, lora=Peft(type("C", (), {"peft_type": "IA3"})()))  # type: ignore[arg-type]


def test_an_adapter_that_does_not_follow_its_method_is_refused() -> None:
    """What would be compared is the same adapter again and again."""

    class Deaf(Trained):
        def _run(self, request: Request) -> Run:
            run = super()._run(request)
            same = Parameters(tensors("full"), LORA_FORM)
            return dataclasses.replace(run, parameters=same) if request.method == METHOD else run

    told = r"^adapt\(model, method\) does not follow LoRA\(.*: 100 train, it means 32"
    with pytest.raises(ComparisonError, match=told):
        sweep(a_recipe(), Search(), Deaf(mis_set), "cpu", 10, 3)  # type: ignore[arg-type]
