"""The comparison at the end of a session."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from typing import Any

import pytest
from builders import LORA_FORM, a_memory, a_pair, a_run, tensors

from pytest_ftcheck import Pair, Run
from pytest_ftcheck.report.terminal import EARLY_STEP, group, recipe_lines, write_summary
from pytest_ftcheck.run import Flops, Parameters


class Reporter:
    """Takes down what is written."""

    verbosity = 0
    isatty = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.coloured: list[str] = []

    def write_sep(self, separator: str, title: str) -> None:
        self.lines.append(f"{separator} {title}")

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)
        if markup:
            self.coloured.append(line)


def runs_of(pair: Pair) -> list[Run]:
    return [*pair.fulls, *pair.loras]


def lines_of(runs: list[Run]) -> list[str]:
    (arms,) = group(runs)
    return recipe_lines(arms)


def summary(runs: list[Run]) -> Reporter:
    reporter = Reporter()
    write_summary(reporter, [run.to_json() for run in runs])
    return reporter


def cells(lines: list[str], name: str) -> list[str]:
    """The cells of a row of the table."""
    (row,) = (line for line in lines if line.startswith(f"  {name}  "))
    return row.removeprefix(f"  {name}").split()


def test_the_table_of_a_pair() -> None:
    pair = a_pair({30: (-0.25, -0.25), 250: (0.5, 0.5)})
    order = pair.loss_order(at=30).reason, pair.loss_order(at=250).reason
    assert lines_of(runs_of(pair)) == [
        "a recipe: 250 steps of 8 rows, seeds 0, 1, cpu, float32",
        "  Full(lr=0.001)",
        "  LoRA(r=2, alpha=4, c_attn, lr=0.01)",
        "                          full    LoRA r=2",
        "  parameters               100         132",
        "  trainable                100          32",
        "  trainable share        100 %     24.24 %",
        "  step time              10 ms       10 ms",
        "  FLOPs a step      3,000 FLOP  2,400 FLOP",
        "  peak memory             2 kB     1.31 kB",
        "  static memory         1.6 kB       912 B",
        "  loss at step 30            1        0.75",
        "  loss at step 250           1         1.5",
        "  loss, step 1 on           ▄▄          ▁█",
        "  LoRA r=2 against full: 68 % fewer trainable parameters; full takes 1.75x the static memory, "
        "1.52x the peak memory, 1.25x the FLOPs, 1x the step time",
        f"    {order[0]}",
        f"    {order[1]}",
    ]


def test_full_comes_first_and_seeds_in_order_whatever_came_first() -> None:
    pair = a_pair()
    mixed = [pair.loras[2], pair.fulls[1], pair.loras[0], pair.fulls[2], pair.loras[1], pair.fulls[0]]
    assert group(mixed) == [[list(pair.fulls), list(pair.loras)]]


def test_adapters_come_by_what_they_train_whichever_worker_was_first() -> None:
    wide = a_run("wide", title="LoRA r=64", declaration="LoRA(r=64)", parameters=Parameters(tensors("full"), LORA_FORM))
    (arms,) = group([wide, a_run("lora"), a_run()])
    assert [arm[0].title for arm in arms] == ["full", "LoRA r=2", "LoRA r=64"]


def test_a_run_that_comes_twice_counts_once() -> None:
    pair = a_pair()
    assert group([*runs_of(pair), *runs_of(pair)]) == group(runs_of(pair))
    assert summary([*runs_of(pair), *runs_of(pair)]).lines == summary(runs_of(pair)).lines


@pytest.mark.parametrize("difference", [{"recipe": "another"}, {"steps": 5}])
def test_another_recipe_or_horizon_has_a_table_of_its_own(difference: dict[str, Any]) -> None:
    assert len(group([a_run(), a_run("lora"), a_run(seed=1)])) == 1
    assert len(group([a_run(), a_run("lora", **difference)])) == 2


def test_arms_of_the_same_title_are_told_apart_by_their_method() -> None:
    runs = [a_run(), a_run("lora"), a_run("wide", declaration="LoRA(r=2, c_attn+c_proj)")]
    heads = next(line for line in lines_of(runs) if line.endswith("wide: LoRA r=2"))
    assert heads.strip().split("  ") == ["full", "lora: LoRA r=2", "wide: LoRA r=2"]


def test_every_other_arm_is_compared_with_full() -> None:
    runs = [a_run("lora"), a_run("wide", title="LoRA r=64", declaration="LoRA(r=64)"), a_run()]
    compared = [line.split(":")[0] for line in lines_of(runs) if "against full" in line]
    assert compared == ["  LoRA r=2 against full", "  LoRA r=64 against full"]


@pytest.mark.parametrize("runs", [[a_run()], [a_run("lora")], [a_run("lora"), a_run("wide", declaration="another")]])
def test_without_both_arms_nothing_is_compared(runs: list[Run]) -> None:
    lines = lines_of(runs)
    assert cells(lines, "parameters")
    assert not [line for line in lines if "against" in line]


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    pair = a_pair()
    some = lines_of([*pair.fulls, pair.loras[0], pair.loras[2]])
    assert [line for line in some if "2 paired seeds" in line]
    assert some[0].endswith("seeds 0, 1, 2, cpu, float32")
    none = lines_of([pair.fulls[0], pair.loras[1]])
    assert not [line for line in none if "against" in line]


@pytest.mark.parametrize("steps", [[EARLY_STEP - 1], [EARLY_STEP], [EARLY_STEP, EARLY_STEP + 1]])
def test_the_loss_is_shown_at_the_early_step_and_at_the_horizon(steps: list[int]) -> None:
    lines = lines_of(runs_of(a_pair(dict.fromkeys(steps, (0.5, 0.5)))))
    shown = [line.split()[3] for line in lines if line.startswith("  loss at step")]
    assert shown == [str(step) for step in steps]


def test_a_loss_that_was_not_measured_is_a_dash_and_not_compared() -> None:
    lines = lines_of(runs_of(a_pair({10: (0.5, 0.5), 250: (0.5, 0.5)})))
    assert cells(lines, "loss at step 30") == ["-", "-"]
    assert [line for line in lines if line.startswith("    ")][-1].startswith("    at step 250 full leads")


def test_times_and_losses_are_those_of_all_seeds() -> None:
    runs = [a_run(seed=seed, samples_s=(time,), evals={3: loss}) for seed, time, loss in ((0, 1.0, 2.0), (1, 3.0, 3.0))]
    runs.append(a_run(seed=2, samples_s=(90.0,), evals={3: 7.0}))
    lines = lines_of(runs)
    assert cells(lines, "step time") == ["3", "s"]
    assert cells(lines, "loss at step 3") == ["4"]


def test_a_step_that_was_not_timed_is_a_dash() -> None:
    assert cells(lines_of([a_run(samples_s=())]), "step time") == ["-"]


def test_the_summary_has_a_title_and_a_table_for_each_recipe() -> None:
    lines = summary([a_run(), a_run("lora"), a_run(recipe="another")]).lines
    assert lines[0] == "= ftcheck: full fine-tuning and LoRA"
    assert [line.split(":")[0] for line in lines if " steps of " in line] == ["a recipe", "another"]


def test_a_sound_summary_is_not_coloured() -> None:
    assert summary(runs_of(a_pair())).coloured == []


def test_a_deviation_is_written_in_colour_once_for_each_arm() -> None:
    leaky = Parameters(tensors("lora", wte={"moved": True}), LORA_FORM)
    runs = [a_run(), a_run(seed=1), a_run("lora", parameters=leaky), a_run("lora", seed=1, parameters=leaky)]
    (line,) = summary(runs).coloured
    assert line.startswith("  LoRA r=2, seed 0: 40 parameters are frozen but moved")


FROZEN = Parameters(tensors("full", wte={"trainable": False}, c_attn={"trainable": False}))
UNSOUND: dict[str, dict[str, Any]] = {
    "loss is nan in update 2 of 3 (the update before had 1, ": {"train": (1.0, math.nan, 1.0)},
    "loss is inf in update 1 of 1 (from the first update, ": {"train": (math.inf,)},
    "0 supervised tokens in update 1: ": {"supervised_tokens": (0, 1, 1)},
    "0 of 100 parameters are trainable)": {"parameters": FROZEN},
}


@pytest.mark.parametrize("unsound", UNSOUND)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_that_shows_nothing_is_in_the_table_and_not_compared(unsound: str, method: str) -> None:
    other = "lora" if method == "full" else "full"
    bad = a_run(method, **{"seed": 1, "steps": 3, **UNSOUND[unsound]})
    runs = [a_run(method), bad, a_run(other), a_run(other, seed=1)]
    lines = summary(runs).lines
    assert len(cells(lines, "parameters")) == 2
    (line,) = (line for line in lines if "against" in line)
    title = "full" if method == "full" else "LoRA r=2"
    assert line.startswith(f"  LoRA r=2 against full: not compared ({title}, seed 1: {unsound}")
    assert not [line for line in lines if "leads" in line]


def test_arms_that_saw_different_batches_are_said_to() -> None:
    lines = lines_of([a_run(), a_run("lora", batches="others")])
    assert lines[-1].startswith("    undecided: the arms saw different batches")


def test_the_memory_of_a_table_is_that_of_the_first_seed() -> None:
    runs = [a_run(seed=seed, memory=a_memory(peak_bytes=peak)) for seed, peak in ((1, 9000), (0, 3000))]
    assert cells(lines_of(runs), "peak memory") == ["3", "kB"]


@pytest.mark.parametrize(
    ("total", "cell"),
    [(0, "0 FLOP"), (999, "999 FLOP"), (387_946_000_000, "388 GFLOP"), (69_150 * 10**9, "69.2 TFLOP")],
)
def test_floating_point_operations_are_shown_in_the_unit_that_fits(total: int, cell: str) -> None:
    lines = lines_of([a_run(flops=Flops(forward=0, backward=total))])
    assert " ".join(cells(lines, "FLOPs a step")) == cell


def test_a_run_that_was_retried_is_told_of_whichever_seed_it_is_of() -> None:
    pair = a_pair()
    retried = dataclasses.replace(pair.fulls[1], batch_size=2, accumulation=4, retried="batch_size 4 -> 2")
    text = "\n".join(summary([pair.fulls[0], retried, pair.fulls[2], *pair.loras]).lines)
    assert "full, seed 1: trained with another batch than declared: batch_size 4 -> 2" in text
    assert "not of the same batches: updates of full were 2 rows x 4 and 4 rows x 2, of LoRA 4 rows x 2" in text


def test_a_run_that_was_resumed_is_told_of_whichever_seed_it_is_of() -> None:
    pair = a_pair()
    resumed = dataclasses.replace(pair.loras[1], resumed=(20, 40))
    told = [line for line in summary([*pair.fulls, pair.loras[0], resumed]).lines if "resumed" in line]
    assert told == [f"  {resumed.title}, seed 1: interrupted, and resumed after update 20, 40"]
    assert "resumed" not in "\n".join(summary([*pair.fulls, *pair.loras]).lines)


class Screen(Reporter):
    """A terminal of so many columns."""

    isatty = True

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._tw = types.SimpleNamespace(fullwidth=columns)


def arms_of(*ranks: str) -> list[str]:
    return [f"LoRA of rank {rank}" for rank in ranks]


def test_a_table_that_is_wider_than_the_screen_is_written_in_parts() -> None:
    arms = [a_run(name, title=f"LoRA of rank {name}", declaration=name) for name in ("16", "32", "64")]
    texts = [run.to_json() for run in arms]
    whole, parts, log = Screen(200), Screen(60), Reporter()
    for reporter in (whole, parts, log):
        write_summary(reporter, texts)
    heads = [line for line in parts.lines if line.lstrip().startswith("LoRA of rank")]
    assert [re.split(" {2,}", head.strip()) for head in heads] == [arms_of("16", "32"), arms_of("64")]
    assert max(map(len, parts.lines)) <= 60
    assert sum("trainable share" in line for line in parts.lines) == 2
    assert whole.lines == log.lines
    assert sum("trainable share" in line for line in log.lines) == 1


def test_a_screen_that_is_too_narrow_for_anything_has_an_arm_at_a_time() -> None:
    screen = Screen(10)
    write_summary(screen, [run.to_json() for run in runs_of(a_pair())])
    assert sum("trainable share" in line for line in screen.lines) == 2


def test_quiet_sessions_have_deviations_only() -> None:
    sound, other = Reporter(), Reporter()
    sound.verbosity = other.verbosity = -1
    pair = a_pair()
    write_summary(sound, [run.to_json() for run in runs_of(pair)])
    assert sound.lines == []
    write_summary(other, [dataclasses.replace(pair.full, retried="batch_size 4 -> 2").to_json()])
    assert other.lines == [
        "= ftcheck: full fine-tuning and LoRA",
        "  full, seed 0: trained with another batch than declared: batch_size 4 -> 2",
    ]
