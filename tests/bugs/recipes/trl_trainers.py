"""Recipes with TRL's trainers: supervised, preference, reward."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from torch import nn

from pytest_ftcheck import Full, Job, Recipe
from pytest_ftcheck.tasks.instruction import tiny_llama

from .arguments import arguments_of

WORDS = ["<unk>", "<bos>", "<eos>", "<pad>", "<|user|>", "<|assistant|>", "<|end|>", *(f"w{i}" for i in range(57))]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def tokenizer() -> Any:
    """One word, one token; a chat template with a header for each turn."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    made.chat_template = TEMPLATE
    return made


def llama() -> nn.Module:
    return tiny_llama(pad_token_id=3, bos_token_id=1, eos_token_id=2, attention_dropout=0.0)


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{(start + i) % 57}" for i in range(count))


def arguments(kind: Any, job: Job, **changes: Any) -> Any:
    return arguments_of(kind, job, **{"bf16": False, "gradient_checkpointing": False, **changes})


def recipe(make_trainer: Any, data: Any, **changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        name="trl",
        model=llama,
        train_data=data,
        full=Full(lr=1e-3),
        lora=None,
        steps=16,
        batch_size=2,
        threads=1,
    )
    return Recipe.from_trainer(make_trainer, **{**parts, **changes})


def conversations() -> Dataset:
    """Questions with short answers."""
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": words(2 + i % 5, i)}] for i in range(24)],
            "completion": [[{"role": "assistant", "content": words(1 + i % 4, 3 * i)}] for i in range(24)],
        }
    )


def sft_on_conversations() -> Recipe:
    from trl import SFTConfig, SFTTrainer

    def make(job: Job) -> Any:
        return SFTTrainer(
            model=job.model,
            args=arguments(SFTConfig, job),
            train_dataset=job.train_data,
            processing_class=tokenizer(),
        )

    return recipe(make, conversations)


def documents() -> Dataset:
    """Documents that begin with <bos>; some are longer than the model's rows."""
    return Dataset.from_dict({"input_ids": [[1, *range(7 + i % 9, 9 + i % 9 + 3 * (i % 6)), 2] for i in range(32)]})


def sft_packed() -> Recipe:
    from trl import SFTConfig, SFTTrainer

    def make(job: Job) -> Any:
        return SFTTrainer(
            model=job.model,
            args=arguments(SFTConfig, job, packing=True, packing_strategy="bfd", max_length=12, padding_free=False),
            train_dataset=job.train_data,
            processing_class=tokenizer(),
        )

    return recipe(make, documents)


def preferences() -> Dataset:
    """Prompts of very different lengths, each with a better and a worse answer."""
    return Dataset.from_dict(
        {
            "prompt": [words(2 if i % 2 else 20, i) for i in range(24)],
            "chosen": [words(2 + i % 3, 2 * i) for i in range(24)],
            "rejected": [words(2 + i % 2, 5 * i + 1) for i in range(24)],
        }
    )


def dpo_keeping_the_end() -> Recipe:
    from trl import DPOConfig, DPOTrainer

    def make(job: Job) -> Any:
        settings = arguments(
            DPOConfig,
            job,
            max_length=12,
            max_prompt_length=30,
            truncation_mode="keep_end",
            precompute_ref_log_probs=False,
        )
        return DPOTrainer(
            model=job.model,
            ref_model=llama(),
            args=settings,
            train_dataset=job.train_data,
            processing_class=tokenizer(),
        )

    return recipe(make, preferences)


def dpo_with_shared_layers() -> Recipe:
    """The reference model shares its lower layers with the one that trains."""
    from trl import DPOConfig, DPOTrainer

    try:
        from trl import create_reference_model
    except ImportError:
        from trl.models import create_reference_model

    def make(job: Job) -> Any:
        reference = create_reference_model(job.model, num_shared_layers=3)
        return DPOTrainer(
            model=job.model,
            ref_model=reference,
            args=arguments(DPOConfig, job, max_length=32),
            train_dataset=job.train_data,
            processing_class=tokenizer(),
        )

    return recipe(make, preferences, model=lambda: tiny_llama(num_hidden_layers=4, pad_token_id=3))


def orpo() -> Recipe:
    from trl import ORPOConfig, ORPOTrainer

    def make(job: Job) -> Any:
        return ORPOTrainer(
            model=job.model,
            args=arguments(ORPOConfig, job, max_length=32, max_prompt_length=24),
            train_dataset=job.train_data,
            processing_class=tokenizer(),
        )

    return recipe(make, preferences, accumulation=4, batch_size=1)


def reward() -> Recipe:
    """The reward model is made by its trainer, from the name of a language model."""
    from trl import RewardConfig, RewardTrainer

    folder = tempfile.mkdtemp(prefix="ftcheck-reward-")
    model: Any = llama()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)

    def make(job: Job) -> Any:
        return RewardTrainer(model=folder, args=arguments(RewardConfig, job), train_dataset=job.train_data)

    def pairs() -> Dataset:
        return Dataset.from_dict(
            {
                "chosen": [words(2 + i % 3, 2 * i) for i in range(24)],
                "rejected": [words(2 + i % 2, 5 * i + 1) for i in range(24)],
            }
        )

    return recipe(make, pairs)
