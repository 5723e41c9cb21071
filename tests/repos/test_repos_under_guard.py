"""The repositories in ``fixtures/repos``, guarded as their owners would: sound, they pass; broken, they say of what.

A break is made in the text of a repository's own training code, never in what its tests declare.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOS = ("plain_loop", "hf_trainer", "seed_gpt2")

CPU = ("--ftcheck-device=cpu", "-p", "no:cacheprovider")
# A break shows in the first updates of one seed. An order of losses does not, so it is left out, and what is slow is.
LEFT_OUT = "not horizon and not step_30 and not epoch and not script_runs"
QUICK = (*CPU, "--ftcheck-steps=4", "--ftcheck-seeds=1", "-k", LEFT_OUT)


@dataclass(frozen=True)
class Break:
    """``line`` of ``file`` becomes ``broken``; a failure of the repository's tests must then say ``cause``."""

    repo: str
    file: str
    line: str
    broken: str
    cause: str


RETURNS_ADAPTED = "    return get_peft_model(model, config)\n"
BREAKS = {
    "plain_loop-adapter-frozen": Break(
        "plain_loop",
        "plain_finetune.py",
        "        lora_alpha=16,\n",
        "        lora_alpha=16,\n        inference_mode=True,\n",
        "  likely cause: the adapter or model is frozen",
    ),
    "plain_loop-base-not-frozen": Break(
        "plain_loop",
        "plain_finetune.py",
        RETURNS_ADAPTED,
        "    return get_peft_model(model, config).requires_grad_(True)\n",
        "E * trainable instead of 6,144 in 15 modules together (*): the base is not frozen",
    ),
    "plain_loop-rank-4": Break(
        "plain_loop",
        "plain_finetune.py",
        "        r=8,\n",
        "        r=4,\n",
        "E * 3,072 trainable instead of 6,144 in 4 modules together (*.qkv, *.proj): rank 4 instead of 8",
    ),
    "plain_loop-learning-rate-0": Break(
        "plain_loop",
        "plain_finetune.py",
        "AdamW(trainable, lr=lr, ",
        "AdamW(trainable, lr=0.0, ",
        "  likely cause: their learning rate is 0 in every update",
    ),
    # The head that comes with the adapter still trains, so the loss falls all the same.
    "hf_trainer-adapter-frozen": Break(
        "hf_trainer",
        "trainer_finetune.py",
        RETURNS_ADAPTED,
        "    adapted = get_peft_model(model, config)\n"
        "    for name, parameter in adapted.named_parameters():\n"
        "        parameter.requires_grad_('lm_head.modules_to_save' in name)\n"
        "    return adapted\n",
        "E * 0 trainable instead of 2,688 in 4 modules together (*.q_proj, *.v_proj): the adapter is frozen",
    ),
    "hf_trainer-base-not-frozen": Break(
        "hf_trainer",
        "trainer_finetune.py",
        RETURNS_ADAPTED,
        "    return get_peft_model(model, config).requires_grad_(True)\n",
        "E * trainable instead of 8,832 in 21 modules together (*): the base is not frozen",
    ),
    "hf_trainer-rank-4": Break(
        "hf_trainer",
        "trainer_finetune.py",
        "        r=8,\n",
        "        r=4,\n",
        "E * 1,344 trainable instead of 2,688 in 4 modules together (*.q_proj, *.v_proj): rank 4 instead of 8",
    ),
    "hf_trainer-learning-rate-0": Break(
        "hf_trainer",
        "trainer_finetune.py",
        "        learning_rate=learning_rate,\n",
        "        learning_rate=0.0,\n",
        "  likely cause: their learning rate is 0 in every update",
    ),
    "seed_gpt2-adapter-frozen": Break(
        "seed_gpt2",
        "seed_script.py",
        "    return get_peft_model(model, lora_config)\n",
        "    return get_peft_model(model, lora_config).requires_grad_(False)\n",
        "  likely cause: the adapter or model is frozen",
    ),
    "seed_gpt2-base-not-frozen": Break(
        "seed_gpt2",
        "seed_script.py",
        "    return get_peft_model(model, lora_config)\n",
        "    return get_peft_model(model, lora_config).requires_grad_(True)\n",
        "E * trainable instead of * in * modules together (*): the base is not frozen",
    ),
    # At real size too, without a GPU: this is where the seed's 147,456 comes from.
    "seed_gpt2-rank-4": Break(
        "seed_gpt2",
        "seed_script.py",
        "        r=8,\n",
        "        r=4,\n",
        "E *12,288 trainable instead of 24,576 in each of 12 modules (*.c_attn): rank 4 instead of 8*",
    ),
    "seed_gpt2-learning-rate-0": Break(
        "seed_gpt2",
        "seed_script.py",
        "        learning_rate=learning_rate,\n        max_steps=max_steps,\n        seed",
        "        learning_rate=0.0,\n        max_steps=max_steps,\n        seed",
        "  likely cause: their learning rate is 0 in every update",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _little_garbage() -> Iterator[None]:
    """A Trainer collects garbage around every training: 0.3 s with all modules loaded, 0.02 s with these set aside."""
    gc.freeze()
    yield
    gc.unfreeze()


def copied(repos: Path, name: str, pytester: pytest.Pytester) -> None:
    """Put the repository (all of them for ``""``) where the inner session runs."""
    shutil.copytree(repos / name, pytester.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize("name", REPOS)
def test_a_sound_repo_passes_without_other_plugins(repos: Path, name: str, pytester: pytest.Pytester) -> None:
    copied(repos, name, pytester)
    result = pytester.runpytest_inprocess(*CPU, "-p", "no:xdist", "-p", "no:benchmark")
    assert result.ret == pytest.ExitCode.OK
    assert set(result.parseoutcomes()) <= {"passed", "warnings", "warning"}
    result.stdout.fnmatch_lines([f"{name}*: * steps of * rows, seeds 0, 1, 2, cpu, float32"])


@pytest.mark.parametrize("name", REPOS)
def test_a_sound_repo_passes_the_quick_run_that_breaks_fail(repos: Path, name: str, pytester: pytest.Pytester) -> None:
    copied(repos, name, pytester)
    assert pytester.runpytest_inprocess(*QUICK).ret == pytest.ExitCode.OK


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_turns_the_repo_red_and_the_failure_names_its_cause(
    repos: Path, name: str, pytester: pytest.Pytester
) -> None:
    broken = BREAKS[name]
    copied(repos, broken.repo, pytester)
    file = pytester.path / broken.file
    text = file.read_text(encoding="utf-8")
    assert text.count(broken.line) == 1
    file.write_text(text.replace(broken.line, broken.broken), encoding="utf-8")
    result = pytester.runpytest_inprocess(*QUICK)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([broken.cause])


# Half of a sound audit's time; test_mutants.py holds the repositories to these, too.
SLOW_CHECKS = "not memory-as-predicted and not compiling and not resume"


def test_all_repos_pass_in_one_session_of_two_workers(repos: Path, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    copied(repos, "", pytester)
    result = pytester.runpytest_subprocess(*QUICK[:-1], f"{LEFT_OUT} and {SLOW_CHECKS}", "-n", "2")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"{name}*: * steps of *" for name in sorted(REPOS)], consecutive=False)
