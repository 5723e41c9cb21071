"""The cost of an update: declared, predicted and measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import tiny_recipe

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.acceptance import Acceptance
from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.checks.examination import examine
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.evidence.few import alike
from pytest_ftcheck.evidence.peaks import Peaks, peaks
from pytest_ftcheck.predict.declared import Declared, DeclaredCosts
from pytest_ftcheck.predict.forecast import Forecast
from pytest_ftcheck.predict.present import profile_of
from pytest_ftcheck.run import Breakdown, Memory
from pytest_ftcheck.tasks.loop import epochs

(DECLARED,) = chosen(["cost-as-declared"])
(PREDICTED,) = chosen(["memory-as-predicted"])
ACCEPT = 'pytest --ftcheck-audit --ftcheck-checks=cost-as-declared --ftcheck-update --ftcheck-reason="..."'


def accept(recipe: Recipe, root: Path, reason: str = "the first") -> list[str]:
    """Declare what ``recipe`` costs with LoRA; the lines that are shown."""
    told: list[str] = []
    leave = Acceptance(reason, told.append)
    verdict = examine(DECLARED, Evidence(recipe, "lora", root=root, acceptance=leave))
    assert verdict.status == "passed", verdict
    return told


def judge(recipe: Recipe, root: Path) -> Verdict:
    return examine(DECLARED, Evidence(recipe, "lora", root=root))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny recipe's cost is declared."""
    folder = tmp_path_factory.mktemp("declared")
    (told,) = accept(tiny_recipe(cost="costs.json"), folder)
    assert re.fullmatch(rf"tiny \(lora\) in {folder}/costs.json: \S+ kB at the peak, in \w+; [\d,]+ FLOPs .*", told)
    return folder


def test_a_cost_that_is_as_declared_passes(root: Path) -> None:
    assert judge(tiny_recipe(cost="costs.json"), root).status == "passed"
    assert judge(tiny_recipe(cost=root / "costs.json"), Path("/elsewhere")).status == "passed"


def test_another_learning_rate_costs_nothing(root: Path) -> None:
    from pytest_ftcheck import LoRA

    slower = LoRA(r=2, alpha=4, target_modules=["c_attn"], lr=1e-5)
    assert judge(tiny_recipe(cost="costs.json", lora=slower), root).status == "passed"


def test_a_cost_that_has_changed_fails_with_what_changed(root: Path) -> None:
    verdict = judge(tiny_recipe(cost="costs.json", batch_size=8), root)
    assert verdict.status == "failed"
    lines = str(verdict).splitlines()
    assert re.match(r"cost-as-declared \(lora\): peak \+\S+ kB \(\+[\d.]+%\): [\d,]+ -> [\d,]+ B, in \w+", lines[0])
    assert any(line.startswith("  FLOPs forward +") for line in lines)
    assert "  declared because: the first" in lines
    assert "  likely cause: a micro-batch has 48 tokens, before 24: other rows, lengths or batch size" in lines
    assert f"  remedy: undo it, or accept it with {ACCEPT}" in lines
    assert len(lines) <= 24


def test_a_cost_that_nobody_declared_is_not_applicable_and_a_missing_one_fails(tmp_path: Path) -> None:
    assert judge(tiny_recipe(), tmp_path).reason == "the recipe declares no cost (Recipe.cost)"
    verdict = judge(tiny_recipe(cost="none.json"), tmp_path)
    assert verdict.status == "failed"
    assert f"0 costs of tiny (lora) are declared in {tmp_path}/none.json" in str(verdict)
    assert ACCEPT in str(verdict)


def test_another_recipe_s_or_method_s_entry_does_not_count(root: Path) -> None:
    assert judge(tiny_recipe(cost="costs.json", name="other"), root).status == "failed"
    full = examine(DECLARED, Evidence(tiny_recipe(cost="costs.json"), "full", root=root))
    assert full.status == "failed"


