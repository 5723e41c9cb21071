"""``Recipe.from_script``: an unchanged script is found out, observed, and ended at the horizon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_ftcheck import Full, LoRA, Recipe
from pytest_ftcheck.errors import RecipeError, TrainingError
from pytest_ftcheck.execution import execute

SCRIPT = """
import sys, torch
from torch import nn
import beside

torch.manual_seed(int(sys.argv[2]))
teacher = nn.Linear(4, 4).requires_grad_(False)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[1]))
for step in range({steps}):
    x = torch.randn(3, 4)
    loss = nn.MSELoss()(model(x), teacher(x)) * beside.ONE
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
open("{folder}/ended", "w").close()
{end}
"""


@pytest.fixture
def make(tmp_path: Path) -> object:
    def script(steps: int = 1000, end: str = "", arguments: object = ("{lr}", "{seed}")) -> Recipe:
        (tmp_path / "beside.py").write_text("ONE = 1.0\n")
        file = tmp_path / "finetune.py"
        file.write_text(SCRIPT.format(steps=steps, folder=tmp_path, end=end))
        return Recipe.from_script(file, arguments, full=Full(lr=0.1), lora=None, steps=5, threads=1)  # type: ignore[arg-type]

    return script


def test_the_scripts_model_is_found_and_ends_at_the_horizon(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = execute(make(), "full", 0, 5, "cpu")
    assert run.parameters.total == 4 * 8 + 8 + 8 * 4 + 4
    assert len(run.loss.train) == 5
    assert run.optimizers[0].groups[0].lr == (0.1,) * 5
    assert not (tmp_path / "ended").exists()


def test_a_script_that_ends_too_early_is_an_error(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match="made 3 updates; the recipe's horizon is 5"):
        execute(make(steps=3), "full", 0, 5, "cpu")


def test_a_script_that_exits_with_an_error_is_an_error_that_shows_its_arguments(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match=r"exited with 3; its arguments were \['0.1', '0'\]"):
        execute(make(steps=2, end="sys.exit(3)"), "full", 0, 5, "cpu")


def test_an_exit_without_an_error_is_an_end_like_any_other(make) -> None:  # type: ignore[no-untyped-def]
    assert execute(make(steps=5, end="sys.exit()"), "full", 0, 5, "cpu").steps == 5


def test_arguments_may_be_a_function_of_the_job(make) -> None:  # type: ignore[no-untyped-def]
    run = execute(make(arguments=lambda job: [job.lr / 2, job.seed]), "full", 3, 5, "cpu")
    assert run.optimizers[0].groups[0].lr == (0.05,) * 5


def test_nothing_of_the_script_is_left_behind(make) -> None:  # type: ignore[no-untyped-def]
    from torch import nn

    argv, path, call = sys.argv, list(sys.path), nn.Module.__call__
    execute(make(), "full", 0, 5, "cpu")
    assert (sys.argv, sys.path, nn.Module.__call__) == (argv, path, call)


@pytest.mark.parametrize(
    ("path", "arguments", "error"),
    [
        ("missing.py", (), "'missing.py' is not a file"),
        (__file__, "--lr 3", "arguments is '--lr 3'; allowed: a list"),
        (__file__, ["--lr={rate}"], r"argument '--lr=\{rate\}'; allowed in braces: \{method\}, "),
    ],
)
def test_a_wrong_script_or_argument_is_refused_by_name(path: str, arguments: object, error: str) -> None:
    with pytest.raises(RecipeError, match=error):
        Recipe.from_script(path, arguments)  # type: ignore[arg-type]


def test_a_base_model_besides_gives_the_closed_form(tmp_path: Path, repos: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("finetune_script", repos / "script" / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe = Recipe.from_script(
        repos / "script" / "finetune.py",
        ["--method={method}", "--max-steps={steps}"],
        model=module.load_base,
        lora=LoRA(r=8, target_modules=["c_attn"]),
        steps=4,
    )
    run = execute(recipe, "lora", 0, 4, "cpu")
    where = "each of 2 modules (transformer.h.*.attn.c_attn)"
    where = "each of 2 modules (transformer.h.*.attn.c_attn)"
    assert list(run.deviations) == [f"512 trainable instead of 1,024 in {where}: rank 4 instead of 8"]
