"""The corpus of historical bugs as a benchmark: each under the release that has it and under the one with the fix.

    python -m bugs.corpus [NAME ...]     (from the folder tests; every case by default)

prints a table. The corpus itself, with the installer of its releases, lies outside of this repository, in the folder
that FTCHECK_BUGS_CORPUS names. A case is examined as a recipe that a user would have, or as a part of the stack audit;
neither knows of the bug.
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

# Case -> what examines it, and the checks one of which must name its cause.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "acc_gradstate": ("accelerate_loops:accelerate_recipe", ()),
    "acc_resume_iter": ("accelerate_loops:resuming", ()),
    "acc_sched_ga": ("accelerate_loops:accelerate_recipe", ()),
    "acc_total_limit": ("accelerate_loops:with_a_limit_on_checkpoints", ()),
    "ga_grad_silent": ("trainers:gpt2_in_full", ()),
    "ga_loss_x8": ("trainers:bert_in_full", ()),
    "ga_tokenmean": ("trainers:llama_in_full", ()),
    "peft_adalora_init": ("adapters:adaptive", ()),
    "peft_dare_scaling": ("adapters:combined", ()),
    "peft_disable_mts": ("adapters:with_a_head", ()),
    "peft_dora_conv1d": ("adapters:dora_on_gpt2", ()),
    "peft_embed_merge": ("adapters:on_the_embedding", ()),
    "peft_embed_regex_save": ("adapters:on_the_embedding_by_pattern", ()),
    "peft_layers_moe": ("adapters:on_one_layer_of_experts", ()),
    "peft_loraplus_embed": ("adapters:loraplus", ()),
    "peft_merge_twice": ("adapters:default", ()),
    "peft_moe_v5": ("stack:golden-adapters", ()),
    "peft_mts_copies": ("adapters:with_other_modules_saved", ()),
    "peft_pissa_conv1d": ("adapters:pissa_on_gpt2", ()),
    "peft_prompt_seqcls": ("adapters:prompt_tuned_classifier", ()),
    "peft_rank_pattern": ("adapters:with_patterns", ()),
    "peft_requires_grad_old": ("adapters:with_a_second_adapter", ()),
    "peft_rslora_scale": ("adapters:rank_stabilized", ()),
    "peft_save_substring": ("adapters:with_overlapping_names", ()),
    "tf_causal_mask_mem": ("models:long_context", ()),
    "tf_eval_order": ("trainers:gpt2_with_evaluation", ()),
    "tf_longt5_v5": ("stack:golden-models", ()),
    "tf_resize_head": ("models:new_tokens_in_bert", ()),
    "tf_resize_postinit": ("models:new_tokens", ()),
    "tf_t5_untied_v5": ("stack:golden-models", ()),
    "tf_tied_lmhead_only": ("models:tied", ()),
    "trl_dpo_keep_end": ("trl_trainers:dpo_keeping_the_end", ()),
    "trl_orpo_ga": ("trl_trainers:orpo", ()),
    "trl_pack_split": ("trl_trainers:sft_packed", ()),
    "trl_prompt_mask": ("trl_trainers:sft_on_conversations", ()),
    "trl_ref_mem": ("trl_trainers:dpo_with_shared_layers", ()),
    "trl_reward_seed": ("trl_trainers:reward", ()),
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


def outcome(corpus: Any, name: str, side: str) -> Outcome:
    """``side`` ("BAD" or "GOOD") of the case ``name``, in an interpreter of its releases."""
    specs = corpus.versions(corpus.CASES / f"{name}.py", side)
    variables = corpus.environment(specs)
    variables["PYTHONPATH"] = f"{variables['PYTHONPATH']}:{REPOSITORY}:{HERE.parent}"
    start = time.perf_counter()
    done = subprocess.run(
        [str(corpus.BASE / "bin" / "python"), "-m", "bugs.examine", CASES[name][0]],
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


def main(names: list[str]) -> None:
    corpus = installer()
    for name in names or CASES:
        bad, good = (outcome(corpus, name, side) for side in ("BAD", "GOOD"))
        missed = not bad.red and not bad.error
        print(f"{name}: {'MISSED' if missed else 'red'}{' and red on the fix' if good.red or good.error else ''}")
        for side, one in (("bad", bad), ("good", good)):
            statuses = [v["status"] for v in one.verdicts]
            counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
            print(f"  {side:4s} {' '.join(one.specs)} ({one.seconds:.0f} s): {counts}  {one.error}")
            for verdict in one.verdicts:
                if verdict["status"] in ("failed", "error", "stale"):
                    text = verdict["findings"][0]["summary"] if verdict["findings"] else verdict["reason"]
                    print(f"       {verdict['check']} ({verdict['method']}): {text}")
            for line in dict.fromkeys(one.blocked):
                print(f"       blocked: {line}")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