def test_a_damaged_file_blocks_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{\n  "tiny": oops\n}')
    verdict = judge(tiny_recipe(cost="costs.json"), tmp_path)
    assert verdict.status == "blocked"
    assert verdict.reason.startswith(f"{tmp_path}/costs.json:2: not JSON: ")


def test_the_gpu_is_the_one_in_the_file(root: Path, tmp_path: Path) -> None:
    text = (root / "costs.json").read_text()
    (tmp_path / "costs.json").write_text(text.replace('"gpu": "h100"', '"gpu": "b400"'))
    verdict = judge(tiny_recipe(cost="costs.json"), tmp_path)
    assert verdict.status == "blocked"
    assert verdict.reason.startswith("gpu is 'b400'; allowed: ")


def test_accepting_again_what_is_declared_changes_nothing(root: Path) -> None:
    before = (root / "costs.json").read_bytes()
    assert accept(tiny_recipe(cost="costs.json"), root, reason="again") == []
    assert (root / "costs.json").read_bytes() == before


def test_accepting_a_change_says_what_changed_and_why(root: Path, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_bytes((root / "costs.json").read_bytes())
    recipe = tiny_recipe(cost="costs.json", batch_size=8)
    (told,) = accept(recipe, tmp_path, reason="larger batches")
    assert re.search(r"costs.json: peak \+\S+ kB \(", told)
    declared = DeclaredCosts(tmp_path / "costs.json").read("tiny", "lora")
    assert isinstance(declared, Declared)
    assert declared.reason == "larger batches"
    assert judge(recipe, tmp_path).status == "passed"


def looping(one: Callable[[Job, Any, list[Any]], None]) -> Callable[[Job], None]:
    """A loop that does ``one(job, batch, kept)`` with each micro-batch."""

    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        windows, kept = epochs(job), list[Any]()
        for _ in range(job.steps):
            for rows in next(windows):
                one(job, job.collate(rows), kept)
            optimizer.step()
            optimizer.zero_grad()

    return train


def deciding(job: Job, batch: Any, kept: list[Any]) -> None:
    """By a value that only real weights have."""
    output = job.model(**batch)
    assert int(output.logits.argmax()) >= 0
    output.loss.backward()


def test_a_declared_cost_of_what_cannot_be_predicted_fails(root: Path) -> None:
    verdict = judge(tiny_recipe(cost="costs.json", train=looping(deciding)), root)
    assert verdict.status == "failed"
    assert "0 of the declared costs can be held to: " in str(verdict)


def test_what_cannot_be_predicted_is_not_applicable_to_what_is_measured() -> None:
    verdict = examine(PREDICTED, Evidence(tiny_recipe(train=looping(deciding)), "lora"))
    assert verdict.status == "not applicable"
    assert verdict.reason.startswith("the training cannot be predicted: ")


def collecting(job: Job, batch: Any, kept: list[Any]) -> None:
    output = job.model(**batch)
    output.loss.backward()
    kept.append(output.logits.detach())


def only_with_values(job: Job, batch: Any, kept: list[Any]) -> None:
    """A loss that is not what a prediction takes it to be brings about a copy of everything."""
    output = job.model(**batch)
    if output.loss.item() > 1.5:
        kept[:] = [parameter.detach().clone() for parameter in job.model.parameters()]
    output.loss.backward()


def counting(job: Job, batch: Any, kept: list[Any]) -> None:
    output = job.model(**batch)
    output.loss.backward()
    kept.append(output.loss.item())


HEALTHY: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "bfloat16": ("lora", dict(dtype="bfloat16")),
    "accumulation": ("full", dict(accumulation=4, batch_size=2)),
    "loop": ("lora", dict(train=looping(counting))),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_training_is_as_predicted(kind: str) -> None:
    method, changes = HEALTHY[kind]
    verdict = examine(PREDICTED, Evidence(tiny_recipe(**changes), method))
    assert verdict.status == "passed", verdict


def test_logits_that_are_collected_are_found_as_growth() -> None:
    told: list[Forecast] = []
    verdict = examine(PREDICTED, Evidence(tiny_recipe(train=looping(collecting)), "lora", tell=told.append))
    # A report has both, and of which rows they are.
    (forecast,) = told
    assert forecast.measured is not None
    assert forecast.memory is not None
    assert forecast.measured.peak_bytes > forecast.memory.peak_bytes
    assert (forecast.method, forecast.gpu, forecast.rows) == ("lora", "", "the first row, many times")
    assert verdict.status == "failed"
    text = str(verdict)
    assert re.search(r"kB at the peak of update 8, predicted \S+ kB \(\+[\d.]+%, allowed 1.0%\)", text)
    assert "likely cause: memory grows from update to update" in text


def test_what_only_real_values_bring_about_is_found() -> None:
    verdict = examine(PREDICTED, Evidence(tiny_recipe(train=looping(only_with_values)), "lora"))
    assert verdict.status == "failed"
    assert "a branch on a value" in str(verdict)


def test_a_training_of_one_update_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(1, 0, 0, 0, 0, "forward", Breakdown())
    monkeypatch.setattr("pytest_ftcheck.evidence.peaks.peaks", lambda evidence: Peaks((1,), (6,), memory))
    verdict = examine(PREDICTED, Evidence(tiny_recipe(), "lora"))
    assert verdict.reason == "fewer than 2 updates were made"


def test_only_updates_with_as_many_tokens_are_compared() -> None:
    memory = Memory(9, 0, 0, 0, 0, "forward", Breakdown())
    assert Peaks((1, 2, 9, 3), (6, 6, 8, 6), memory).like(1) == {1: 2, 3: 3}


def test_updates_of_rows_that_are_alike_have_equal_peaks() -> None:
    seen = peaks(Evidence(tiny_recipe(), "lora"))
    assert len(seen.peak_bytes) == 8
    assert len(set(seen.peak_bytes[1:])) == 1
    assert set(seen.tokens) == {24}
    assert max(seen.peak_bytes) == seen.memory.peak_bytes


def test_rows_are_made_alike_in_whatever_holds_them() -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"a": 1}, {"a": 2}]
    assert alike(rows, 3) == [{"a": 1}] * 3
    assert list(alike(datasets.Dataset.from_list(rows), 3)) == [{"a": 1}] * 3
    stream = iter(rows)
    assert alike(stream, 3) is stream


