"""What goes wrong, made to go wrong: for each heading of docs/failures.md a function that gives what is said."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import a_pair, a_run
from recipes import tiny_recipe, tiny_rows
from test_gating import CONFTEST, ONE, QUICK, UPDATE

from pytest_ftcheck import Job, LoRA, check_training, devices
from pytest_ftcheck.allowance import Allowance
from pytest_ftcheck.errors import FtcheckError
from pytest_ftcheck.report.sabotage import score_lines
from pytest_ftcheck.report.sharing import unshared_line
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.tasks.models import tiny_gpt2
from pytest_ftcheck.training import train
from pytest_ftcheck.trial import Trial

GB = 10**9
# Heading -> what is said, given pytester and monkeypatch.
Situation = Callable[[pytest.Pytester, pytest.MonkeyPatch], str]
SITUATIONS: dict[str, Situation] = {}


def under(heading: str) -> Callable[[Situation], Situation]:
    """Registers a situation as that of a heading of the page."""

    def register(situation: Situation) -> Situation:
        SITUATIONS[heading] = situation
        return situation

    return register


def refused(method: str = "full", *, allowance: Allowance | None = None, **changes: Any) -> str:
    """What is said where the tiny recipe, so changed, is trained for a test."""
    with pytest.raises(FtcheckError) as caught:
        Runner(allowance=allowance).run(Request(tiny_recipe(**changes), method, 0, 6, "cpu"))
    return str(caught.value)


def reported(check: str, **changes: Any) -> str:
    """What one check says of the tiny recipe, so changed."""
    (verdict,) = check_training(tiny_recipe(**changes), methods=["full"], select=[check])
    return str(verdict)


# Trainings that show nothing.


@under("No update")
def no_update(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def of_another_model(job: Job) -> None:
        job.model = tiny_recipe().model()
        train(job)

    return f"{refused(train=of_another_model)}\n{reported('training-completes', train=of_another_model)}"


@under("Fewer updates than declared")
def fewer_updates(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def with_a_scaler(job: Job) -> None:
        """In which the first updates overflow, and are skipped."""
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=100)
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr)
        for _ in range(job.steps):
            loss = job.loss(job.model, job.collate(job.train_data[:4]))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    return refused(train=with_a_scaler)


@under("Nothing moved")
def nothing_moved(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def idle(job: Job) -> None:
        job.lr = 0.0
        train(job)

    return refused("lora", train=idle)


@under("Nothing is trainable")
def nothing_is_trainable(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def frozen(job: Job) -> None:
        job.model.requires_grad_(False)
        train(job)

    return refused("lora", train=frozen)


@under("The loss is NaN")
def not_a_number(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    calls: list[None] = []

    def loss(model: Any, batch: Any) -> torch.Tensor:
        calls.append(None)
        value: torch.Tensor = model(**batch).loss * (float("nan") if len(calls) > 2 else 1.0)
        return value

    return refused(loss=loss, eval_data=None)


@under("No token is supervised")
def no_supervision(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def unguarded(job: Job) -> None:
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr)
        for _ in range(job.steps):
            job.loss(job.model, job.collate(job.train_data[:4])).backward()
            optimizer.step()

    return refused(train=unguarded, train_data=tiny_rows(labelled=False), eval_data=None)


@under("The loop raised an error")
def raised(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def my_loop(job: Job) -> None:
        raise KeyError("labels")

    return refused(train=my_loop)


@under("The target modules are not there")
def no_such_target(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    return refused("lora", lora=LoRA(target_modules=["c_atn"]))


@under("It takes too long")
def too_long(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def hanging(job: Job) -> None:
        time.sleep(60)

    return refused(train=hanging, allowance=Allowance(time_limit_s=0.2)).replace("0.2 s", "600 s")


# Devices and memory.


@under("Out of memory")
def out_of_memory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def full(job: Job) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    return refused(train=full, model=lambda: tiny_gpt2(20, 6, width=256, layers=2))


@under("There is no GPU")
def no_gpu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((), "no GPU driver on this machine"))
    pytester.makepyfile("import pytest\n\n@pytest.mark.gpu\ndef test_it(ft_device): pass")
    with pytest.raises(FtcheckError) as caught:
        devices.resolve_device("cuda")
    skipped = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs").stdout.str()
    return f"{caught.value}\n{skipped}"


@under("The GPU is in use")
def gpu_in_use(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * GB,)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (59 * GB, 80 * GB))
    with pytest.raises(FtcheckError) as caught:
        devices.resolve_device("auto")
    return str(caught.value)


# Baselines.


def baseline_session(pytester: pytest.Pytester, *, before: str = "", after: str = "") -> str:
    """What a session says of the test file ``after``, whose baseline (if there is one) is that of ``before``."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=ONE)
    if before:
        pytester.makepyfile(test_it=before)
        pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    pytester.makepyfile(test_it=after or ONE)
    return pytester.runpytest_inprocess(*QUICK, "-rA").stdout.str()


