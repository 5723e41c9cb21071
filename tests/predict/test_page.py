"""What docs/prediction.md promises that a machine can check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_ftcheck.predict import GPUS, Gpu
from pytest_ftcheck.predict.arguments import parsed
from pytest_ftcheck.report.prediction import FOOTER

PAGE = (Path(__file__).parents[2] / "docs" / "prediction.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
IN_TESTS = [code for code in PYTHON if "def test_" in code]


def test_the_code_of_the_page_runs_as_it_is() -> None:
    names: dict[str, Any] = {}
    for code in PYTHON:
        if code not in IN_TESTS:
            exec(code, names)
    assert "largest" in names


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    (code,) = IN_TESTS
    pytester.makepyfile(code)
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_the_commands_of_the_page_are_understood() -> None:
    commands = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    assert commands
    for command in commands:
        parsed(command.partition("pytest_ftcheck.predict ")[2].split())


def test_every_option_that_the_page_names_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_every_profile_is_in_the_table_with_its_figures(gpu: Gpu) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{gpu.name}` |"))
    assert [cell.split()[0] for cell in row.strip("|").split("|")[1:]] == [
        f"{gpu.memory_bytes / 2**30:.2f}",
        f"{gpu.capability[0]}.{gpu.capability[1]}",
        f"{gpu.flops_per_s['bfloat16'] / 1e12:g}",
        f"{gpu.bandwidth_bytes_per_s / 1e12:g}",
    ]


def test_the_output_on_the_page_ends_as_outputs_do() -> None:
    (output,) = [code for language, code in BLOCKS if language == "text"]
    assert output.splitlines()[-1] == FOOTER