@pytest.mark.parametrize(
    ("name", "capability", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), "h100"),
        ("NVIDIA A100-SXM4-80GB", (8, 0), "a100"),
        ("NVIDIA GeForce RTX 4090", (8, 9), "rtx4090"),
        ("Tesla T4", (7, 5), "t4"),
        ("NVIDIA GH200 480GB", (9, 0), "NVIDIA GH200 480GB"),
        ("NVIDIA GeForce RTX 3090", (8, 6), "NVIDIA GeForce RTX 3090"),
    ],
)
def test_a_gpu_has_its_own_profile_or_one_of_its_generation(
    name: str, capability: tuple[int, int], profile: str
) -> None:
    gpu = profile_of(name, capability)
    assert gpu is not None
    assert (gpu.name, gpu.capability) == (profile, capability)


def test_a_gpu_of_no_known_generation_has_no_profile() -> None:
    assert profile_of("NVIDIA B200", (10, 0)) is None
    assert profile_of("Tesla V100", (6, 0)) is None


def test_a_training_on_a_gpu_without_a_profile_is_not_applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ftcheck.predict.present.present_gpu", lambda device: None)
    evidence = Evidence(tiny_recipe(), "lora")
    assert evidence.standard
    evidence.device = "cuda:0"
    verdict = examine(PREDICTED, evidence)
    assert verdict.reason == "there is no profile of a GPU like this one"
