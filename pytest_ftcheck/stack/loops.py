"""Ways to train: Hugging Face ``Trainer``, an accelerate loop, TRL's trainers; each as a repository would write it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tasks.loop import decayed_and_not, linear
from .data import collate, dataset
from .models import from_transformers
from .tokenizer import tokenizer

if TYPE_CHECKING:
    from ..recipe import Job

# Releases called some arguments otherwise.
RENAMED = {
    "eval_strategy": "evaluation_strategy",
    "use_cpu": "no_cuda",
    "processing_class": "tokenizer",
    "max_length": "max_seq_length",
}


def known(callable_: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """``arguments`` as this release of ``callable_`` names them, without those that it does not know."""
    names = inspect.signature(callable_).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in names.values()):
        return arguments
    renamed = {key if key in names else RENAMED.get(key, key): value for key, value in arguments.items()}
    return {key: value for key, value in renamed.items() if key in names}


def training_arguments(job: Job, kind: Any = None, **changes: Any) -> Any:
    """TrainingArguments (or ``kind``) of ``job``: silent, on the CPU, clipped at 1, linear warm-up and decay."""
    kind = kind or from_transformers("TrainingArguments")
    settings: dict[str, Any] = dict(
        output_dir=str(job.output_dir),
        max_steps=job.steps,
        seed=job.seed,
        learning_rate=job.lr,
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.batch_size,
        gradient_accumulation_steps=job.accumulation,
        lr_scheduler_type="linear",
        warmup_steps=1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=job.device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        label_names=["labels"],
    )
    return kind(**known(kind.__init__, {**settings, **changes}))


def hf_trainer(job: Job, **changes: Any) -> Any:
    """A ``transformers.Trainer`` on rows that are tokens already."""
    return from_transformers("Trainer")(
        model=job.model,
        # Before 4.35 the Trainer drops every column that a PEFT model's own forward does not name.
        args=training_arguments(job, remove_unused_columns=False, **changes),
        train_dataset=job.train_data,
        eval_dataset=job.eval_data,
        data_collator=collate,
    )


def trl_trainer(job: Job, name: str, arguments: dict[str, Any], **parts: Any) -> Any:
    """The trainer of TRL called ``name`` ("SFT", "DPO", "Reward", ...) on rows of text, which it tokenizes."""
    from .probe import from_trl

    trainer, config = from_trl(f"{name}Trainer"), from_trl(f"{name}Config")
    settings = dict(
        model=job.model,
        args=training_arguments(job, config, **arguments),
        train_dataset=dataset(job.train_data),
        eval_dataset=dataset(job.eval_data) if job.eval_data else None,
        processing_class=tokenizer(),
        **parts,
    )
    return trainer(**known(trainer.__init__, settings))


def accelerate_loop(job: Job) -> None:
    """An accelerate loop as its documentation has it: accumulation, a prepared scheduler, clipping where gradients are
    complete, evaluation in the middle, checkpoints by ``save_state``, and going on from one in the middle of an epoch.
    """
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(gradient_accumulation_steps=job.accumulation, cpu=job.device == "cpu")
    optimizer = torch.optim.AdamW(decayed_and_not(job.model), lr=job.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear(step, job.steps))
    order = torch.Generator().manual_seed(job.seed)
    loader = torch.utils.data.DataLoader(
        job.train_data, batch_size=job.batch_size, shuffle=True, collate_fn=collate, generator=order
    )
    held_out = torch.utils.data.DataLoader(job.eval_data, batch_size=job.batch_size, collate_fn=collate)
    model, optimizer, loader, held_out, schedule = accelerator.prepare(job.model, optimizer, loader, held_out, schedule)
    updates = 0
    while updates < job.steps:
        model.train()
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(**batch).loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                updates += 1
                if job.save_steps and updates % job.save_steps == 0:
                    accelerator.save_state(str(Path(job.output_dir) / f"checkpoint-{updates}"))
                if job.eval_steps and updates % job.eval_steps == 0:
                    _evaluate(model, held_out)
                if updates == job.steps:
                    break


def _evaluate(model: Any, held_out: Any) -> None:
    import torch

    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for batch in held_out:
            model(**batch)
    model.train()
