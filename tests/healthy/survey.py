"""Sound trainings over architectures, methods, precisions and accumulations: the catalogue must be silent on all.

    python -m healthy.survey [--seeds N] [--first-seed N] [NAME ...]

(from the folder tests; all of them on two seeds by default) prints a line for each, and what was reported. All of it
takes a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any

from pytest_ftcheck import Full, LoRA, Recipe, check_training
from pytest_ftcheck.checks.catalogue import catalogue
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.stack.recipe_forms import recipe_on

# Architecture -> the layers that LoRA adapts, and its head.
TARGETS = {
    "gpt2": (["c_attn"], "lm_head"),
    "llama": (["q_proj", "v_proj"], "lm_head"),
    "qwen2": (["q_proj", "k_proj", "v_proj", "o_proj"], "lm_head"),
    "qwen3": (["q_proj", "v_proj", "down_proj"], "lm_head"),
    "gemma": (["q_proj", "v_proj"], "lm_head"),
    "mistral": (["q_proj", "o_proj"], "lm_head"),
    "mixtral": (["q_proj", "v_proj"], "lm_head"),
    "t5": (["q", "v"], "lm_head"),
    "bert-classifier": (["query", "value"], "classifier"),
}
METHODS = ("full", "lora", "dora", "rslora", "pissa", "head")
# What a model's own code draws in training, by the name of its configuration.
DROPOUT = {"gpt2": "attn_pdrop", "t5": "dropout_rate", "bert-classifier": "hidden_dropout_prob"}
TASKS = {"t5": "SEQ_2_SEQ_LM", "bert-classifier": "SEQ_CLS"}
# These two are timed and compared elsewhere, and would be most of the time here.
LEFT_OUT = ("compiling-keeps-the-gradient", "memory-as-predicted")


@dataclass(frozen=True)
class Sound:
    """One sound training."""

    architecture: str
    method: str
    dtype: str
    accumulation: int

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.method}-{self.dtype}-{self.accumulation}"

    @property
    def arm(self) -> str:
        return "full" if self.method == "full" else "lora"

    def recipe(self) -> Recipe:
        """Ragged rows, dropout on, four rows an update or a window of four batches of two."""
        parts: dict[str, Any] = dict(dtype=self.dtype, accumulation=self.accumulation, batch_size=4)
        changes = {DROPOUT.get(self.architecture, "attention_dropout"): 0.1}
        arm = Full(lr=1e-3) if self.method == "full" else self._lora()
        return recipe_on(self.name, self.architecture, changes, **{self.arm: arm}, **parts)

    def _lora(self) -> LoRA:
        targets, head = TARGETS[self.architecture]
        more: dict[str, Any] = {
            "dora": {"use_dora": True},
            "rslora": {"use_rslora": True},
            "pissa": {"init": "pissa"},
            "head": {"modules_to_save": [head]},
        }.get(self.method, {})
        if self.architecture == "gpt2":
            more["options"] = {"fan_in_fan_out": True}
        if self.architecture in TASKS:
            more["task_type"] = TASKS[self.architecture]
        return LoRA(r=4, alpha=16, target_modules=targets, dropout=0.05, lr=5e-3, **more)


def everything() -> tuple[Sound, ...]:
    """Every architecture with every method; precision and accumulation take turns so that all pairs occur."""
    turns = itertools.cycle((("float32", 1), ("bfloat16", 4), ("float32", 4), ("bfloat16", 1), ("float32", 4)))
    pairs = itertools.product(TARGETS, METHODS)
    return tuple(Sound(one, method, *next(turns)) for one, method in pairs)


def alarms(sound: Sound, seed: int) -> tuple[list[Verdict], int]:
    """What the catalogue reports of ``sound``, and how many checks passed."""
    select = [check.id for check in catalogue() if check.id not in LEFT_OUT]
    verdicts = check_training(sound.recipe(), methods=[sound.arm], seed=seed, select=select)
    return [v for v in verdicts if v.failed], sum(v.status == "passed" for v in verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args()
    total = count = 0
    for sound in everything():
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            if given.names and not any(name in sound.name for name in given.names):
                continue
            start = time.perf_counter()
            found, passed = alarms(sound, seed)
            total, count = total + len(found), count + 1
            seconds = time.perf_counter() - start
            print(f"{sound.name} seed {seed}: {passed} passed, {len(found)} alarms, {seconds:.1f} s", flush=True)
            for verdict in found:
                print(f"    {verdict}".replace("\n", "\n    "), flush=True)
    print(f"{total} alarms in {count} trainings")


if __name__ == "__main__":
    main()
