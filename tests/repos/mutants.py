"""Mistakes that people make in their own training code, each as an edit of the repository ``llama_loop``.

The list is that of 73 measured mistakes: most move the loss curve by less than five percent, and several improve it.
"""

from __future__ import annotations

from dataclasses import dataclass

DATA, MODEL, LOOP = "llama_data.py", "llama_model.py", "llama_finetune.py"


@dataclass(frozen=True)
class Mutant:
    """``edits`` are (file, text, its replacement); ``method`` is the one under which the mistake shows."""

    id: str
    edits: tuple[tuple[str, str, str], ...]
    method: str = "lora"
    repo: str = "llama_loop"


def edit(id: str, file: str, text: str, replacement: str, method: str = "lora") -> Mutant:
    return Mutant(id, ((file, text, replacement),), method)


ADAPTED = "    return get_peft_model(model, config)\n"
EACH_TENSOR = "    model = get_peft_model(model, config)\n    for n, p in model.named_parameters():\n"
BATCH_LOSS = "            loss = total / tokens\n"
BACKWARD = "            loss.backward()\n"
CLIP = "        torch.nn.utils.clip_grad_norm_(trainable, MAX_NORM)\n"
STEP = "        optimizer.step()\n"
SCHEDULE = "        schedule.step()\n"
ZERO = "        optimizer.zero_grad()\n"
LOGGED = "            losses[-1] += loss.item()\n"
ADAMW = "    optimizer = torch.optim.AdamW(parameter_groups(model), lr=lr)\n"
SHIFTED = '    wanted = batch["labels"][:, 1:]\n'
EVAL_LOSS = "            eval_losses.append(evaluate(model, evals, batch_size))\n"
NO_GRAD = "@torch.no_grad()\ndef evaluate"
PEFT_FROM = "        return PeftModel.from_pretrained(load_base(), folder)\n"
SAVE = "    model.save_pretrained(folder)\n"
MERGE = "    return model.merge_and_unload()\n"

