"""Mistakes in the repositories under guard, made up after the catalogue was written, that it did not find at first.

Each with the check that now finds it. Below them changes that are no mistakes.
"""

from __future__ import annotations

from .mutants import MERGE, Mutant

ROPE = 'attention_mask=inputs["attention_mask"]'


def _mutant(id: str, repo: str, *edits: tuple[str, str, str], method: str = "lora") -> Mutant:
    return Mutant(id, edits, method, repo)


PLAIN, TRAINER, TRL = "plain_finetune.py", "trainer_finetune.py", "trl_finetune.py"
ACCELERATE, SCRIPT = "accelerate_finetune.py", "finetune.py"
FLAT = "logits[:, :-1].flatten(0, 1)"
WINDOW = "        window = [collate"

INVERTED = "[0] * len(one) + [1] * (length - len(one))"

UNSEEN: tuple[tuple[Mutant, str], ...] = (
    (
        _mutant(
            "rows_twice", "plain_loop", (PLAIN, "order[start : start + size]", "order[start : start + size // 2] * 2")
        ),
        "batches-do-not-repeat",
    ),
    (
        _mutant(
            "mask_inverted", "llama_loop", ("llama_data.py", "[1] * len(one) + [0] * (length - len(one))", INVERTED)
        ),
        "mask-shows-the-rows",
    ),
    (
        _mutant("not_causal", "plain_loop", ("plain_model.py", "is_causal=True", "is_causal=False"), method="full"),
        "later-tokens-are-not-seen",
    ),
    (
        _mutant("softmax_twice", "plain_loop", (PLAIN, FLAT, f"{FLAT}.softmax(-1)"), method="full"),
        "loss-is-taken-of-logits",
    ),
    (
        _mutant("logits_in_bfloat16", "plain_loop", (PLAIN, FLAT, f"{FLAT}.bfloat16()"), method="full"),
        "loss-keeps-the-precision",
    ),
    (
        _mutant(
            "positions_first",
            "plain_loop",
            (PLAIN, FLAT, "logits[:, :-1].transpose(0, 1).flatten(0, 1)"),
            method="full",
        ),
        "labels-shifted-once",
    ),
    (
        _mutant("evaluated_on_train", "hf_trainer", (TRAINER, "eval_dataset=eval_rows", "eval_dataset=train_rows")),
        "evaluation-reads-the-evaluation-data",
    ),
    (
        _mutant(
            "arguments_swapped",
            "script",
            (SCRIPT, "args.max_steps // 10, args.max_steps)", "args.max_steps, args.max_steps // 10)"),
        ),
        "warm-up-ends-before-the-training",
    ),
    (
        _mutant(
            "positions_zero",
            "hf_trainer",
            (TRAINER, ROPE, f'{ROPE}, position_ids=torch.zeros_like(inputs["input_ids"])'),
        ),
        "positions-count-up",
    ),
    (_mutant("answers_cut", "trl_sft", (TRL, "max_length=24", "max_length=5")), "end-of-sequence-supervised"),
    (
        _mutant(
            "batches_of_eight",
            "trl_sft",
            (TRL, "per_device_train_batch_size=batch_size", "per_device_train_batch_size=8"),
        ),
        "batch-size-as-declared",
    ),
    (
        _mutant(
            "epoch_begun_again", "accelerate_loop", (ACCELERATE, "skipped = window * self.accumulation", "skipped = 0")
        ),
        "resume-goes-on-in-the-data",
    ),
    (
        _mutant("no_end_of_answers", "script", (SCRIPT, 'f"{a + b}\\n"', 'f"{a + b}"')),
        "end-of-sequence-supervised",
    ),
    (
        _mutant(
            "seeded_in_the_loop",
            "script",
            (SCRIPT, WINDOW, f"        torch.manual_seed(args.seed)\n{WINDOW}"),
            method="full",
        ),
        "dropout-is-drawn-anew",
    ),
    (
        _mutant(
            "rows_drawn_again",
            "script",
            (SCRIPT, WINDOW, f"        draw = random.Random(args.seed)\n{WINDOW}"),
        ),
        "batches-do-not-repeat",
    ),
    (
        _mutant(
            "decay_in_whole_numbers",
            "lightning",
            ("lightning_finetune.py", "1 - step / self.steps", "1 - step // self.steps"),
        ),
        "schedule-lasts-to-the-end",
    ),
    (
        _mutant("most_answers_cut", "llama_loop", ("llama_data.py", "LONGEST = 24", "LONGEST = 10")),
        "end-of-sequence-supervised",
    ),
    (
        _mutant(
            "another_base_loaded",
            "llama_loop",
            (
                "llama_model.py",
                "from_pretrained(load_base(), folder)",
                "from_pretrained(LlamaForCausalLM(load_base().config), folder)",
            ),
        ),
        "reload-gives-the-same-logits",
    ),
    (
        _mutant(
            "merged_in_half",
            "llama_loop",
            (
                "llama_model.py",
                MERGE,
                MERGE.replace("model.merge", "model.bfloat16().merge").replace("()\n", "().float()\n"),
            ),
        ),
        "merging-keeps-the-logits",
    ),
)

HARMLESS = (
    _mutant(
        "evaluation_in_training_mode_without_dropout",
        "accelerate_loop",
        (ACCELERATE, "        self.model.eval()\n", ""),
    ),
    _mutant(
        "warm_up_from_zero",
        "plain_loop",
        (PLAIN, "(step + 1) / WARM_UP_STEPS", "step / WARM_UP_STEPS"),
    ),
    _mutant(
        "mask_with_one_more",
        "hf_trainer",
        ("trainer_data.py", "torch.arange(longest) < lengths", "torch.arange(longest) <= lengths"),
    ),
    _mutant("padding_is_the_end", "trl_sft", (TRL, 'pad_token="<pad>"', 'pad_token="<end>"')),
    _mutant(
        "order_by_the_global_generator",
        "llama_loop",
        ("llama_data.py", "torch.randperm(len(data), generator=generator)", "torch.randperm(len(data))"),
    ),
)
