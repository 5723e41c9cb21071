"""Variations of the instruction recipe: other models, collators, losses and loops, sound ones and broken ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ftcheck import Full, LoRA, Recipe
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.recipe import Job
from pytest_ftcheck.tasks import instruction, loop
from pytest_ftcheck.tasks.instruction import END, IGNORED, PAD, VOCABULARY, Row, collate, instruction_recipe, tiny_llama

Batch = dict[str, Tensor]


def evidence_of(recipe: Recipe, method: str = "full") -> Evidence:
    return Evidence(recipe, method)


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """``make`` with the same weights at each call."""

    def model() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make()

    return model


@seeded
def tiny_gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=END, **sizes))


@seeded
def tiny_t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = dict(d_model=32, d_ff=64, num_layers=1, num_heads=4, d_kv=8)
    config = T5Config(vocab_size=VOCABULARY, decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=END, **sizes)
    return T5ForConditionalGeneration(config)


@seeded
def tiny_classifier() -> nn.Module:
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification(_bert())


@seeded
def tiny_masked_model() -> nn.Module:
    from transformers import BertForMaskedLM

    return BertForMaskedLM(_bert())


def _bert() -> Any:
    from transformers import BertConfig

    sizes: dict[str, Any] = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    return BertConfig(vocab_size=VOCABULARY, num_labels=3, **sizes)


def gpt2_recipe(**changes: Any) -> Recipe:
    return instruction_recipe(tiny_gpt2, lora=LoRA(r=4, alpha=16, target_modules=["c_attn"]), **changes)


def t5_recipe(**changes: Any) -> Recipe:
    """The answers are what the decoder says; the prompts go into the encoder."""
    parts = {"collate": to_decoder, "lora": LoRA(r=4, alpha=16, target_modules=["q", "v"])}
    return instruction_recipe(tiny_t5, **{**parts, **changes})


def classifier_recipe(**changes: Any) -> Recipe:
    parts = {"collate": classes, "lora": LoRA(r=4, alpha=16, target_modules=["query", "value"])}
    return instruction_recipe(tiny_classifier, **{**parts, **changes})


def masked_recipe(**changes: Any) -> Recipe:
    parts = {"collate": hidden_tokens, "lora": LoRA(r=4, alpha=16, target_modules=["query", "value"])}
    return instruction_recipe(tiny_masked_model, **{**parts, **changes})


def trainer_recipe(model: Callable[[], nn.Module] = tiny_llama, arguments: Any = None, **changes: Any) -> Recipe:
    """The instruction task trained by a Hugging Face Trainer."""

    def make_trainer(job: Job) -> Any:
        from transformers import Trainer, TrainingArguments

        settings: dict[str, Any] = dict(
            output_dir=str(job.output_dir),
            max_steps=job.steps,
            learning_rate=job.lr,
            per_device_train_batch_size=job.batch_size,
            gradient_accumulation_steps=job.accumulation,
            seed=job.seed,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        )
        settings.update(arguments or {})
        return Trainer(
            model=job.model,
            args=TrainingArguments(**settings),
            data_collator=job.recipe.collate,
            train_dataset=job.train_data,
        )

    parts: dict[str, Any] = dict(
        model=model,
        train_data=instruction.train_rows,
        collate=collate,
        full=Full(lr=1e-3),
        lora=LoRA(r=4, alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        batch_size=4,
        accumulation=2,
        threads=1,
    )
    return Recipe.from_trainer(make_trainer, **{**parts, **changes})


# Collators.


def padded(rows: list[Row], key: str, value: int) -> Tensor:
    longest = max(len(row[key]) for row in rows)
    return torch.tensor([[*row[key], *[value] * (longest - len(row[key]))] for row in rows])


def without_mask(rows: list[Row]) -> Batch:
    return {key: value for key, value in collate(rows).items() if key != "attention_mask"}


def on_the_left(rows: list[Row]) -> Batch:
    """Padded on the left; the first real token is not learned."""
    longest = max(len(row["input_ids"]) for row in rows)

    def left(key: str, value: int) -> Tensor:
        return torch.tensor([[*[value] * (longest - len(row[key])), *row[key]] for row in rows])

    mask = torch.tensor([[j >= longest - len(row["input_ids"]) for j in range(longest)] for row in rows]).long()
    return {"input_ids": left("input_ids", PAD), "attention_mask": mask, "labels": left("labels", IGNORED)}


def everything_on_the_left(rows: list[Row]) -> Batch:
    """Padded on the left, and every real token is learned, the first one from padding."""
    batch = on_the_left(rows)
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}


def padded_with_the_end(rows: list[Row]) -> Batch:
    return {**collate(rows), "input_ids": padded(rows, "input_ids", END)}


def labels_from_inputs(rows: list[Row], pad: int = PAD) -> Batch:
    """As collators for plain language modelling do it: labels are the inputs without the padding token."""
    batch = {**collate(rows), "input_ids": padded(rows, "input_ids", pad)}
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["input_ids"] == pad, IGNORED)}


def pad_is_end(rows: list[Row]) -> Batch:
    return labels_from_inputs(rows, END)


def shifted_in_the_data(rows: list[Row]) -> Batch:
    """Labels stand at the token before theirs, and the last token is a label only."""
    return collate([{"input_ids": r["input_ids"][:-1], "labels": r["labels"][1:]} for r in rows])


def to_decoder(rows: list[Row]) -> Batch:
    labels = [[label for label in row["labels"] if label != IGNORED] for row in rows]
    prompts = [{"input_ids": row["input_ids"][:4], "labels": own} for row, own in zip(rows, labels, strict=True)]
    return {**collate_ids(prompts), "labels": padded(prompts, "labels", IGNORED)}


def collate_ids(rows: list[Row]) -> Batch:
    ids = padded(rows, "input_ids", PAD)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def classes(rows: list[Row]) -> Batch:
    return {**collate_ids(rows), "labels": torch.tensor([row["input_ids"][1] % 3 for row in rows])}


def hidden_tokens(rows: list[Row]) -> Batch:
    """Every third token is hidden, and to be found again."""
    batch = collate_ids(rows)
    hidden = (torch.arange(batch["input_ids"].shape[1]) % 3 == 1) & (batch["attention_mask"] == 1)
    labels = batch["input_ids"].where(hidden, torch.tensor(IGNORED))
    return {**batch, "input_ids": batch["input_ids"].masked_fill(hidden, VOCABULARY - 1), "labels": labels}


# Losses of one's own: of logits and a batch.

LogitsLoss = Callable[[Tensor, Batch], Tensor]


def of_logits(loss: LogitsLoss) -> Callable[[nn.Module, Batch], Tensor]:
    """A recipe's loss that calls the model without labels."""

    def of_model(model: nn.Module, batch: Batch) -> Tensor:
        return loss(model(**{key: value for key, value in batch.items() if key != "labels"}).logits, batch)

    return of_model


def next_token(logits: Tensor, labels: Tensor, **settings: Any) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), **settings)


def token_losses(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each next token [rows, length - 1], and which count, as 0 and 1."""
    labels = batch["labels"][:, 1:]
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels, reduction="none"), (labels != IGNORED).float()


# Loops.


def plain_loop(weigh: Callable[[int, int, int], float]) -> Callable[[Job], None]:
    """A loop that multiplies each loss by ``weigh(its tokens, those of the update, micro-batches of a full one)``."""

    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        windows = loop.epochs(job)
        for _ in range(job.steps):
            batches = [job.collate(rows) for rows in next(windows)]
            counts = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches]
            for batch, count in zip(batches, counts, strict=True):
                (job.loss(job.model, batch) * weigh(count, sum(counts), job.accumulation)).backward()
            optimizer.step()
            optimizer.zero_grad()

    return train