MUTANTS = (
    edit("wrong_targets", MODEL, "        target_modules=TARGETS,\n", "        target_modules=['q_proj'],\n"),
    edit("base_not_frozen", MODEL, ADAPTED, "    return get_peft_model(model, config).requires_grad_(True)\n"),
    edit(
        "a_and_b_zero",
        MODEL,
        ADAPTED,
        f"{EACH_TENSOR}        p.data.mul_(0.0 if 'lora_' in n else 1.0)\n    return model\n",
    ),
    edit(
        "lora_a_frozen",
        MODEL,
        ADAPTED,
        f"{EACH_TENSOR}        p.requires_grad_('lora_B' in n)\n    return model\n",
    ),
    edit("inference_mode", MODEL, "        r=8,\n", "        r=8,\n        inference_mode=True,\n"),
    edit("rslora_forgot", MODEL, "        r=8,\n", "        r=8,\n        use_rslora=True,\n"),
    edit("alpha_wrong", MODEL, "        lora_alpha=16,\n", "        lora_alpha=32,\n"),
    edit("lora_dropout_high", MODEL, "lora_dropout=0.05", "lora_dropout=0.5"),
    Mutant(
        "lmhead_lora_tied",
        (
            (MODEL, "tie_word_embeddings=False", "tie_word_embeddings=True"),
            (MODEL, '"down_proj"]', '"down_proj", "lm_head"]'),
        ),
    ),
    edit(
        "opt_holds_frozen",
        LOOP,
        ADAMW,
        "    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)\n",
    ),
    edit(
        "opt_missing_group",
        LOOP,
        ADAMW,
        "    kept = [p for n, p in model.named_parameters() if p.requires_grad and 'lora_B' not in n]\n"
        "    optimizer = torch.optim.AdamW(kept, lr=lr)\n",
    ),
    edit("lr_ten_times", LOOP, ADAMW, ADAMW.replace("lr=lr", "lr=10 * lr"), method="full"),
    edit("lr_tenth", LOOP, ADAMW, ADAMW.replace("lr=lr", "lr=0.1 * lr")),
    edit("sgd", LOOP, ADAMW, ADAMW.replace("AdamW", "SGD")),
    edit("eps_big", LOOP, ADAMW, ADAMW.replace("lr=lr", "lr=lr, eps=1e-2")),
    edit(
        "wd_on_norm",
        LOOP,
        '        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},\n',
        '        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": WEIGHT_DECAY},\n',
        method="full",
    ),
    edit(
        "bf16_params",
        LOOP,
        "    torch.manual_seed(seed)\n",
        "    torch.manual_seed(seed)\n    model.to(torch.bfloat16)\n",
        method="full",
    ),
    edit("no_zero_grad", LOOP, ZERO, ""),
    edit("no_step", LOOP, STEP, ""),
    edit("step_per_micro", LOOP, BACKWARD, f"{BACKWARD}            optimizer.step()\n"),
    edit("zero_grad_per_micro", LOOP, BACKWARD, f"            optimizer.zero_grad()\n{BACKWARD}"),
    edit("sched_per_micro", LOOP, BACKWARD, f"{BACKWARD}            schedule.step()\n"),
    edit("sched_never", LOOP, SCHEDULE, ""),
    edit("sched_total_wrong", LOOP, "schedule_for(optimizer, steps)", "schedule_for(optimizer, steps * accumulation)"),
    edit("mean_of_means", LOOP, BATCH_LOSS, "            loss = mean_loss(model, batch) / len(batches)\n"),
    edit("div_twice", LOOP, BATCH_LOSS, "            loss = total / tokens / accumulation\n"),
    edit("not_divided", LOOP, BATCH_LOSS, "            loss = mean_loss(model, batch)\n"),
    edit("loss_sum", LOOP, BATCH_LOSS, "            loss = total\n"),
    edit(
        "loss_unshifted",
        LOOP,
        SHIFTED,
        '    wanted = batch["labels"][:, :-1]\n',
    ),
    edit("loss_shifted_twice", LOOP, SHIFTED, '    wanted = batch["labels"].roll(-1, 1)[:, 1:]\n'),
    edit(
        "loss_no_ignore",
        LOOP,
        SHIFTED,
        '    wanted = batch["labels"][:, 1:].clamp_min(0)\n',
    ),
    edit("loss_on_prompt", DATA, '[IGNORED] * len(one["prompt"])', 'one["prompt"]'),
    edit("no_eos", DATA, '"completion": [*completion, END]}', '"completion": completion}'),
    Mutant(
        "eos_truncated",
        (
            (DATA, '(one["prompt"] + one["completion"])[:LONGEST]', '(one["prompt"] + one["completion"])[:-1]'),
            (DATA, '+ one["completion"])[:LONGEST]', '+ one["completion"])[:-1]'),
        ),
    ),
    edit(
        "pad_supervised",
        DATA,
        "[IGNORED] * (length - len(one)) for one in labels",
        "[PAD] * (length - len(one)) for one in labels",
    ),
    Mutant(
        "left_pad",
        (
            (
                DATA,
                "one + [PAD] * (length - len(one)) for one in ids",
                "[PAD] * (length - len(one)) + one for one in ids",
            ),
            (DATA, "[1] * len(one) + [0] * (length - len(one))", "[0] * (length - len(one)) + [1] * len(one)"),
            (
                DATA,
                "one + [IGNORED] * (length - len(one)) for one in labels",
                "[IGNORED] * (length - len(one)) + one for one in labels",
            ),
            (DATA, '[IGNORED] * len(one["prompt"])', 'one["prompt"]'),
        ),
    ),
    edit(
        "clip_per_micro", LOOP, BACKWARD, f"{BACKWARD}            torch.nn.utils.clip_grad_norm_(trainable, MAX_NORM)\n"
    ),
    edit("clip_tiny", LOOP, "MAX_NORM = 0.1", "MAX_NORM = 1e-3"),
    edit("no_clip", LOOP, CLIP, "", method="full"),
    Mutant("clip_after_step", ((LOOP, CLIP, ""), (LOOP, STEP, f"{STEP}{CLIP}")), "full"),
    edit("eval_not_restored", LOOP, "    model.train()\n    return sum", "    return sum"),
    edit("never_train_mode", LOOP, "    model.train()\n    for update", "    model.eval()\n    for update"),
    edit("dropout_in_eval", LOOP, "    model.eval()\n", ""),
    edit(
        "eval_leak",
        DATA,
        "    return rows(24, seed=2)\n",
        "    return train_rows()[:8] + rows(16, seed=2)\n",
    ),
    edit(
        "same_order_each_epoch",
        DATA,
        "    while True:\n",
        "    while True:\n        generator.manual_seed(seed)\n",
    ),
    edit("log_with_graph", LOOP, LOGGED, "            losses[-1] = losses[-1] + loss\n"),
    edit("eval_graph_kept", LOOP, NO_GRAD, "def evaluate"),
    edit(
        "retain_graph_leak",
        LOOP,
        BACKWARD + LOGGED,
        "            loss.backward(retain_graph=True)\n            losses.append(loss)\n",
    ),
    edit("loss_detached", LOOP, BATCH_LOSS, f"{BATCH_LOSS}            loss = loss.detach().requires_grad_()\n"),
    edit("ascent", LOOP, BATCH_LOSS, "            loss = -total / tokens\n"),
    edit(
        "save_base_not_adapter",
        MODEL,
        SAVE,
        "    getattr(model, 'get_base_model', lambda: model)().save_pretrained(folder)\n",
    ),
    edit("save_empty", MODEL, SAVE, "    model.save_pretrained(folder, state_dict={})\n"),
    edit(
        "get_peft_model_then_from_pretrained",
        MODEL,
        PEFT_FROM,
        "        return PeftModel.from_pretrained(add_adapter(load_base()), folder)\n",
    ),
    edit(
        "alpha_edited",
        MODEL,
        SAVE,
        f"{SAVE}    config = folder / 'adapter_config.json'\n    if config.exists():\n"
        "        config.write_text(config.read_text().replace('\"lora_alpha\": 16', '\"lora_alpha\": 8'))\n",
    ),
    edit(
        "merge_twice",
        MODEL,
        MERGE,
        "    model.merge_adapter()\n    for m in model.modules():\n        getattr(m, 'merged_adapters', []).clear()\n"
        "    return model.merge_and_unload()\n",
    ),
    edit("merge_forgot", MODEL, MERGE, "    return model.unload()\n"),
    edit(
        "nan_hidden",
        LOOP,
        BATCH_LOSS,
        f"{BATCH_LOSS}            loss = loss * (float('nan') if update == 5 else 1.0)\n",
    ),
    edit(
        "optimizer_each_epoch",
        LOOP,
        "        losses.append(0.0)\n",
        "        losses.append(0.0)\n        if update % 3 == 0:\n"
        "            optimizer = torch.optim.AdamW(parameter_groups(model), lr=lr)\n"
        "            schedule = schedule_for(optimizer, steps)\n",
    ),
    edit(
        "default_dtype",
        LOOP,
        "    torch.manual_seed(seed)\n",
        "    torch.manual_seed(seed)\n    torch.set_default_dtype(torch.float64)\n",
    ),
)

