"""Rows for the variety of models: ragged, learnable, and of every form that trainers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..tasks import instruction
from .models import CLASSES, Task

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]


def causal_rows(count: int = 48, seed: int = 1) -> list[Row]:
    """Prompt, completion, end: very different numbers of supervised tokens, some with two and some with ten."""
    return instruction.rows(count, seed)


def paired_rows(count: int = 48, seed: int = 1) -> list[Row]:
    """For encoder-decoders: the prompt as input, the completion as labels."""
    rows = []
    for row in instruction.rows(count, seed):
        split = 1 + instruction.PROMPT
        rows.append({"input_ids": row["input_ids"][:split], "labels": row["labels"][split:]})
    return rows


def classified_rows(count: int = 48, seed: int = 1) -> list[Row]:
    """Token rows whose class is that of their first word."""
    return [
        {"input_ids": row["input_ids"], "labels": row["input_ids"][1] % CLASSES}
        for row in instruction.rows(count, seed)
    ]


def masked_rows(count: int = 48, seed: int = 1) -> list[Row]:
    """For masked language models: every third word hidden behind the unknown word, and to be told."""
    rows = []
    for row in instruction.rows(count, seed):
        ids = row["input_ids"]
        hidden = [0 < i < len(ids) - 1 and i % 3 == 1 for i in range(len(ids))]
        rows.append(
            {
                "input_ids": [3 if h else token for h, token in zip(hidden, ids, strict=True)],
                "labels": [token if h else instruction.IGNORED for h, token in zip(hidden, ids, strict=True)],
            }
        )
    return rows


ROWS: dict[Task, Callable[..., list[Row]]] = {
    "causal": causal_rows,
    "seq2seq": paired_rows,
    "classes": classified_rows,
    "masked": masked_rows,
}


def collate(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Pad on the right; inputs and labels may differ in length, and labels of whole rows are numbers."""
    import torch

    def padded(key: str, value: int) -> Tensor:
        longest = max(len(row[key]) for row in rows)
        return torch.tensor([[*row[key], *[value] * (longest - len(row[key]))] for row in rows])

    ids = padded("input_ids", instruction.PAD)
    sizes = torch.tensor([len(row["input_ids"]) for row in rows])
    mask = (torch.arange(ids.shape[1]) < sizes[:, None]).long()
    whole = isinstance(rows[0]["labels"], int)
    labels = torch.tensor([row["labels"] for row in rows]) if whole else padded("labels", instruction.IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# Texts, for trainers that tokenize by themselves. Words as the tokenizer of the audit knows them.


def conversations(count: int = 12) -> list[Row]:
    """Prompt and completion, each a list of messages, with answers of one to five words."""
    return [
        {
            "prompt": [{"role": "user", "content": f"w{i + 1} w{i + 2}"}],
            "completion": [
                {"role": "assistant", "content": " ".join(f"w{(3 * i + k) % 50}" for k in range(1 + i % 5))}
            ],
        }
        for i in range(count)
    ]


def texts(count: int = 12) -> list[Row]:
    """Prompt and completion as text, with completions of one to five words."""
    return [
        {"prompt": f"w{i + 1} w{i + 2} ", "completion": " ".join(f"w{(3 * i + k) % 50}" for k in range(1 + i % 5))}
        for i in range(count)
    ]


def preferences(count: int = 12) -> list[Row]:
    """Prompt, chosen and rejected as text, of different lengths."""
    return [
        {
            "prompt": " ".join(f"w{(i + k) % 50}" for k in range(2 + i % 4)),
            "chosen": " ".join(f"w{(3 * i + k) % 50}" for k in range(1 + i % 5)),
            "rejected": " ".join(f"w{(7 * i + k) % 50}" for k in range(1 + (i + 2) % 4)),
        }
        for i in range(count)
    ]


def dataset(rows: Sequence[Row]) -> Any:
    """``rows`` as a ``datasets.Dataset``, in memory."""
    from datasets import Dataset

    return Dataset.from_list(list(rows))
