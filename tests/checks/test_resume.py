from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.checks.examination import examine
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.evidence.states import States
from pytest_ftcheck.tasks import checkpoint, loop
from pytest_ftcheck.tasks.instruction import instruction_recipe

VerdictOn = Callable[..., Verdict]


def failed(recipe: Recipe, method: str = "lora") -> set[str]:
    """The checks of the theme that fail: on one evidence, so that they share their trainings."""
    evidence = Evidence(recipe, method)
    return {
        check.id for check in chosen(["resume"]) if examine(check, evidence).status not in ("passed", "not applicable")
    }


def losing(what: str, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The sound recipe whose checkpoints lose one thing."""
    inner = checkpoint.load

    def load(folder: Path, model: Any, optimizer: Any, schedule: Any) -> int:
        generator, fresh = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
        update = inner(folder, model, optimizer, schedule)
        if what == "generator":
            torch.set_rng_state(generator)
        elif what == "parameters":
            model.load_state_dict(fresh)
        elif what == "moments":
            optimizer.state.clear()
        elif what == "second moments":
            for entry in optimizer.state.values():
                entry["exp_avg_sq"].zero_()
        return 0 if what == "position" else update

    monkeypatch.setattr(checkpoint, "load", load)
    return instruction_recipe()


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("nothing", set()),
        ("generator", {"resume-restores-generators"}),
        ("parameters", {"resume-restores-parameters"}),
        ("moments", {"resume-restores-optimizer"}),
        ("second moments", {"resume-restores-optimizer"}),
        ("position", {"resume-goes-on-in-the-data"}),
    ],
)
def test_exactly_the_state_that_was_lost_is_named(what: str, found: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(losing(what, monkeypatch)) == found


def test_a_loop_without_checkpoints_is_not_judged(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("resume-goes-on-in-the-data", instruction_recipe(train=None))
    assert verdict.status == "not applicable"
    assert "writes no checkpoint" in verdict.reason


def test_a_loop_that_never_reads_its_checkpoints_is_not_judged(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        job.resume_from = None
        loop.train(job)

    verdict = verdict_on("resume-restores-parameters", instruction_recipe(train=train))
    assert verdict.status == "not applicable"
    assert "does not go on from job.resume_from" in verdict.reason


def keeping(choose: Callable[[list[Path]], list[Path]]) -> Callable[[Job], None]:
    """The sound loop, which after each checkpoint deletes all but those that ``choose`` returns."""

    def train(job: Job) -> None:
        write = checkpoint.save

        def save(folder: Path, *state: Any) -> None:
            write(folder, *state)
            found = list(folder.parent.iterdir())
            for path in set(found) - set(choose(found)):
                shutil.rmtree(path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", save)
            loop.train(job)

    return train


def number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


@pytest.mark.parametrize(
    ("choose", "status"),
    [
        (lambda found: sorted(found)[-2:], "failed"),
        (lambda found: sorted(found, key=number)[-2:], "passed"),
        (lambda found: sorted(found, key=number)[-1:], "passed"),
        (lambda found: [p for p in found if number(p) == 9] + sorted(found, key=number)[-1:], "failed"),
        (lambda found: found, "not applicable"),
    ],
    ids=["by name", "by number", "the last", "the last and an old one", "all"],
)
def test_which_checkpoints_stay(verdict_on: VerdictOn, choose: Any, status: str) -> None:
    verdict = verdict_on("newest-checkpoints-are-kept", instruction_recipe(train=keeping(choose)))
    assert verdict.status == status, verdict


def test_a_loop_that_keeps_its_last_checkpoint_only_is_judged_all_the_same(verdict_on: VerdictOn) -> None:
    train = keeping(lambda found: sorted(found, key=number)[-1:])
    assert verdict_on("resume-goes-on-in-the-data", instruction_recipe(train=train)).status == "passed"


def write(path: Path, size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["checkpoint-{n}/model.safetensors", "checkpoint-{n}/state.json"], "checkpoint-{n}"),
        (["checkpoints/checkpoint_{m}/model.safetensors"], "checkpoints/checkpoint_{m}"),
        (["checkpoint-{n}/adapter/adapter_model.safetensors", "checkpoint-{n}/optimizer.pt"], "checkpoint-{n}"),
        (["step_{n}.pt"], "step_{n}.pt"),
        (["logs/version_0/checkpoints/epoch=0-step={n}.ckpt"], "logs/version_0/checkpoints/epoch=0-step={n}.ckpt"),
        (["last/model.safetensors"], "last"),
        (["last.pt"], "last.pt"),
    ],
)
def test_a_checkpoint_is_told_from_what_was_written_after_an_update(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    states = States(tmp_path)
    for n in (1, 2, 3):
        states._updates = n
        for index, name in enumerate(files):
            write(tmp_path / name.format(n=n, m=n - 1), size=10 * n - index)
        states.training_ended()
    last = tmp_path / expected.format(n=3, m=2)
    assert states.kept()[3] == last
    if "{" in expected:
        assert sorted(states.kept()) == [1, 2, 3]
        assert states.kept()[1] == tmp_path / expected.format(n=1, m=0)
    else:
        assert sorted(states.kept()) == [3]