@under("No baseline")
def no_baseline(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    return baseline_session(pytester)


@under("Worse than its baseline")
def worse(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    return baseline_session(pytester, before=ONE, after=ONE.replace("100_000", "140_000"))


@under("Not comparable")
def not_comparable(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    on_a_gpu = ONE.replace("a_run(", "on_h200(").replace(
        "def test_it", "from situations import on_h200\n\n    def test_it"
    )
    return baseline_session(pytester, before=on_a_gpu)


def on_h200(*arguments: Any, **changes: Any) -> Any:
    """A run as ``a_run`` makes them, on another machine."""
    run = a_run(*arguments, **changes)
    environment = dataclasses.replace(run.environment, device="cuda:0", device_name="NVIDIA H200")
    return dataclasses.replace(run, environment=environment)


# Statistics.


@under("Undecided")
def undecided(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    gaps = {10: (-0.2, -0.21, -0.19), 30: (-0.01, -0.011, -0.009), 250: (0.015, 0.016, 0.014)}
    alone = {250: (0.015,)}
    return f"{a_pair(gaps).loss_order(at=30)!r}\n{a_pair(alone).loss_order(at=250)!r}"


@under("Unstable: cannot decide")
def unstable(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(a_pair({250: (0.02, -0.02, 0.01, -0.01, 0.0)}).losses_equal(margin=0.01))


@under("Too early to tell")
def too_early(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    gaps = dict.fromkeys((1, 2, 5, 10, 20, 30), (0.0, 0.001, -0.001))
    pair = a_pair(gaps)
    falling = {at: 3.0 * at**-0.5 for at in gaps}
    arms = [
        tuple(dataclasses.replace(run, loss=dataclasses.replace(run.loss, eval=tuple(falling.items()))) for run in arm)
        for arm in (pair.fulls, pair.loras)
    ]
    return repr(type(pair)(*arms).decision())


# The catalogue.


@under("A finding that is a choice")
def a_choice(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    def in_one_order(job: Job) -> None:
        order = torch.randperm(len(job.train_data), generator=torch.Generator().manual_seed(job.seed)).tolist()
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr)
        for step in range(job.steps):
            places = [order[(4 * step + i) % len(order)] for i in range(4)]
            job.loss(job.model, job.collate([job.train_data[place] for place in places])).backward()
            optimizer.step()
            optimizer.zero_grad()

    return reported("rows-reshuffled-each-epoch", train=in_one_order)


@under("An expected failure that passes")
def stale(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    expected = {"rows-reshuffled-each-epoch": "a curriculum"}
    verdicts = check_training(tiny_recipe(), methods=["full"], select=list(expected), expected_failures=expected)
    return "\n".join(map(str, verdicts))


@under("A sabotage that nobody noticed")
def nobody_noticed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    trials = [
        Trial("labels-shifted-twice", "labels", "my_repo", by_check="labels-shifted-once", by_test=""),
        Trial("training-raises", "conduct", "my_repo", by_check="training-completes", by_test="test_it.py::test_it"),
    ]
    return "\n".join(score_lines(trials))


# The session.


@under("A run that is not shared")
def not_shared(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    rows = map(dict, tiny_rows())
    request = Request(tiny_recipe(train_data=lambda: rows), "full", 0, 6, "cpu")
    assert request.key() is None
    return f"ftcheck: {unshared_line([json.dumps([request.title, request.unknown()])])}"


@under("Too few tests were executed")
def too_few(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    pytester.makepyfile("def test_it(ft_device): pass")
    arguments = ("-p", "no:cacheprovider", "--ftcheck-device=cpu", "--ftcheck-min-checks=4")
    return pytester.runpytest_inprocess(*arguments).stdout.str()


@under("A value that is not allowed")
def not_allowed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> str:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--ftcheck-device=gpu")
    return result.stderr.str()
