"""The corpus of historical bugs as a benchmark: each under the release that has it and under the one with the fix.

    python -m bugs.corpus [--whole] [NAME ...]     (from the folder tests; every case by default)

prints a table, and what the checks say to the standard error. The corpus itself, with the installer of its releases,
lies outside of this repository, in the folder that FTCHECK_BUGS_CORPUS names. A case is examined as a recipe that users
would have, or as a part of the stack audit; neither knows of the bug.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CORPUS = Path(os.environ.get("FTCHECK_BUGS_CORPUS", REPOSITORY.parent / "shared" / "bugs"))
TIME_LIMIT_S = 900

# What tells of wrong weights in the accumulation of gradients, and of trained tensors that are not saved.
ACCUMULATION = ("tokens-weigh-the-same", "loss-scale-is-a-mean", "accumulation-equals-one-large-batch")
SAVED = ("every-trained-tensor-is-saved", "file-size-follows-from-the-method", "reload-gives-the-same-logits")

# Case -> what examines it, and the checks one of which must name its cause. In a part of the stack audit, which is one
# check, the models that it concerns, or all.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "acc_gradstate": ("accelerate_loops:accelerate_recipe", ("evaluation-leaves-row-order-alone",)),
    "acc_resume_iter": ("accelerate_loops:resuming", ("resume-goes-on-in-the-data",)),
    "acc_sched_ga": (
        "accelerate_loops:accelerate_recipe",
        ("schedule-steps-once-an-update", "schedule-lasts-to-the-end", "schedule-counts-updates"),
    ),
    "acc_total_limit": ("accelerate_loops:with_a_limit_on_checkpoints", ("newest-checkpoints-are-kept",)),
    "ga_grad_silent": ("trainers:gpt2_in_full", ACCUMULATION),
    "ga_loss_x8": ("trainers:bert_in_full", ACCUMULATION),
    "ga_tokenmean": ("trainers:llama_in_full", ACCUMULATION),
    "peft_adalora_init": ("adapters:adaptive", ("adapter-starts-as-the-base",)),
    "peft_dare_scaling": ("adapters:combined", ("combined-adapters-add-up",)),
    "peft_disable_mts": ("adapters:with_a_head", ("disabled-adapter-leaves-the-base",)),
    "peft_dora_conv1d": ("adapters:dora_on_gpt2", ("layer-follows-its-formula", "adapter-starts-as-the-base")),
    "peft_embed_merge": ("adapters:on_the_embedding", ("merging-keeps-the-logits",)),
    "peft_embed_regex_save": ("adapters:on_the_embedding_by_pattern", SAVED),
    "peft_layers_moe": ("adapters:on_one_layer_of_experts", ("trainable-as-declared", "adapters-are-where-declared")),
    "peft_loraplus_embed": ("adapters:loraplus", ("lora-rates-agree",)),
    "peft_merge_twice": ("adapters:default", ("merging-twice-is-merging-once",)),
    "peft_moe_v5": ("stack:golden-checkpoint-loads-to-the-same", ("mixtral-experts",)),
    "peft_mts_copies": (
        "adapters:with_other_modules_saved",
        ("other-adapters-change-nothing", "no-stray-weight-copies"),
    ),
    "peft_pissa_conv1d": ("adapters:pissa_on_gpt2", ("adapter-starts-as-the-base",)),
    "peft_prompt_seqcls": ("adapters:prompt_tuned_classifier", ("trainable-as-declared", *SAVED)),
    "peft_rank_pattern": ("adapters:with_patterns", ("scaling-as-declared", "adapter-configured-as-declared")),
    "peft_requires_grad_old": ("adapters:with_a_second_adapter", ("only-the-active-adapter-trains",)),
    "peft_rslora_scale": ("adapters:rank_stabilized", ("scaling-survives-a-round-trip",)),
    "peft_save_substring": ("adapters:with_overlapping_names", ("nothing-else-is-saved",)),
    "tf_causal_mask_mem": ("models:long_context", ("no-buffer-of-context-squared",)),
    "tf_eval_order": ("trainers:gpt2_with_evaluation", ("evaluation-leaves-row-order-alone",)),
    "tf_longt5_v5": ("stack:golden-checkpoint-loads-to-the-same", ("longt5-untied",)),
    "tf_resize_head": ("models:new_tokens_in_bert", ("embedding-resize-keeps-the-model",)),
    "tf_resize_postinit": ("models:new_tokens", ("embedding-resize-keeps-the-model",)),
    "tf_t5_untied_v5": ("stack:golden-checkpoint-loads-to-the-same", ("t5-untied",)),
    "tf_tied_lmhead_only": ("stack:tied-checkpoint-with-either-name", ()),
    "trl_dpo_keep_end": ("trl_trainers:dpo_keeping_the_end", ("every-row-supervised",)),
    "trl_orpo_ga": ("trl_trainers:orpo", ACCUMULATION),
    "trl_pack_split": ("trl_trainers:sft_packed", ("sequences-begin-as-rows-begin",)),
    "trl_prompt_mask": ("trl_trainers:sft_on_conversations", ("prompt-not-supervised",)),
    "trl_ref_mem": ("stack:reference-model-shares-and-rests", ()),
    "trl_reward_seed": ("trl_trainers:reward", ("same-seed-same-start",)),
}


@dataclass(frozen=True)
class Outcome:
    """One side of a case: the verdicts, or the error that ended it."""

    specs: tuple[str, ...]
    verdicts: tuple[dict[str, Any], ...]
    error: str
    seconds: float

    @property
    def red(self) -> list[str]:
        """The checks that failed, each once."""
        return list(dict.fromkeys(v["check"] for v in self.verdicts if v["status"] in ("failed", "stale", "error")))

    @property
    def blocked(self) -> list[str]:
        return [v["reason"].splitlines()[0] for v in self.verdicts if v["status"] == "blocked"]


def installer() -> Any:
    """The corpus's own ``run.py``."""
    spec = importlib.util.spec_from_file_location("ftcheck_corpus", CORPUS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(corpus: Any, name: str, side: str, whole: bool = False) -> Outcome:
    """``side`` ("BAD" or "GOOD") of the case ``name``, in an interpreter of its releases; with ``whole`` all checks
    run, and not only those that must name the cause.
    """
    specs = corpus.versions(corpus.CASES / f"{name}.py", side)
    variables = corpus.environment(specs)
    variables["PYTHONPATH"] = f"{variables['PYTHONPATH']}:{REPOSITORY}:{HERE.parent}"
    start = time.perf_counter()
    done = subprocess.run(
        [str(corpus.BASE / "bin" / "python"), "-m", "bugs.examine", CASES[name][0], *(() if whole else CASES[name][1])],
        env=variables,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    found = [
        json.loads(line.removeprefix("VERDICT ")) for line in done.stdout.splitlines() if line.startswith("VERDICT ")
    ]
    error = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no output"])[-1]
    return Outcome(tuple(specs), tuple(found), error, time.perf_counter() - start)


def shown(name: str, bad: Outcome, good: Outcome) -> str:
    """A row of the table: which checks found the case, in how many seconds, and what they say of the fixed release."""
    found = ", ".join(f"`{check}`" for check in bad.red) or bad.error or "**missed**"
    fixed = ", ".join(f"`{check}`" for check in good.red) or good.error or "silent"
    return f"| `{name}` | {' '.join(bad.specs)} | {found} | {bad.seconds:.0f} | {' '.join(good.specs)} | {fixed} |"


def main(names: list[str]) -> None:
    corpus, whole = installer(), "--whole" in names
    print("| case | release with the bug | found by | s | release with the fix | there |\n|---|---|---|---|---|---|")
    for name in [name for name in names if name != "--whole"] or CASES:
        bad, good = (outcome(corpus, name, side, whole) for side in ("BAD", "GOOD"))
        print(shown(name, bad, good), flush=True)
        for side, one in (("bad", bad), ("good", good)):
            for verdict in one.verdicts:
                if verdict["status"] in ("failed", "error", "stale"):
                    text = verdict["findings"][0]["summary"] if verdict["findings"] else verdict["reason"]
                    print(f"{side}: {verdict['check']} ({verdict['method']}): {text}", file=sys.stderr)
            for line in dict.fromkeys(one.blocked):
                print(f"{side}: blocked: {line}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