# Of these checks one must find the mistake.
NAMED_BY: dict[str, tuple[str, ...]] = {
    "wrong_targets": (
        "trainable-as-declared",
        "adapters-are-where-declared",
    ),
    "base_not_frozen": ("trainable-as-declared",),
    "a_and_b_zero": ("every-trainable-has-a-gradient",),
    "lora_a_frozen": ("trainable-as-declared",),
    "inference_mode": ("training-completes",),
    "rslora_forgot": (
        "adapter-configured-as-declared",
        "scaling-as-declared",
    ),
    "alpha_wrong": (
        "adapter-configured-as-declared",
        "scaling-as-declared",
    ),
    "lora_dropout_high": ("dropout-as-declared",),
    "lmhead_lora_tied": (
        "trainable-as-declared",
        "adapters-are-where-declared",
    ),
    "opt_holds_frozen": ("optimizer-holds-what-trains",),
    "opt_missing_group": (
        "every-trainable-moves",
        "optimizer-holds-what-trains",
    ),
    "lr_ten_times": ("learning-rate-as-declared",),
    "lr_tenth": ("learning-rate-as-declared",),
    "sgd": ("optimizer-as-declared",),
    "eps_big": ("optimizer-settings-are-usual",),
    "wd_on_norm": ("no-decay-on-norms-and-biases",),
    "bf16_params": ("trained-in-the-declared-dtype",),
    "no_zero_grad": ("gradients-start-from-zero",),
    "no_step": ("training-completes",),
    "step_per_micro": (
        "training-completes",
        "backward-before-every-update",
    ),
    "zero_grad_per_micro": (
        "gradients-reach-the-step",
        "accumulation-equals-one-large-batch",
    ),
    "sched_per_micro": (
        "schedule-steps-once-an-update",
        "schedule-counts-updates",
    ),
    "sched_never": ("schedule-follows-the-optimizer",),
    "sched_total_wrong": ("schedule-counts-updates",),
    "mean_of_means": ("accumulation-equals-one-large-batch",),
    "div_twice": (
        "loss-scale-is-a-mean",
        "accumulation-equals-one-large-batch",
    ),
    "not_divided": ("accumulation-equals-one-large-batch",),
    "loss_sum": ("loss-scale-is-a-mean",),
    "loss_unshifted": (
        "labels-shifted-once",
        "rows-do-not-see-each-other",
    ),
    "loss_shifted_twice": ("labels-shifted-once",),
    "loss_no_ignore": (
        "padding-not-supervised",
        "loss-scale-is-a-mean",
    ),
    "loss_on_prompt": ("prompt-not-supervised",),
    "no_eos": ("end-of-sequence-supervised",),
    "eos_truncated": ("end-of-sequence-supervised",),
    "pad_supervised": (
        "padding-not-supervised",
        "rows-do-not-see-each-other",
    ),
    "left_pad": (
        "padding-not-supervised",
        "accumulation-equals-one-large-batch",
    ),
    "clip_per_micro": (
        "clipping-once-an-update",
        "accumulation-equals-one-large-batch",
    ),
    "clip_tiny": (
        "clipping-as-declared",
        "clipping-leaves-a-gradient",
    ),
    "no_clip": ("clipping-as-declared",),
    "clip_after_step": ("clipping-as-declared",),
    "eval_not_restored": ("training-mode-in-training",),
    "never_train_mode": ("training-mode-in-training",),
    "dropout_in_eval": ("evaluation-mode-in-evaluation",),
    "eval_leak": ("no-train-eval-overlap",),
    "same_order_each_epoch": ("rows-reshuffled-each-epoch",),
    "log_with_graph": ("no-graph-is-kept",),
    "eval_graph_kept": ("evaluation-records-no-graph",),
    "retain_graph_leak": (
        "memory-does-not-grow",
        "no-graph-is-kept",
    ),
    "loss_detached": ("every-trainable-has-a-gradient",),
    "ascent": (
        "loss-falls-along-the-update",
        "loss-falls-on-few-rows",
    ),
    "save_base_not_adapter": (
        "reload-gives-the-same-logits",
        "nothing-else-is-saved",
    ),
    "save_empty": (
        "reload-gives-the-same-logits",
        "reload-restores-every-tensor",
    ),
    "get_peft_model_then_from_pretrained": ("reload-gives-the-same-logits",),
    "alpha_edited": (
        "reload-gives-the-same-logits",
        "saved-configuration-matches",
    ),
    "merge_twice": ("merging-keeps-the-logits",),
    "merge_forgot": ("merging-keeps-the-logits",),
    "nan_hidden": (
        "finite-throughout",
        "every-row-supervised",
    ),
    "optimizer_each_epoch": (
        "optimizer-remembers",
        "schedule-follows-the-optimizer",
    ),
    "default_dtype": ("global-state-untouched",),
}

EQUIVALENT = (
    edit("attn_mask_missing", LOOP, ', attention_mask=batch["attention_mask"]', ""),
    Mutant(
        "eval_mode_without_dropout",
        (
            (MODEL, "attention_dropout=0.1", "attention_dropout=0.0"),
            (MODEL, "lora_dropout=0.05", "lora_dropout=0.0"),
            ("conftest.py", "dropout=0.05", "dropout=0.0"),
            (LOOP, "    model.train()\n    return sum", "    return sum"),
        ),
    ),
    edit("set_to_none", LOOP, ZERO, "        optimizer.zero_grad(set_to_none=False)\n"),
    edit(
        "zero_grad_first",
        LOOP,
        "        losses.append(0.0)\n",
        "        losses.append(0.0)\n        optimizer.zero_grad()\n",
    ),
    edit(
        "fused_groups",
        LOOP,
        ADAMW,
        "    optimizer = torch.optim.AdamW(parameter_groups(model), lr=lr, foreach=False)\n",
    ),
)
